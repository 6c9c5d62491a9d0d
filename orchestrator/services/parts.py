"""Files cut into parts, and the tars in which these travel."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Final, cast

from orchestrator.domain.change import FileEntry
from orchestrator.services import naming

PART: Final = 64 << 20
"""Bytes of one part: what a broken link costs at most, and what lies on our disk at a time."""
_FILES = 2000
"""Files of one part at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a large file. ``path`` is where it lies in the volume until the file is put together."""

    entry: FileEntry
    offset: int
    size: int

    @property
    def path(self) -> str:
        """Its name there."""
        return f"parts/{naming.part_key(self.entry)}/{self.offset}"

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that it and the file need."""
        own = [f"parts/{naming.part_key(self.entry)}", "parts"]
        needed = [str(parent) for parent in PurePosixPath("files", self.entry.path).parents]
        return tuple(sorted({*own, *needed} - {"."}))


def small_batches(entries: Iterable[FileEntry], part: int) -> Iterator[Sequence[FileEntry]]:
    """The files of at most ``part`` bytes, in order, so many at a time that they are one part together."""
    batch: list[FileEntry] = []
    size = 0
    for entry in entries:
        if entry.size > part:
            continue
        if batch and (size + entry.size > part or len(batch) == _FILES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch


def parts_of(entries: Iterable[FileEntry], part: int) -> Iterator[Part]:
    """The larger files, cut."""
    for entry in entries:
        if entry.size > part:
            for offset in range(0, entry.size, part):
                yield Part(entry, offset, min(part, entry.size - offset))


class _Counted(io.RawIOBase):
    def __init__(self, stream: BinaryIO, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._stream, self._tell, self._read = stream, tell, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._read += len(data)
        self._tell(self._read)
        return data


def counted(stream: BinaryIO, tell: Callable[[int], None]) -> BinaryIO:
    """A stream that tells how many of its bytes were read so far."""
    return cast("BinaryIO", _Counted(stream, tell))


class _PartTar(io.RawIOBase):
    def __init__(self, head: bytes, content: BinaryIO, tail: bytes) -> None:
        super().__init__()
        self._sources = [io.BytesIO(head), content, io.BytesIO(tail)]

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while self._sources:
            data = self._sources[0].read(size)
            if data:
                return data
            self._sources.pop(0)
        return b""


def part_tar(
    folders: Iterable[str], path: str = "", size: int = 0, content: BinaryIO | None = None
) -> BinaryIO:
    """A tar of folders (0755) and, with a ``path``, one file (0600) of ``size`` bytes; all are root's."""
    head = bytearray()
    for folder in folders:
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        head += entry.tobuf(tarfile.GNU_FORMAT)
    if path:
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = size, 0o600
        head += entry.tobuf(tarfile.GNU_FORMAT)
    tail = bytes(-size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
    return cast("BinaryIO", _PartTar(bytes(head), content or io.BytesIO(), tail))
