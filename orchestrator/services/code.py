"""The code of commits, as it goes into containers: one plain tar for all attempts of a commit."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.world import SourceControl
from orchestrator.services import naming
from orchestrator.services.archive import write_tar
from orchestrator.services.scratch import using

_KEPT: Final = 32
_KEPT_BYTES: Final = 256 << 20
_BLOCK: Final = 1 << 16

_Key = tuple[str, str, bool, bool, bool, str, int, int]


class CodeTar:
    """A tar of a commit's files below the working folder. Any number of readers may read at once.

    It has no name on the disk, so that nobody else can open it and a kill leaves nothing behind.
    """

    def __init__(self, scratch: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - open for as long as this lives
        self.size = 0

    def fill(self, folder: Path, uid: int, gid: int) -> None:
        """Write a checkout; once, before anybody reads."""
        write_tar(folder, self._file, uid, gid, naming.WORKSPACE.lstrip("/"))
        self._file.flush()
        self.size = self._file.tell()

    def __del__(self) -> None:
        self._file.close()

    def after(self, head: bytes) -> BinaryIO:
        """The tar from its beginning, with other entries before its own."""
        return io.BufferedReader(_Joined(head, self, self._file.fileno()), _BLOCK)


class _Joined(io.RawIOBase):
    def __init__(self, head: bytes, tar: CodeTar, descriptor: int) -> None:
        super().__init__()
        self._head = memoryview(head)
        # Whoever reads keeps the file open.
        self._tar = tar
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub names a private protocol
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count], self._head = self._head[:count], self._head[count:]
            return count
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count


class CodeArchives:
    """Makes and keeps the tars of commits. Thread-safe.

    Those asked for last are kept, up to a bound; replicates, retries and re-runs share them.
    """

    def __init__(self, sources: SourceControl, scratch: Path) -> None:
        self._sources = sources
        self._scratch = scratch
        self._made: OrderedDict[_Key, Future[CodeTar]] = OrderedDict()
        self._sizes: dict[_Key, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def checkout(self, source: SourceSpec, commit: str) -> Iterator[Path]:
        """A folder with the commit's files, for as long as the block lasts. Raises SourceError."""
        with using(self._scratch):
            self._scratch.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="checkout-", dir=self._scratch))
        try:
            self._sources.checkout(source, commit, folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def packed(self, folder: Path, uid: int, gid: int) -> Future[CodeTar]:
        """The tar of a checkout that is there anyway; it is not kept."""
        done: Future[CodeTar] = Future()
        done.set_result(self._pack(folder, uid, gid))
        return done

    def _pack(self, folder: Path, uid: int, gid: int) -> CodeTar:
        with using(self._scratch):
            tar = CodeTar(self._scratch)
            tar.fill(folder, uid, gid)
        return tar

    def begin(self, source: SourceSpec, commit: str, uid: int, gid: int) -> Future[CodeTar]:
        """Have the tar of a commit, made in a thread of its own unless it is there.

        The result raises what checking out raises.
        """
        wanted = (source.submodules, source.lfs, source.strangers)
        # What else comes with a commit is what the login of the source may read.
        whose = source.name if source.submodules or source.lfs else ""
        key = (source.location, whose, *wanted, commit, uid, gid)
        with self._lock:
            known = self._made.get(key)
            if known is not None:
                self._made.move_to_end(key)
                return known
            coming: Future[CodeTar] = Future()
            self._made[key] = coming
        threading.Thread(
            target=self._make, args=(key, source, coming), name=f"code-{commit[:12]}", daemon=True
        ).start()
        return coming

    def _make(self, key: _Key, source: SourceSpec, coming: Future[CodeTar]) -> None:
        *_, commit, uid, gid = key
        try:
            with self.checkout(source, commit) as folder:
                made = self._pack(folder, uid, gid)
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits for the result
            with self._lock:
                del self._made[key]
            coming.set_exception(error)
            return
        with self._lock:
            self._sizes[key] = made.size
            self._let_go()
        coming.set_result(made)

    def _let_go(self) -> None:
        """Forget the oldest of those that are done, down to the bound."""
        done = [key for key in self._made if key in self._sizes]
        total = sum(self._sizes[key] for key in done)
        while len(done) > _KEPT or total > _KEPT_BYTES:
            oldest = done.pop(0)
            total -= self._sizes.pop(oldest)
            del self._made[oldest]
