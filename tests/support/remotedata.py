"""What tests of remote data look at again and again."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence

from orchestrator.domain.change import FileEntry
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.ports.progress import ProgressEvent
from orchestrator.ports.world import DatasetSource


def quiet(event: ProgressEvent) -> None:
    """Nobody listens."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def contents(source: DatasetSource, dataset: DatasetSpec, entries: Sequence[FileEntry]) -> dict[str, bytes]:
    """What a run would get: fetched, packed, and unpacked again."""
    with (
        source.archive(dataset, source.materialise(dataset, entries, quiet), quiet) as packed,
        tarfile.open(fileobj=packed) as archive,
    ):
        found = {}
        for member in archive:
            if member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
        return found


def fetched(source: DatasetSource, dataset: DatasetSpec) -> dict[str, bytes]:
    """What a run of what is there now would get."""
    return contents(source, dataset, source.snapshot(dataset, (), quiet).entries)
