"""How much a listing may be: a server that always has one more page, or one more folder, would never end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from orchestrator.domain.errors import DatasetUnavailable
from orchestrator.domain.pipeline import DatasetSpec

_T = TypeVar("_T")

FILES: Final = 2_000_000
PAGES: Final = 20_000
DEPTH: Final = 200
"""Folders in one another."""
SECONDS: Final = 1800.0


class Bounds:
    """What one listing may still take. DatasetUnavailable when it takes more."""

    def __init__(self, dataset: DatasetSpec) -> None:
        self._dataset = dataset
        self._until = time.monotonic() + SECONDS
        self._files = 0
        self._pages = 0
        self._seen: set[str] = set()

    def page(self, token: str = "") -> None:
        """There is one more page. ``token`` is what the server calls it, if anything."""
        self._pages += 1
        if self._pages > PAGES:
            raise self._endless(f"it has more than {PAGES} pages")
        if token and token in self._seen:
            raise self._endless("its pages go in a circle")
        self._seen.add(token)
        self._in_time()

    def folder(self, depth: int) -> None:
        """There is a folder within so many others."""
        if depth > DEPTH:
            raise self._endless(f"more than {DEPTH} folders are in one another")
        self._in_time()

    def files(self, files: Iterable[_T]) -> Iterator[_T]:
        """The same files, as long as they are not too many."""
        for file in files:
            self._files += 1
            if self._files > FILES:
                raise self._endless(f"it has more than {FILES} files")
            self._in_time()
            yield file

    def _in_time(self) -> None:
        if time.monotonic() > self._until:
            raise self._endless(f"it takes longer than {SECONDS:g} s")

    def _endless(self, why: str) -> DatasetUnavailable:
        return DatasetUnavailable(
            f"dataset {self._dataset.name}: the listing of {self._dataset.path} was given up: {why}",
            "split the data over several datasets",
        )
