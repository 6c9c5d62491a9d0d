"""Watched data that lie elsewhere: listed there, told apart by what their place says, fetched when needed."""

from __future__ import annotations

import hashlib
import io
import logging
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final
from unicodedata import category

from orchestrator.adapters.datasets.bounds import Bounds
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.packing import moved, pack
from orchestrator.adapters.datasets.part import Part
from orchestrator.adapters.datasets.place import Place, RemoteFile
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetMoved, DatasetRefused, DatasetUnavailable
from orchestrator.domain.globs import matcher
from orchestrator.domain.manifest import ManifestWriter, manifest_of
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from orchestrator.domain.text import escaped
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.world import Listing, Snapshot

log = logging.getLogger(__name__)

_THREADS: Final = 4
_BATCH: Final = 64
_VAIN: Final = 4
"""So many failures in a row, none of which brought a byte, end the fetching of a file."""
_PAUSE: Final = 0.5
"""Seconds before the second try; twice as many before each further one."""
_CHUNK: Final = 1 << 20
_NO_PATH: Final = re.compile(r"(^|/)(\.\.?)?(/|$)")
_READ: Final = (DatasetKind.HTTP, DatasetKind.SQL)
"""Kinds whose hashes are of contents that came, and so name these in the cache. The hash that a server tells
of a file that it need not have would open what others fetched.
"""
_SUMS: Final = ("sha256", "md5", "old", "blob")


