"""What the tables in the data look like: rows and columns of CSV and Parquet files, seen with a new version.

It tells people what changed, and decides nothing: what cannot be read is said, and the version stands.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, Final

from orchestrator.domain.change import DatasetVersion, FileEntry
from orchestrator.domain.errors import DatasetError
from orchestrator.domain.parquet import TAIL, footer_size, table_of
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from orchestrator.domain.separated import HEAD, columns_of, rows_of
from orchestrator.domain.tabular import TableFacts
from orchestrator.ports.store import Store
from orchestrator.ports.world import DatasetSource

log = logging.getLogger(__name__)

TABLES: Final = 100
"""So many tables of a version are looked at, in the order of their paths."""
COUNTED: Final = 2 << 30
"""Bytes of separated values in which rows are counted, all files of a version together."""
_FOOTER: Final = 64 << 20
_CHUNK: Final = 1 << 20
_SEPARATED: Final = frozenset({".csv", ".tsv"})
_PARQUET: Final = frozenset({".parquet", ".pq"})
_HERE: Final = frozenset({DatasetKind.FOLDER, DatasetKind.SQL})
"""Kinds whose files are here when they are seen, so that looking into them fetches nothing."""


class Tables:
    """Looks at the tables of versions. Thread-safe."""

    def __init__(self, store: Store, datasets: DatasetSource) -> None:
        self._store = store
        self._datasets = datasets
        self._lock = threading.Lock()
        self._seen: dict[str, str] = {}
        """The version of each dataset that was looked into last, or is at this moment."""

    def look_into(self, dataset: DatasetSpec, version: DatasetVersion) -> None:
        """Look at the tables of a dataset's newest version, unless it was done, and store what they are like.

        They are read from their beginning to their end: for nobody who holds a lock, or waits for a run.
        """
        with self._lock:
            if dataset.kind not in _HERE or self._seen.get(dataset.key) == version.fingerprint:
                return
            before = self._seen.get(dataset.key)
            self._seen[dataset.key] = version.fingerprint
        try:
            self._record(dataset, version, before or self._former(dataset, version))
        except BaseException:
            with self._lock:
                self._seen.pop(dataset.key, None)
            raise

    def _former(self, dataset: DatasetSpec, version: DatasetVersion) -> str | None:
        older = [v for v in self._store.detection.versions(dataset, 2) if v.number < version.number]
        return older[-1].fingerprint if older else None

    def _record(self, dataset: DatasetSpec, version: DatasetVersion, former: str | None) -> None:
        """Of tables that were the same in the version with the fingerprint ``former`` it is known already."""
        if self._store.detection.tables(dataset, version.fingerprint):
            return
        known = self._store.detection.tables(dataset, former) if former else {}
        entries = self._store.detection.manifest(dataset, version.fingerprint)
        found: dict[str, TableFacts] = {}
        left = COUNTED
        for entry in _tables(entries):
            if len(found) == TABLES:
                break
            before = known.get(entry.path)
            if before is not None and before.content == entry.content and not before.problem:
                found[entry.path] = before
                continue
            count = entry.size <= left
            left -= entry.size if count else 0
            try:
                found[entry.path] = self._look(dataset, entry, count)
            except DatasetError as error:
                log.info("%s: %s was not looked into: %s", version.label, entry.path, error)
                found[entry.path] = TableFacts(
                    entry.content, problem=f"it could not be read: {error.message}"
                )
        if found:
            self._store.detection.record_tables(dataset, version.fingerprint, found)

    def _look(self, dataset: DatasetSpec, entry: FileEntry, count: bool) -> TableFacts:
        try:
            if PurePosixPath(entry.path).suffix.lower() in _PARQUET:
                return self._parquet(dataset, entry)
            return self._separated(dataset, entry, count)
        except ValueError as error:
            return TableFacts(entry.content, problem=str(error))

    def _separated(self, dataset: DatasetSpec, entry: FileEntry, count: bool) -> TableFacts:
        head = self._bytes(dataset, entry, 0, min(HEAD, entry.size))
        columns = columns_of(head, entry.size <= HEAD, entry.path)
        if not count:
            return TableFacts(entry.content, None, columns)
        with self._datasets.part(dataset, entry, 0, entry.size) as file:
            return TableFacts(entry.content, rows_of(_chunks(file)), columns)

    def _parquet(self, dataset: DatasetSpec, entry: FileEntry) -> TableFacts:
        if entry.size <= TAIL:
            raise ValueError("it is no Parquet file")
        length = footer_size(self._bytes(dataset, entry, entry.size - TAIL, TAIL), entry.size)
        if length > _FOOTER:
            raise ValueError("its end is too large to be read")
        rows, columns = table_of(self._bytes(dataset, entry, entry.size - TAIL - length, length))
        return TableFacts(entry.content, rows, columns)

    def _bytes(self, dataset: DatasetSpec, entry: FileEntry, offset: int, size: int) -> bytes:
        with self._datasets.part(dataset, entry, offset, size) as file:
            return b"".join(_chunks(file))


def _tables(entries: Iterable[FileEntry]) -> Iterator[FileEntry]:
    kinds = _SEPARATED | _PARQUET
    return (entry for entry in entries if PurePosixPath(entry.path).suffix.lower() in kinds)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk
