"""Watched data in a local folder."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from orchestrator.adapters.datasets.hashing import CHUNK, Algorithm, hashed, opened, read_into
from orchestrator.adapters.datasets.index import HashIndex
from orchestrator.adapters.datasets.packing import moved, pack
from orchestrator.adapters.datasets.part import Part
from orchestrator.adapters.datasets.scan import Walk, look_at, same_files, unreadable
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetMoved
from orchestrator.domain.manifest import ManifestWriter
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.world import Listing, Snapshot


class FolderDataset:
    """The DatasetSource of local folders.

    Archives are spooled in ``spool`` (None: the system's folder). ``index`` is a folder that remembers what
    was hashed, so that only what changed is read again (None: nothing is remembered).
    """

    def __init__(
        self, spool: Path | None = None, index: Path | None = None, algorithm: Algorithm = Algorithm.SHA256
    ) -> None:
        self._spool = spool
        self._index = index
        self._algorithm = algorithm

    def look(self, dataset: DatasetSpec) -> Listing:
        """List without reading contents; see :class:`Walk` for what counts."""
        return look_at(dataset)

    def snapshot(self, dataset: DatasetSpec, known: Sequence[FileEntry], progress: ProgressSink) -> Snapshot:
        """Hash what changed; DatasetMoved when a file changes meanwhile, or one comes or goes.

        Versions of a dataset are told apart by the kind of hash that its first one has.
        """
        algorithm = Algorithm.SHA256 if known and not known[0].identity else self._algorithm
        done = 0

        def told(size: int) -> None:
            nonlocal done
            done += size
            progress(ProgressEvent(f"hashing dataset {dataset.name}", done, None, "bytes"))

        index = None if self._index is None else HashIndex(self._index / dataset.key, algorithm)
        before = index.known() if index is not None else None
        writer = index.writer() if index is not None else None
        listed_at, walk = time.time_ns(), Walk(dataset)
        manifest, fingerprint = ManifestWriter(), hashlib.sha256()
        try:
            for block, digests in hashed(
                dataset, iter(walk), walk.root, before.digest if before else _unknown, algorithm, told
            ):
                lines: list[str] = []
                for seen, digest in zip(block.files, digests, strict=True):
                    entry = _entry(block.prefix + seen.name, seen.size, digest, algorithm)
                    manifest.add(entry)
                    lines.append(f"{entry.path}\t{entry.size}\t{entry.content}\n")
                fingerprint.update("".join(lines).encode())
                if writer is not None:
                    writer.add(block, digests, listed_at)
            listing = walk.listing()
            if not same_files(look_at(dataset), listing):
                raise DatasetMoved(
                    f"dataset {dataset.name}: files changed while they were read", "it is read again"
                )
            if writer is not None:
                writer.finish()
        finally:
            if before is not None:
                before.close()
            if writer is not None:
                writer.drop()
        return Snapshot(fingerprint.hexdigest(), manifest.manifest(), listing)

    def materialise(
        self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink
    ) -> tuple[FileEntry, ...]:
        """The files are here already; their SHA-256 is found where the version was made by another hash."""
        total, done = sum(entry.size for entry in entries), 0
        buffer = memoryview(bytearray(CHUNK))
        found: list[FileEntry] = []
        for entry in entries:
            if not entry.sha256:
                entry = _with_sha256(dataset, entry, buffer)
                done += entry.size
                progress(ProgressEvent(f"reading dataset {dataset.name}", done, total, "bytes"))
            found.append(entry)
        return tuple(found)

    def archive(self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink) -> BinaryIO:
        """A plain tar of exactly these files and the folders that they need (0555)."""
        return pack(
            dataset,
            entries,
            self._spool,
            lambda entry: opened(dataset, entry.path, _inside(dataset, entry.path)),
            progress,
        )

    def part(self, dataset: DatasetSpec, entry: FileEntry, offset: int, size: int) -> BinaryIO:
        """Bytes of a file."""
        file = opened(dataset, entry.path, _inside(dataset, entry.path))
        if os.fstat(file.fileno()).st_size != entry.size:
            file.close()
            raise moved(dataset, entry.path, "its size differs")
        file.seek(offset)
        return io.BufferedReader(_FilePart(dataset, entry.path, file, size), CHUNK)

    def verify(self, dataset: DatasetSpec, entries: Sequence[FileEntry]) -> None:
        """Hash these files again."""
        for entry in entries:
            digest = hashlib.sha256()
            with _reading(dataset, entry.path, _inside(dataset, entry.path)) as file:
                try:
                    while chunk := file.read(CHUNK):
                        digest.update(chunk)
                except OSError as error:
                    raise unreadable(dataset, error) from error
            if digest.hexdigest() != entry.sha256:
                raise moved(dataset, entry.path, "its content differs")


def _unknown(path: str, seen: object) -> None:
    return None


def _entry(path: str, size: int, digest: bytes, algorithm: Algorithm) -> FileEntry:
    if algorithm is Algorithm.SHA256:
        return FileEntry(path, size, digest.hex())
    return FileEntry(path, size, "", f"{algorithm.value}:{digest.hex()}")


def _with_sha256(dataset: DatasetSpec, entry: FileEntry, buffer: memoryview) -> FileEntry:
    kind, _, expected = entry.identity.partition(":")
    plain, named = hashlib.sha256(), Algorithm(kind).new()
    with opened(dataset, entry.path, _inside(dataset, entry.path), buffering=0) as file:
        if os.fstat(file.fileno()).st_size != entry.size:
            raise moved(dataset, entry.path, "its size differs")
        read_into(dataset, file, buffer, entry.size, plain, named)
    if named.digest().hex() != expected:
        raise moved(dataset, entry.path, "its content differs")
    return FileEntry(entry.path, entry.size, plain.hexdigest(), entry.identity)


class _FilePart(Part):
    """Of a file of a folder, which may change while it is read."""

    def __init__(self, dataset: DatasetSpec, path: str, file: BinaryIO, size: int) -> None:
        super().__init__(file, size)
        self._dataset, self._path = dataset, path

    def take(self, wanted: int) -> bytes:
        try:
            data = super().take(wanted)
        except OSError as error:
            raise unreadable(self._dataset, error) from error
        if not data:
            raise moved(self._dataset, self._path, "it is shorter")
        return data


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
    with opened(dataset, path, real) as file:
        yield file