class RemoteDataset:
    """The DatasetSource of one kind of place. Fetched files are kept in ``cache``, archives lie in ``spool``
    (None: the system's folder for such).
    """

    def __init__(
        self,
        place: Place,
        cache: Cache,
        spool: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._place = place
        self._cache = cache
        self._spool = spool
        self._sleep = sleep

    def look(self, dataset: DatasetSpec) -> Listing:
        """List; contents are read only where nothing else tells files apart."""
        return self._listed(dataset)[1]

    def snapshot(self, dataset: DatasetSpec, known: Sequence[FileEntry], progress: ProgressSink) -> Snapshot:
        """The manifest, by what the place says of each file. Nothing is fetched."""
        entries, listing = self._listed(dataset)
        if not listing.whole:
            raise DatasetUnavailable(
                f"dataset {dataset.name}: its marker {dataset.marker} says that it is being written",
                "let whoever writes it put the marker there last",
            )
        return Snapshot(fingerprint_of(entries), manifest_of(entries), listing)

    def materialise(
        self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink
    ) -> Sequence[FileEntry]:
        """Fetch what is not in the cache."""
        lacking = sum(entry.size for entry in entries if self._cache.find(_key(dataset, entry)) is None)
        if lacking:
            self._cache.make_room(lacking, (_key(dataset, entry) for entry in entries))
        told = _Told(dataset, lacking, progress)
        writer = ManifestWriter()

        def have(entry: FileEntry) -> FileEntry:
            sha256 = self._cache.find(_key(dataset, entry)) or self._fetched(dataset, entry, told)
            return replace(entry, sha256=sha256)

        with ThreadPoolExecutor(_THREADS, "fetch") as pool:
            # In batches: after a failure few more are begun, and of a million files few wait in memory.
            for begin in range(0, len(entries), _BATCH):
                for found in pool.map(have, entries[begin : begin + _BATCH]):
                    writer.add(found)
        return writer.manifest()

    def archive(self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink) -> BinaryIO:
        """A plain tar of exactly these files. What the disk damaged is fetched anew."""

        def packed() -> BinaryIO:
            return pack(dataset, entries, self._spool, lambda entry: self._open(dataset, entry), progress)

        try:
            return packed()
        except DatasetMoved:
            self.verify(dataset, entries)
            return packed()

    def part(self, dataset: DatasetSpec, entry: FileEntry, offset: int, size: int) -> BinaryIO:
        """Bytes of a file."""
        file = self._open(dataset, entry)
        file.seek(offset)
        return io.BufferedReader(Part(file, size), _CHUNK)

    def verify(self, dataset: DatasetSpec, entries: Sequence[FileEntry]) -> None:
        """Hash these files again. What the disk damaged is fetched anew."""
        for entry in entries:
            if self._hash(dataset, entry) != entry.sha256:
                log.warning("dataset %s: %s is damaged in the cache", dataset.name, escaped(entry.path))
                self._cache.drop(_key(dataset, entry))
                if self._hash(dataset, entry) != entry.sha256:
                    raise moved(dataset, entry.path, "its content differs")

    def _listed(self, dataset: DatasetSpec) -> tuple[list[FileEntry], Listing]:
        found: list[FileEntry] = []
        newest = marked = None
        marker_is_there = False
        included, excluded = matcher(dataset.include), matcher(dataset.exclude)

        def keep(path: str, content: Iterable[bytes]) -> RemoteFile:
            sha256, size = self._cache.keep(content, secrets.token_hex(16))
            return RemoteFile(path, size, f"sha256:{sha256}")

        for file in Bounds(dataset).files(self._place.files(dataset, keep)):
            if dataset.marker and file.path == dataset.marker:
                marker_is_there, marked = True, file.modified
            elif included(file.path) and not excluded(file.path):
                found.append(_entry(file))
                if file.modified is not None and (newest is None or file.modified > newest):
                    newest = file.modified
        found.sort(key=lambda entry: entry.path)
        _must_be_laid_out(dataset, found)
        older = newest is not None and marked is not None and marked < newest
        digest = hashlib.sha256()
        for entry in found:
            digest.update(f"{entry.path}\0{entry.size}\0{entry.identity}\n".encode())
        size = sum(entry.size for entry in found)
        whole = not dataset.marker or (marker_is_there and not older)
        return found, Listing(digest.hexdigest(), len(found), size, newest, whole)

    def _fetched(self, dataset: DatasetSpec, entry: FileEntry, told: _Told) -> str:
        """Have one file in the cache; its SHA-256. What breaks off is continued."""
        vain = 0

        def opened(offset: int) -> AbstractContextManager[Iterator[bytes]]:
            return self._place.open(dataset, entry, offset)

        while True:
            before = told.there(entry.path)
            try:
                found = self._cache.fetch(
                    _key(dataset, entry), entry.size, _sums(entry), opened, told.of(entry.path)
                )
            except DatasetRefused:
                raise
            except DatasetUnavailable as error:
                vain = vain + 1 if told.there(entry.path) <= before else 0
                if vain >= _VAIN:
                    raise
                log.info("dataset %s: %s; trying again", dataset.name, error)
                self._sleep(_PAUSE * 2**vain * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            except DatasetMoved as error:
                if error.message.startswith(f"dataset {dataset.name}"):
                    raise
                raise moved(dataset, entry.path, error.message) from error
            else:
                told.over(entry.path)
                return found

    def _open(self, dataset: DatasetSpec, entry: FileEntry) -> BinaryIO:
        file = self._cache.open(_key(dataset, entry))
        if file is None:
            # It was removed to make room since it was fetched.
            self._fetched(dataset, entry, _Told(dataset, entry.size, _unheard))
            file = self._cache.open(_key(dataset, entry))
        if file is None:
            raise DatasetUnavailable(
                f"dataset {dataset.name}: {escaped(entry.path)} was removed from the cache while it was read",
                "raise storage.data_cache: what is used at the same time does not fit",
            )
        return file

    def _hash(self, dataset: DatasetSpec, entry: FileEntry) -> str:
        digest = hashlib.sha256()
        with self._open(dataset, entry) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()


class _Told:
    """How far several fetches are, for a person. Thread-safe."""

    def __init__(self, dataset: DatasetSpec, total: int, progress: ProgressSink) -> None:
        self._what = f"fetching dataset {dataset.name}"
        self._total = total
        self._progress = progress
        self._lock = threading.Lock()
        self._there: dict[str, int] = {}
        self._done = 0

    def there(self, path: str) -> int:
        """How many bytes of a file are there."""
        return self._there.get(path, 0)

    def over(self, path: str) -> None:
        """A file is there."""
        with self._lock:
            self._there.pop(path, None)

    def of(self, path: str) -> Callable[[int], None]:
        """What hears how many bytes of a file are there."""

        def told(there: int) -> None:
            with self._lock:
                self._done += there - self._there.get(path, 0)
                self._there[path] = there
                self._progress(ProgressEvent(self._what, self._done, self._total, "bytes"))

        return told


def fingerprint_of(entries: Sequence[FileEntry]) -> str:
    """SHA-256 over the lines ``path<TAB>size<TAB>content``, sorted by path."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda e: e.path):
        digest.update(f"{entry.path}\t{entry.size}\t{entry.content}\n".encode())
    return digest.hexdigest()


def _entry(file: RemoteFile) -> FileEntry:
    known = file.identity.removeprefix("sha256:") if file.identity.startswith("sha256:") else ""
    return FileEntry(file.path, file.size, known, file.identity)


def _key(dataset: DatasetSpec, entry: FileEntry) -> str:
    """What names a file's content in the cache."""
    if dataset.kind in _READ and entry.identity.startswith("sha256:"):
        return entry.identity.removeprefix("sha256:")
    where = (dataset.kind, dataset.path, *(part for option in dataset.options for part in option))
    text = "\0".join((*where, entry.path, str(entry.size), entry.identity))
    return hashlib.sha256(text.encode()).hexdigest()


def _sums(entry: FileEntry) -> list[tuple[str, str]]:
    name, _, value = entry.identity.partition(":")
    sums = [(name, value)] if name in _SUMS else []
    return sums + ([("sha256", entry.sha256)] if entry.sha256 and name != "sha256" else [])


def _must_be_laid_out(dataset: DatasetSpec, entries: Sequence[FileEntry]) -> None:
    """Refuse names that could not be files below one folder; also when there is no file at all."""
    if not entries:
        but = f" and not {', '.join(dataset.exclude)}" if dataset.exclude else ""
        raise DatasetUnavailable(
            f"dataset {dataset.name}: no file in {dataset.path} counts",
            f"expected files that match {', '.join(dataset.include)}{but}",
        )
    folders = {entry.path.rpartition("/")[0] for entry in entries}
    folders |= {parent for folder in folders for parent in _parents(folder)}
    before = ""
    for entry in entries:
        path, why = entry.path, ""
        if path in folders:
            why = "a folder has the same name"
        elif path == before:
            why = "its name is there twice"
        elif not path.isprintable() and any(category(c) in ("Cc", "Cs", "Zl", "Zp") for c in path):
            why = "its name has control characters or is not UTF-8"
        elif _NO_PATH.search(path):
            why = "its name is no path below a folder"
        if why:
            raise DatasetUnavailable(
                f"dataset {dataset.name}: {escaped(path)} cannot be used: {why}", "rename or exclude it"
            )
        before = path


def _parents(folder: str) -> Iterator[str]:
    while "/" in folder:
        folder = folder.rpartition("/")[0]
        yield folder


def _unheard(event: ProgressEvent) -> None:
    """Nobody listens."""
