"""Who may remove stored files: nobody while they are copied.

``<state>/maintenance.lock`` is locked by processes of one machine: shared by those who copy what is stored,
alone by those who remove or replace it. The system lets go when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from orchestrator.adapters.files.failures import storing
from orchestrator.domain.errors import StoreUnavailable

NAME: Final = "maintenance.lock"
_POLL = 0.1


class Maintenance:
    """The lock of one state folder."""

    def __init__(self, state: Path) -> None:
        self._state = state

    @contextmanager
    def copying(self, patience: float = 60.0) -> Iterator[None]:
        """Keep what is stored. Raises StoreUnavailable when others remove for longer than ``patience`` s."""
        with self._locked(fcntl.LOCK_SH, patience) as ours:
            if not ours:
                raise StoreUnavailable("stored files are being removed just now", "try again in a minute")
            yield

    @contextmanager
    def removing(self, patience: float = 0.0) -> Iterator[bool]:
        """Keep others from copying and removing; gives False, and keeps nobody, when somebody does."""
        with self._locked(fcntl.LOCK_EX, patience) as ours:
            yield ours

    @contextmanager
    def _locked(self, how: int, patience: float) -> Iterator[bool]:
        with storing("a lock", self._state):
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._state / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _lock(descriptor, how, monotonic() + patience)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, how: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= deadline:
                return False
            sleep(_POLL)
        else:
            return True
