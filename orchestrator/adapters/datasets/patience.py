"""An end for waiting: a server that sends a byte now and then is never silent, and would hold us for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


class TooSlow(TimeoutError):
    """So little came in so much time that no more is waited for."""


@dataclass(eq=False, slots=True)
class Wait:
    """Something that is waited for; ``over`` once that took too long."""

    until: float
    end: Callable[[], object]
    over: bool = False


class Patience:
    """Ends what takes too long, from a thread that lives while anything is waited for. Thread-safe."""

    def __init__(self) -> None:
        self._waits: set[Wait] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wakes = 0.0

    @contextmanager
    def within(self, seconds: float, end: Callable[[], object]) -> Iterator[Wait]:
        """Call ``end`` when the block lasts longer, which is to make it end."""
        wait = Wait(time.monotonic() + seconds, end)
        with self._changed:
            self._waits.add(wait)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="patience", daemon=True)
                self._thread.start()
            elif wait.until < self._wakes:
                self._changed.notify()
        try:
            yield wait
        finally:
            with self._changed:
                self._waits.discard(wait)

    def _work(self) -> None:
        with self._changed:
            while self._waits:
                now = time.monotonic()
                for wait in [wait for wait in self._waits if wait.until <= now]:
                    self._waits.discard(wait)
                    wait.over = True
                    # It may have ended by itself just now.
                    with suppress(OSError, ValueError):
                        wait.end()
                self._wakes = min((wait.until for wait in self._waits), default=now)
                if self._waits:
                    self._changed.wait(self._wakes - now)
            self._thread = None
