"""What a release will hold: files from the blob store, from memory, and from a dataset's archive."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import BinaryIO

from orchestrator.domain.change import FileEntry
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.errors import NotFound
from orchestrator.ports.world import BlobStore


class Contents:
    """Collects files and opens them by path. A context manager: leaving it frees what was opened."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._files: dict[str, ReleaseFile] = {}
        self._bytes: dict[str, bytes] = {}
        self._members: dict[str, tuple[tarfile.TarFile, tarfile.TarInfo]] = {}
        self._paths: dict[str, Path] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Contents:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def files(self) -> tuple[ReleaseFile, ...]:
        """All files, by path."""
        return tuple(self._files[path] for path in sorted(self._files))

    def add_blob(self, path: str, size: int, sha256: str) -> None:
        """A file whose content is in the blob store."""
        self._files[path] = ReleaseFile(path, size, sha256)

    def add_bytes(self, path: str, content: bytes) -> None:
        """A small file."""
        self._files[path] = ReleaseFile(path, len(content), hashlib.sha256(content).hexdigest())
        self._bytes[path] = content

    def add_archive(self, folder: str, entries: Sequence[FileEntry], archive: Callable[[], BinaryIO]) -> None:
        """A dataset version's files under a folder. Raises DatasetError when they are no longer to be had."""
        stream = self._stack.enter_context(archive())
        tar = self._stack.enter_context(tarfile.open(fileobj=stream, mode="r:"))  # noqa: SIM115 - the stack closes it
        members = {member.name: member for member in tar.getmembers()}
        for entry in entries:
            path = f"{folder}/{entry.path}"
            self._files[path] = ReleaseFile(path, entry.size, entry.sha256)
            self._members[path] = (tar, members[entry.path])

    def add_folder(self, folder: str, opened: AbstractContextManager[Path]) -> Sequence[str]:
        """The regular files of a folder on this machine, which is held until the contents are left; the paths
        of what is left out: links, and what Git keeps for itself.
        """
        root = self._stack.enter_context(opened)
        left_out = []
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if inside.parts[0] == ".git" or (path.is_dir() and not path.is_symlink()):
                continue
            if path.is_symlink() or not path.is_file():
                left_out.append(f"{folder}/{inside.as_posix()}")
                continue
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            place = f"{folder}/{inside.as_posix()}"
            self._files[place] = ReleaseFile(place, path.stat().st_size, digest)
            self._paths[place] = path
        return left_out

    def open(self, file: ReleaseFile) -> BinaryIO:
        """Read one of the files."""
        if file.path in self._paths:
            return self._paths[file.path].open("rb")
        if file.path in self._bytes:
            return io.BytesIO(self._bytes[file.path])
        if file.path in self._members:
            tar, member = self._members[file.path]
            stream = tar.extractfile(member)
            if stream is None:
                raise NotFound(f"{file.path} is no regular file")
            return stream  # type: ignore[return-value]  # an ExFileObject reads as a BinaryIO does
        return self._blobs.open(file.sha256)
