"""How long an attempt waits for a host that does not answer."""

from __future__ import annotations

import logging

from orchestrator.domain.errors import EngineError, EngineUnavailable
from orchestrator.ports.world import Clock
from orchestrator.services.reach import Reach

log = logging.getLogger(__name__)

WATCHED = 60.0
"""Seconds for which this process itself must have had no answer, unless the host's own limit is shorter."""


class Patience:
    """What one worker gets from a host. ``lost_after`` is the host's, in seconds."""

    def __init__(self, clock: Clock, reach: Reach, host: str, lost_after: float) -> None:
        self._clock = clock
        self._reach = reach
        self._host = host
        self.lost_after = lost_after
        self._since: float | None = None

    def answered(self) -> None:
        """The host, or what was asked of it, is there."""
        self._since = None

    def not_answered(self, attempt_id: int, error: EngineError) -> bool:
        """It is not; True when that has been so for too long.

        What former processes saw of the silence counts, but for a while that this one saw itself: nobody
        looked in between.
        """
        now = self._clock.monotonic()
        if self._since is None:
            log.warning("attempt %d: %s", attempt_id, error)
            self._since = now
        if isinstance(error, EngineUnavailable):
            self._reach.report(self._host, error)
        watched = now - self._since
        if watched <= min(WATCHED, self.lost_after):
            return False
        return max(watched, self._reach.silent_for(self._host)) > self.lost_after
