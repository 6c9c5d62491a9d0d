"""Fetched files, kept so that each is fetched once: ``<root>/files/ab/<key>`` and its hash beside it.

A file is written to ``<root>/partial/<key>`` first, where a fetch that was cut off goes on, by whichever
process. Nothing here is needed for good: whatever was removed is fetched again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from orchestrator.domain.errors import DatasetMoved, DiskFull, StoreUnavailable
from orchestrator.domain.report import format_size
from orchestrator.domain.space import NO_ROOM

_CHUNK: Final = 1 << 20
_ABANDONED_AFTER: Final = 7 * 24 * 3600.0
"""Seconds after which a fetch that nobody went on with is given up."""
_HASH: Final = ".sha256"
_OLD: Final = "old"

Fetch = Callable[[int], AbstractContextManager[Iterator[bytes]]]
"""Opens a file's bytes from an offset on."""


class Cache:
    """Fetched files by keys that name their content, at most ``limit`` bytes. Thread-safe, and safe beside
    other processes.

    Raises DiskFull when there is no room for more, StoreUnavailable when the disk refuses.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self.limit = limit

    def find(self, key: str) -> str | None:
        """The SHA-256 of a file that is there, which counts as used now; None when it is not."""
        place = self._place(key)
        try:
            found = place.with_name(key + _HASH).read_text(encoding="ascii")
            os.utime(place)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self._root, error) from error
        return found

    def open(self, key: str) -> BinaryIO | None:
        """A file that is there, else None."""
        try:
            return self._place(key).open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self._root, error) from error

    def drop(self, key: str) -> None:
        """Forget a file: it is not what it should be."""
        place = self._place(key)
        for path in (place.with_name(key + _HASH), place):
            path.unlink(missing_ok=True)

    def fetch(
        self, key: str, size: int, sums: Iterable[tuple[str, str]], fetch: Fetch, told: Callable[[int], None]
    ) -> str:
        """Have a file of ``size`` bytes; its SHA-256. What another fetch left is continued.

        ``sums`` are names of hashes (``sha256``, ``md5``, ``old`` as of DVC 2, ``blob`` as in Git) with the
        value that the content must have. ``told`` hears how many bytes are there. Raises DatasetMoved when
        the content is not as said, and what ``fetch`` raises.
        """
        with self._writing(key) as file:
            found = self.find(key)
            if found is not None:
                return found
            there = os.fstat(file.fileno()).st_size
            if there > size:
                self._truncate(file)
                there = 0
            self._append(file, size, fetch, there, told)
            # What lies on disk is what counts, also of the part that another process wrote.
            digest = _digest_of(file, sums)
            if digest is None and there:
                # That part may have been damaged by whatever ended the process.
                self._truncate(file)
                self._append(file, size, fetch, 0, told)
                digest = _digest_of(file, sums)
            if digest is None:
                self._truncate(file)
                raise DatasetMoved("its hash is not the one that its listing told")
            self._settle(file, key, digest)
            return digest

    def keep(self, content: Iterable[bytes], temporary: str) -> tuple[str, int]:
        """Keep content whose key is its own SHA-256, which is returned with its size.

        ``temporary`` names it meanwhile, apart from all else.
        """
        with self._writing(temporary) as file:
            self._truncate(file)
            digest, size = hashlib.sha256(), 0
            for chunk in content:
                digest.update(chunk)
                size += len(chunk)
                if size > self.limit:
                    self._truncate(file)
                    raise DiskFull(
                        f"more than {format_size(self.limit)} came, and the cache for data holds no more",
                        "raise storage.data_cache",
                    )
                self._write(file, chunk)
            key = digest.hexdigest()
            if self.find(key) is None:
                self.make_room(size, (key,))
                self._settle(file, key, key, temporary)
            else:
                self._partial(temporary).unlink(missing_ok=True)
            return key, size

    def make_room(self, coming: int, used: Iterable[str]) -> None:
        """Remove what was not used for the longest time, but ``used``, until there is room for so much.

        Raises DiskFull when there is none even so.
        """
        self._drop_abandoned()
        total = sum(size for _, size, _ in self._files()) + coming
        if total <= self.limit:
            return
        wanted = set(used)
        for key, size, _ in sorted(self._files(), key=lambda found: found[2]):
            if key not in wanted:
                self.drop(key)
                total -= size
            if total <= self.limit:
                return
        raise DiskFull(
            f"{format_size(total)} of data are needed at once, "
            f"and the cache for them holds {format_size(self.limit)}",
            "raise storage.data_cache in orchestrator.yaml",
        )

    def _append(
        self, file: BinaryIO, size: int, fetch: Fetch, offset: int, told: Callable[[int], None]
    ) -> None:
        told(offset)
        if 0 < size == offset:
            return
        with fetch(offset) as chunks:
            for chunk in chunks:
                offset += len(chunk)
                if offset > size:
                    break
                self._write(file, chunk)
                told(offset)
        if offset != size:
            # The stream ended as if it were whole: what came may be the beginning of something else.
            self._truncate(file)
            raise DatasetMoved("its size differs")

    def _settle(self, file: BinaryIO, key: str, digest: str, temporary: str | None = None) -> None:
        place = self._place(key)
        with _on_disk(self._root):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = place.with_name(key + _HASH)
            # The hash is there last: a file without one is as good as none. Neither is flushed, for a million
            # small files would wait for the disk: what a loss of power damages is found by its hash.
            self._partial(temporary or key).replace(place)
            passing = place.with_name(f"{key}.{os.getpid()}")
            passing.write_text(digest, encoding="ascii")
            passing.replace(beside)

    @contextmanager
    def _writing(self, key: str) -> Iterator[BinaryIO]:
        """The unfinished file of a key, for one writer at a time among all processes."""
        path = self._partial(key)
        while True:
            with _on_disk(self._root):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not _same(file, path):
                    # Whoever wrote it before us has finished it, and put it in its place.
                    continue
                try:
                    yield file
                finally:
                    if _same(file, path) and not os.fstat(file.fileno()).st_size:
                        path.unlink(missing_ok=True)
                return

    def _write(self, file: BinaryIO, chunk: bytes) -> None:
        with _on_disk(self._root):
            left = memoryview(chunk)
            while left:
                left = left[file.write(left) :]

    def _truncate(self, file: BinaryIO) -> None:
        with _on_disk(self._root):
            file.truncate(0)

    def _files(self) -> Iterator[tuple[str, int, float]]:
        for folder in self._folders():
            with os.scandir(folder) as entries:
                for entry in entries:
                    if "." not in entry.name:
                        with suppress(FileNotFoundError):
                            found = entry.stat(follow_symlinks=False)
                            yield entry.name, found.st_size, found.st_mtime

    def _folders(self) -> list[Path]:
        try:
            return sorted((self._root / "files").iterdir())
        except FileNotFoundError:
            return []

    def _drop_abandoned(self) -> None:
        moment = time.time() - _ABANDONED_AFTER
        with suppress(FileNotFoundError):
            for path in (self._root / "partial").iterdir():
                with suppress(FileNotFoundError):
                    if path.lstat().st_mtime < moment:
                        path.unlink()

    def _place(self, key: str) -> Path:
        return self._root / "files" / key[:2] / key

    def _partial(self, key: str) -> Path:
        return self._root / "partial" / key


def _digest_of(file: BinaryIO, sums: Iterable[tuple[str, str]]) -> str | None:
    """The SHA-256 of a file's content; None when it is not the content that the other hashes belong to."""
    wanted = dict(sums)
    digests = {name: _hasher(name, file) for name in {*wanted, "sha256"} - {_OLD}}
    # DVC 2 hashed what it took for text with its ends of lines as on Unix, a chunk at a time.
    plain, unix = (hashlib.md5(usedforsecurity=False) for _ in range(2))
    file.seek(0)
    while chunk := file.read(_CHUNK):
        for digest in digests.values():
            digest.update(chunk)
        if _OLD in wanted:
            plain.update(chunk)
            unix.update(chunk.replace(b"\r\n", b"\n"))
    if wanted.pop(_OLD, plain.hexdigest()) not in (plain.hexdigest(), unix.hexdigest()):
        return None
    if any(digests[name].hexdigest() != value for name, value in wanted.items()):
        return None
    return digests["sha256"].hexdigest()


def _hasher(name: str, file: BinaryIO) -> hashlib._Hash:
    if name == "blob":
        # As Git names contents.
        size = os.fstat(file.fileno()).st_size
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    return hashlib.new(name, usedforsecurity=False)


def _same(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


@contextmanager
def _on_disk(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(
                f"fetched data cannot be kept in {root}: {error.strerror}", "free space on its disk"
            ) from error
        raise _unusable(root, error) from error


def _unusable(root: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"cannot use the cache for data in {root}: {error.strerror or error}",
        "check its owner and permissions",
    )
