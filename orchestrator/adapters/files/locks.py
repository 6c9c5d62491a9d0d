"""Locks between the processes of one machine, one for each name, as files that exist while they are held.

The system lets go of a lock when its process ends, however it ends; a file that is left then means nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from orchestrator.adapters.files.failures import storing

_POLL = 0.1


class FileLock:
    """Implements ``ports.world.Lock`` by a file. For one thread; also keeps out others of its process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, *, timeout: float) -> bool:
        """Raises StoreUnavailable when there can be no such file."""
        deadline = monotonic() + timeout
        while True:
            with storing("a lock", self._path.parent):
                if self._try():
                    return True
            if monotonic() >= deadline:
                return False
            sleep(_POLL)

    def release(self) -> None:
        """Removes the file first: whoever has opened it meanwhile sees that, and makes a new one."""
        descriptor, self._descriptor = self._descriptor, -1
        with suppress(OSError):
            self._path.unlink()
        os.close(descriptor)

    def _try(self) -> bool:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(descriptor), self._path.stat())
        except (BlockingIOError, FileNotFoundError):
            ours = False
        except OSError:
            os.close(descriptor)
            raise
        if ours:
            self._descriptor = descriptor
        else:
            os.close(descriptor)
        return ours


class FolderLocks:
    """Gives the locks that lie in one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, *names: str) -> FileLock:
        """The lock for what these names name together."""
        key = hashlib.sha256("\0".join(names).encode()).hexdigest()
        return FileLock(self._root / f"{key}.lock")
