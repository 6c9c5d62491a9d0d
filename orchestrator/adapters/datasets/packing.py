"""Packing files of a dataset into a tar, each proven to be what its entry says."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from orchestrator.adapters.datasets.scan import unreadable
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetMoved, DatasetUnavailable, DiskFull
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.space import NO_ROOM
from orchestrator.domain.text import escaped
from orchestrator.ports.progress import ProgressEvent, ProgressSink


def pack(
    dataset: DatasetSpec,
    entries: Sequence[FileEntry],
    spool: Path | None,
    opened: Callable[[FileEntry], BinaryIO],
    progress: ProgressSink,
) -> BinaryIO:
    """A plain tar of exactly these files (0444) and the folders that they need (0555), which deletes itself
    on close. It lies in ``spool`` (None: the system's folder for such).

    Raises what ``opened`` raises, DatasetMoved when a file is not what its entry says, DiskFull.
    """
    total = sum(entry.size for entry in entries)
    out = cast("BinaryIO", tempfile.TemporaryFile(dir=spool))  # noqa: SIM115 - the caller closes it
    try:
        done = 0
        with (
            _spooling(dataset, spool, total),
            tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT) as archive,
        ):
            for folder in _folders(entries):
                archive.addfile(_header(folder, tarfile.DIRTYPE, 0o555))
            for entry in sorted(entries, key=lambda e: e.path):
                _add(dataset, entry, opened, archive)
                done += entry.size
                progress(ProgressEvent(f"packing dataset {dataset.name}", done, total, "bytes"))
        out.seek(0)
    except BaseException:
        out.close()
        raise
    return out


def moved(dataset: DatasetSpec, path: str, how: str) -> DatasetMoved:
    """A file is no longer what its entry says; ``how`` completes the sentence."""
    return DatasetMoved(
        f"dataset {dataset.name}: {escaped(path)} is not what it was: {how}",
        "the version as it was cannot be had any more",
    )


class _Verified(io.RawIOBase):
    """Hashes what is read of a file, and turns what the system says into our errors."""

    def __init__(self, dataset: DatasetSpec, path: str, file: BinaryIO) -> None:
        super().__init__()
        self._dataset, self._path, self._file = dataset, path, file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            raise unreadable(self._dataset, error) from error
        if not data and size:
            raise moved(self._dataset, self._path, "it is shorter")
        self.digest.update(data)
        return data


def _add(
    dataset: DatasetSpec,
    entry: FileEntry,
    opened: Callable[[FileEntry], BinaryIO],
    archive: tarfile.TarFile,
) -> None:
    header = _header(entry.path, tarfile.REGTYPE, 0o444)
    header.size = entry.size
    with opened(entry) as file:
        content = _Verified(dataset, entry.path, file)
        if os.fstat(file.fileno()).st_size != entry.size:
            raise moved(dataset, entry.path, "its size differs")
        archive.addfile(header, cast("BinaryIO", content))
        if content.digest.hexdigest() != entry.sha256:
            raise moved(dataset, entry.path, "its content differs")


@contextmanager
def _spooling(dataset: DatasetSpec, spool: Path | None, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            place = spool or tempfile.gettempdir()
            raise DiskFull(
                f"dataset {dataset.name}: its {size} bytes cannot be packed in {place}: {error.strerror}",
                "free space there: on its way to a host the whole dataset lies there for a moment",
            ) from error
        raise DatasetUnavailable(
            f"dataset {dataset.name}: cannot be packed: {error.strerror or error}",
            "the folder for temporary files needs room for the whole dataset",
        ) from error


def _folders(entries: Sequence[FileEntry]) -> list[str]:
    parents = {str(parent) for entry in entries for parent in PurePosixPath(entry.path).parents}
    return sorted(parents - {"."})


def _header(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.mode = kind, mode
    return header
