"""What is known of files that were hashed before, so that only those that changed are read again.

A file beside the state, in the order of the paths, read and written a block at a time. It may be lost: then
all is hashed once more.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple

from orchestrator.adapters.datasets.scan import SETTLED_NS, Block, Seen

DIGEST: Final = 32
_MAGIC: Final = b"mlci-index-1\n"
_HEAD: Final = struct.Struct("<III")
"""Files in a block, bytes of their paths, checksum of what follows."""
_STATS: Final = 4
_BLOCK: Final = 4096


class Known(NamedTuple):
    """A file that was hashed: its path, what it looked like then, and its hash."""

    path: str
    stats: tuple[int, ...]
    digest: bytes


class HashIndex:
    """One dataset's file of hashes, made by one ``algorithm``."""

    def __init__(self, path: Path, algorithm: str) -> None:
        self._path = path
        self._magic = _MAGIC + algorithm.encode() + b"\n"

    def known(self) -> KnownHashes:
        """What was known when it was written last; nothing when there is no such file of this kind."""
        return KnownHashes(self._read())

    def writer(self) -> IndexWriter:
        """Begin a new one, which takes the old one's place once it is complete."""
        return IndexWriter(self._path, self._magic)

    def _read(self) -> Iterator[Known]:
        with suppress(OSError), self._path.open("rb") as file:
            if file.read(len(self._magic)) != self._magic:
                return
            while (block := _block(file)) is not None:
                yield from block


class KnownHashes:
    """Answers for paths that are asked for in their order."""

    def __init__(self, records: Iterator[Known]) -> None:
        self._records = records
        self._next = next(records, None)

    def digest(self, path: str, seen: Seen) -> bytes | None:
        """The hash of a file, when it still looks as it did when it was hashed."""
        known = self._next
        while known is not None and known.path < path:
            known = next(self._records, None)
        self._next = known
        return known.digest if known is not None and (known.path, known.stats) == (path, seen[1:5]) else None

    def close(self) -> None:
        """Close the file. What is asked afterwards is not known."""
        self._next = None
        close = getattr(self._records, "close", None)
        if close is not None:
            close()


class IndexWriter:
    """Writes what is known by now. What cannot be written is not known next time, and nothing else."""

    def __init__(self, path: Path, magic: bytes) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.{id(self):x}.part")
        self._file: IO[bytes] | None = None
        self._paths: list[str] = []
        self._stats = array("q")
        self._digests = bytearray()
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.fdopen(
                os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb"
            )
            self._file.write(magic)

    def add(self, block: Block, digests: list[bytes], listed_at_ns: int) -> None:
        """Files that were hashed after they had been listed at that time.

        Those that had changed just before are left out: they may have changed once more at the same time.
        """
        for seen, digest in zip(block.files, digests, strict=True):
            if listed_at_ns - max(seen.mtime_ns, seen.ctime_ns) < SETTLED_NS:
                continue
            self._paths.append(block.prefix + seen.name)
            self._stats.extend(seen[1:5])
            self._digests += digest
        if len(self._paths) >= _BLOCK:
            self._flush()

    def finish(self) -> None:
        """Put it in the old one's place."""
        self._flush()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
                self._part.replace(self._path)
            self._file = None

    def drop(self) -> None:
        """Leave the old one as it is; nothing after :meth:`finish`."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._paths and self._file is not None:
            paths = "\0".join(self._paths).encode()
            body = paths + self._stats.tobytes() + self._digests
            try:
                self._file.write(_HEAD.pack(len(self._paths), len(paths), zlib.crc32(body)) + body)
            except OSError:
                self.drop()
        self._paths, self._stats, self._digests = [], array("q"), bytearray()


def _block(file: IO[bytes]) -> list[Known] | None:
    """The next files; None at the end, or where it is damaged."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    count, length, checksum = _HEAD.unpack(head)
    stats_at, digests_at = length, length + count * _STATS * 8
    body = file.read(digests_at + count * DIGEST)
    if zlib.crc32(body) != checksum:
        return None
    stats = array("q")
    stats.frombytes(body[stats_at:digests_at])
    return [
        Known(
            path,
            tuple(stats[_STATS * at : _STATS * at + _STATS]),
            body[digests_at + DIGEST * at : digests_at + DIGEST * (at + 1)],
        )
        for at, path in enumerate(body[:length].decode().split("\0"))
    ]
