"""Watched data in a local folder."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from orchestrator.adapters.datasets.packing import moved, pack
from orchestrator.adapters.datasets.scan import Seen, fingerprint_of, listing_of, scan, unreadable
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetMoved
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.world import Listing, Snapshot

_CHUNK = 1 << 20
_THREADS = min(4, os.cpu_count() or 1)


class FolderDataset:
    """The DatasetSource of local folders. Archives are spooled in ``spool`` (None: the system's folder)."""

    def __init__(self, spool: Path | None = None) -> None:
        self._spool = spool

    def look(self, dataset: DatasetSpec) -> Listing:
        """List without reading contents; see :func:`scan` for what counts."""
        return listing_of(scan(dataset))

    def snapshot(self, dataset: DatasetSpec, known: Sequence[FileEntry], progress: ProgressSink) -> Snapshot:
        """Hash the contents; DatasetMoved when a file changes meanwhile, or one comes or goes."""
        files = scan(dataset)
        listing = listing_of(files)
        entries: list[FileEntry] = []
        done = 0
        for entry in _in_threads(lambda seen: _hash(dataset, seen), files):
            entries.append(entry)
            done += entry.size
            progress(ProgressEvent(f"hashing dataset {dataset.name}", done, listing.size, "bytes"))
        if listing_of(scan(dataset)).signature != listing.signature:
            raise DatasetMoved(
                f"dataset {dataset.name}: files changed while they were read", "it is read again"
            )
        return Snapshot(fingerprint_of(entries), tuple(entries), listing)

    def materialise(
        self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink
    ) -> tuple[FileEntry, ...]:
        """The files are here already."""
        return tuple(entries)

    def archive(self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink) -> BinaryIO:
        """A plain tar of exactly these files and the folders that they need (0555)."""
        return pack(
            dataset,
            entries,
            self._spool,
            lambda entry: _open(dataset, entry.path, _inside(dataset, entry.path)),
            progress,
        )

    def part(self, dataset: DatasetSpec, entry: FileEntry, offset: int, size: int) -> BinaryIO:
        """Bytes of a file."""
        file = _open(dataset, entry.path, _inside(dataset, entry.path))
        if os.fstat(file.fileno()).st_size != entry.size:
            file.close()
            raise moved(dataset, entry.path, "its size differs")
        file.seek(offset)
        return io.BufferedReader(_Part(dataset, entry.path, file, size), _CHUNK)

    def verify(self, dataset: DatasetSpec, entries: Sequence[FileEntry]) -> None:
        """Hash these files again."""
        for entry in entries:
            digest = hashlib.sha256()
            with _reading(dataset, entry.path, _inside(dataset, entry.path)) as file:
                try:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
                except OSError as error:
                    raise unreadable(dataset, error) from error
            if digest.hexdigest() != entry.sha256:
                raise moved(dataset, entry.path, "its content differs")


def _in_threads(work: Callable[[Seen], FileEntry], files: Sequence[Seen]) -> Iterator[FileEntry]:
    """The results in order. After a failure no further file is begun."""
    given_up = threading.Event()

    def unless_given_up(seen: Seen) -> FileEntry | None:
        return None if given_up.is_set() else work(seen)

    with ThreadPoolExecutor(_THREADS, "hash") as pool:
        try:
            for entry in pool.map(unless_given_up, files):
                if entry is not None:
                    yield entry
        finally:
            given_up.set()


def _hash(dataset: DatasetSpec, seen: Seen) -> FileEntry:
    digest = hashlib.sha256()
    with _reading(dataset, seen.path, seen.real) as file:
        if seen.unchanged(os.fstat(file.fileno())):
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        if not seen.unchanged(os.fstat(file.fileno())):
            raise moved(dataset, seen.path, "it changed while it was read")
    return FileEntry(seen.path, seen.size, digest.hexdigest())


class _Part(io.RawIOBase):
    """So many bytes of an open file, which it closes."""

    def __init__(self, dataset: DatasetSpec, path: str, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._dataset, self._path, self._file, self._left = dataset, path, file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub names a private protocol
        wanted = min(len(buffer), self._left)
        try:
            data = self._file.read(wanted) if wanted else b""
        except OSError as error:
            raise unreadable(self._dataset, error) from error
        if not data and wanted:
            raise moved(self._dataset, self._path, "it is shorter")
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _inside(dataset: DatasetSpec, path: str) -> str:
    """Where a file's bytes lie; DatasetMoved when it is a link that leaves the folder by now."""
    root = os.path.realpath(dataset.path)
    real = os.path.realpath(Path(root, path))
    if os.path.commonpath((root, real)) != root:
        raise moved(dataset, path, "it leaves the folder")
    return real


@contextmanager
def _reading(dataset: DatasetSpec, path: str, real: str) -> Iterator[BinaryIO]:
    """A file that was listed, for as long as the block lasts."""
    with _open(dataset, path, real) as file:
        yield file


def _open(dataset: DatasetSpec, path: str, real: str) -> BinaryIO:
    """Open a file that was listed; one that is gone, or has become something else, has moved."""
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise moved(dataset, path, "it is gone") from None
    except OSError as error:
        raise unreadable(dataset, error) from error
    return os.fdopen(descriptor, "rb")
