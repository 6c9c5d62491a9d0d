"""When the server removes what has had its time by itself: at its own pace, and when the disk runs short."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Final

from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.report import format_size
from orchestrator.domain.retention import Kind, counted
from orchestrator.ports.progress import ProgressEvent
from orchestrator.ports.world import Clock
from orchestrator.services.retain import HOSTS, STATE, Done, Retainer, Stopped

log = logging.getLogger(__name__)

_FIRST: Final = 60.0
"""Seconds after the start until the first pass: a server that has just come up has better things to do."""
_AGAIN: Final = 300.0
"""Seconds between two passes while the disk stays short, for there may be nothing left that may go."""


class RetainTick:
    """Called often, from one thread; looks at the disk each time, at everything else when it is time."""

    def __init__(
        self, retainer: Retainer, every: timedelta, clock: Clock, who: str, stopping: threading.Event
    ) -> None:
        self._retainer = retainer
        self._every = every.total_seconds()
        self._clock = clock
        self._who = who
        self._stopping = stopping
        self._due = clock.monotonic() + min(_FIRST, self._every)
        self._looked = clock.monotonic()
        self._relieved = self._looked - _AGAIN
        self._told: tuple[str, ...] = ()

    def __call__(self) -> None:
        """Do what is due."""
        now = self._clock.monotonic()
        if self._stopping.is_set():
            return
        if now >= self._due:
            self._due = self._relieved = self._looked = now
            self._due += self._every
            self._pass(frozenset(Kind))
            return
        if now - self._relieved >= _AGAIN and self._retainer.short():
            self._relieved = now
            self._pass(STATE)
        if now - self._looked >= _AGAIN:
            # Unlike our own disk, a host's is not there for a look that costs nothing.
            self._looked = now
            if self._retainer.hosts_short():
                self._pass(HOSTS)

    def _pass(self, kinds: frozenset[Kind]) -> None:
        try:
            done = self._retainer.apply(kinds, self._who, _silent, self._interrupt)
        except Stopped:
            log.info("retention stopped between two steps")
        except OrchestratorError as error:
            log.error("retention: %s", error)
        else:
            self._tell(done)

    def _tell(self, done: Done) -> None:
        if any(done.went.values()):
            went = ", ".join(counted(kind, count) for kind, count in done.went.items() if count)
            log.info("retention removed %s; %s were freed here", went, format_size(done.freed))
        # Said once, not at every pass.
        for problem in done.problems:
            if problem not in self._told:
                log.warning("retention: %s", problem)
        self._told = done.problems
        if done.plan.lacking:
            log.warning(
                "the disk of storage.path lacks %s, and nothing is left that retention may remove",
                format_size(done.plan.lacking),
            )

    def _interrupt(self) -> None:
        if self._stopping.is_set():
            raise Stopped


def _silent(event: ProgressEvent) -> None:
    """Nobody watches."""
