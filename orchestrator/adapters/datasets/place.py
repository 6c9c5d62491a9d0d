"""What a kind of place has to know so that data that lie there are watched and fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestrator.domain.change import FileEntry
from orchestrator.domain.pipeline import DatasetSpec


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its place tells of it.

    ``path`` is relative to the dataset, with ``/``; ``size`` in bytes. ``identity`` differs when the content
    does: ``etag:"5d41"``, ``generation:17``, ``md5:5d41``. ``modified`` is None where nobody knows.
    """

    path: str
    size: int
    identity: str
    modified: datetime | None = None


Keep = Callable[[str, Iterable[bytes]], RemoteFile]
"""Puts content into the cache, for what only its content tells apart: path and bytes to the file that it is,
whose identity is ``sha256:…``.
"""


class Place(Protocol):
    """One kind of place where data lie. Thread-safe.

    Raises DatasetUnavailable when it cannot be found out, DatasetRefused when a person has to act first.
    """

    def files(self, dataset: DatasetSpec, keep: Keep) -> Iterable[RemoteFile]:
        """All files; which of them count is not asked here. Contents are read only where nothing else tells
        them apart, and are given to ``keep`` then.
        """

    def open(
        self, dataset: DatasetSpec, entry: FileEntry, offset: int
    ) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of exactly the file that ``entry.identity`` names, from ``offset`` on.

        DatasetMoved when that file cannot be had any more; never the bytes of another one.
        """
