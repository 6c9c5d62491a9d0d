"""Contents by their SHA-256, in ``<root>/ab/abcd…``."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from orchestrator.adapters.files.failures import facts_of, storing
from orchestrator.domain.errors import NotFound
from orchestrator.ports.retention import FileFacts
from orchestrator.ports.world import Blob, TooLarge

_CHUNK = 1 << 20
_HASH = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_ABANDONED_AFTER = 24 * 3600.0


class FolderBlobs:
    """A BlobStore in a folder that only its owner can read.

    A content appears under its name at once and whole, or never; writers of the same content do not disturb
    each other, and each is as if it were stored anew: its time says when that was last. Raises
    StoreUnavailable when the disk is full or refuses.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        with storing("files", root):
            for folder in (root, self._incoming):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._drop_abandoned()

    def put(self, stream: BinaryIO, limit: int) -> Blob:
        """Store a stream of at most ``limit`` bytes. What the stream itself raises goes through."""
        with storing("a file", self._root):
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
        temporary = Path(name)
        try:
            digest, size = hashlib.sha256(), 0
            # Without a buffer: what is left in one is written at the end again, to a disk that is full.
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                while chunk := stream.read(min(_CHUNK, limit - size + 1)):
                    size += len(chunk)
                    if size > limit:
                        raise TooLarge(f"more than {limit} bytes")
                    digest.update(chunk)
                    with storing("a file", self._root):
                        left = memoryview(chunk)
                        while left:
                            left = left[file.write(left) :]
                with storing("a file", self._root):
                    os.fsync(file.fileno())
            blob = Blob(digest.hexdigest(), size)
            with storing("a file", self._root):
                self._settle(temporary, self._place(blob.sha256))
            return blob
        finally:
            temporary.unlink(missing_ok=True)

    def open(self, sha256: str) -> BinaryIO:
        """Read stored content."""
        try:
            return self._place(sha256).open("rb")
        except FileNotFoundError:
            raise NotFound(f"no stored file has the hash {sha256}") from None

    def parts(self) -> Sequence[tuple[str, str]]:
        """One range for each folder, from its first hash to the one behind its last."""
        names = sorted(entry.name for entry in self._root.iterdir() if _FOLDER.fullmatch(entry.name))
        return [(name, f"{int(name, 16) + 1:02x}" if name != "ff" else "g") for name in names]

    def files(self, first: str, last: str) -> Sequence[FileFacts]:
        """The contents in the folder of a range."""
        return facts_of(self._root / first, _HASH)

    def drop(self, sha256: str, unused_since: datetime) -> int | None:
        """Remove a content that nobody stored after ``unused_since``; its bytes, None if it stays."""
        place = self._place(sha256)
        with self._settling(fcntl.LOCK_EX):
            try:
                found = place.stat()
            except FileNotFoundError:
                return None
            if found.st_mtime > unused_since.timestamp():
                return None
            with storing("that a file was removed", self._root):
                place.unlink()
        return found.st_size

    @contextmanager
    def _settling(self, how: int) -> Iterator[None]:
        """Keep apart who stores a content that is there, and who removes it because nobody has use for it."""
        with storing("a file", self._root):
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, how)
            except OSError:
                os.close(descriptor)
                raise
        try:
            yield
        finally:
            os.close(descriptor)

    def _place(self, sha256: str) -> Path:
        if not _HASH.fullmatch(sha256):
            raise NotFound(f"{sha256[:80]!r} is not the hash of a stored file")
        return self._root / sha256[:2] / sha256

    def _settle(self, temporary: Path, place: Path) -> None:
        with self._settling(fcntl.LOCK_SH):
            if place.is_file():
                os.utime(place)
                return
            if not place.parent.is_dir():
                place.parent.mkdir(mode=0o700, exist_ok=True)
                _sync(self._root)
            temporary.rename(place)
        _sync(place.parent)

    def _drop_abandoned(self) -> None:
        """Remove what killed writers left; those of living ones are younger."""
        for file in self._incoming.iterdir():
            if time.time() - file.stat().st_mtime > _ABANDONED_AFTER:
                file.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
