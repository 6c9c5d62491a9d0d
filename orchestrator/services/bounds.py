"""What bounds the long work of a preparation: interrupts, time, the output that is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.domain.errors import ImageRejected
from orchestrator.ports.engine import Interrupt
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.world import Clock, Lock

LOG_TAIL = 40
"""Lines of a build's or a setup's output that are kept."""
LONGEST_LINE = 1000
"""Characters of such a line that are kept: what failed is stored and mailed."""
_LOOK = 1.0
"""Seconds between two looks while somebody else holds a lock."""


class BoundedBuild:
    """A build that is to end within ``limit`` seconds, and its last lines for when it does not."""

    def __init__(
        self, tag: str, clock: Clock, limit: float | None, interrupt: Interrupt, progress: ProgressSink
    ) -> None:
        self._tag = tag
        self._clock = clock
        self._limit = limit
        self._deadline = None if limit is None else clock.monotonic() + limit
        self._interrupt = interrupt
        self._progress = progress
        self._lines: deque[str] = deque(maxlen=LOG_TAIL)

    def hear(self, event: ProgressEvent) -> None:
        """Pass on what the build tells."""
        if event.line:
            self._lines.append(event.line[:LONGEST_LINE])
        self._progress(event)

    def check(self) -> None:
        """Raise ImageRejected when its time is over, or what ``interrupt`` raises."""
        self._interrupt()
        if self._deadline is not None and self._clock.monotonic() > self._deadline:
            raise ImageRejected(
                f"building {self._tag} was stopped after {self._limit:.0f} s, the run's timeout",
                "\n".join(tuple(self._lines)),
            )


def carry_on() -> None:
    """The interrupt of those who have none."""


@contextmanager
def held(lock: Lock, interrupt: Interrupt) -> Iterator[None]:
    """Hold a lock that somebody else may hold for long."""
    while not lock.acquire(timeout=_LOOK):
        interrupt()
    try:
        yield
    finally:
        lock.release()
