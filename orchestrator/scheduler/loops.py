"""Loops in threads, and what tells them whether a turn is worth its price."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from orchestrator.domain.errors import OrchestratorError
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

FULL = 5.0
"""Seconds after which a loop with open work takes a turn although no state changed: retries, expired leases.
"""


class Loop:
    """Calls something again and again in a thread: every ``period`` seconds, or when woken."""

    def __init__(self, name: str, tick: Callable[[], None], period: float) -> None:
        self._tick = tick
        self._period = period
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Tick now; from any thread."""
        self._woken.set()

    @property
    def alive(self) -> bool:
        """Whether it still ticks."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """End after the tick under way."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._tick()
                self._trouble = ""
            except OrchestratorError as error:
                # Said once, not at every turn: a full disk may stay full for long.
                if self._trouble != str(error):
                    log.error("%s: %s", self._thread.name, error)
                self._trouble = str(error)
            except Exception:
                log.exception("%s: defect", self._thread.name)
            self._woken.wait(self._period)
            self._woken.clear()


class Changes:
    """Tells a loop whether a turn is worth its price: an idle server must cost next to nothing."""

    def __init__(self, store: Store, clock: Clock, has_work: Callable[[], bool]) -> None:
        self._store = store
        self._clock = clock
        self._has_work = has_work
        self._head = -1
        self._looked = 0.0

    def worth_a_turn(self) -> bool:
        """Whether a state changed since the last turn, or open work was last looked at long ago."""
        head, now = self._store.journal.head(), self._clock.monotonic()
        if head != self._head:
            self._head, self._looked = head, now
            return True
        if now - self._looked < FULL:
            return False
        self._looked = now
        return self._has_work()
