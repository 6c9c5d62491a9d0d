"""Contents by their SHA-256, in ``<root>/ab/abcd…``."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from orchestrator.adapters.files.failures import storing
from orchestrator.domain.errors import NotFound
from orchestrator.ports.world import Blob, TooLarge

_CHUNK = 1 << 20
_HASH = re.compile(r"[0-9a-f]{64}")
_ABANDONED_AFTER = 24 * 3600.0


class FolderBlobs:
    """A BlobStore in a folder that only its owner can read.

    A content appears under its name at once and whole, or never; writers of the same content do not disturb
    each other. Raises StoreUnavailable when the disk is full or refuses.
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
            with os.fdopen(descriptor, "wb") as file:
                while chunk := stream.read(min(_CHUNK, limit - size + 1)):
                    size += len(chunk)
                    if size > limit:
                        raise TooLarge(f"more than {limit} bytes")
                    digest.update(chunk)
                    with storing("a file", self._root):
                        file.write(chunk)
                with storing("a file", self._root):
                    file.flush()
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

    def _place(self, sha256: str) -> Path:
        if not _HASH.fullmatch(sha256):
            raise NotFound(f"{sha256[:80]!r} is not the hash of a stored file")
        return self._root / sha256[:2] / sha256

    def _settle(self, temporary: Path, place: Path) -> None:
        if place.is_file():
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
