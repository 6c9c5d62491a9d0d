"""Where on this machine data lie, and whether that is a place whose content no run may get."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from orchestrator.config.models.dataset import Dataset, DvcDataset, FolderDataset, SqlDataset, systems_own
from orchestrator.config.problems import Problem
from orchestrator.config.yaml_loader import Document

_SQLITE: Final = re.compile(r"sqlite(?:\+\w+)?:///(/[^?]*)")


def check_data_places(document: Document, datasets: Mapping[str, Dataset], state: Path) -> Iterator[Problem]:
    """The orchestrator's own state must not become a run's input, nor what belongs to the system; also not
    through a link.
    """
    state = Path(os.path.realpath(state))
    for name, dataset in datasets.items():
        for key, place in _places(dataset):
            where = ("datasets", name, key)
            real = Path(os.path.realpath(place))
            if real.is_relative_to(state) or state.is_relative_to(real):
                message = f"{place} holds the orchestrator's own state, or lies in it ({state})"
                yield document.problem(where, message, "a folder apart from storage.path")
            elif (found := systems_own(place)) is not None and not isinstance(dataset, FolderDataset):
                message = f"{found} belongs to the system, and its content would be given to every run"
                yield document.problem(where, message, "a place that holds nothing but data")


def _places(dataset: Dataset) -> Iterator[tuple[str, Path]]:
    """The folders and files of this machine that a dataset is read from, with the key that names each.

    Of a database only what is written in the file is known here.
    """
    match dataset:
        case FolderDataset():
            yield "path", dataset.path
        case DvcDataset():
            for key, place in (("repository", dataset.repository), ("remote", dataset.remote)):
                if place is not None and place.startswith("/"):
                    yield key, Path(place)
        case SqlDataset() if dataset.sql.is_literal:
            if found := _SQLITE.fullmatch("".join(str(part) for part in dataset.sql.parts)):
                yield "sql", Path(found[1])
