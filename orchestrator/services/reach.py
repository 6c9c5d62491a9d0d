"""Which hosts answer: asked before work is given to them, so that an engine that is down makes runs wait."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from orchestrator.domain.errors import EngineError
from orchestrator.ports.engine import Engine
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

_REMEMBERED = 5.0
"""Seconds for which an answer, or none, counts."""


class Reach:
    """Asks engines whether they are there. Thread-safe. ``loud``: says once in the log when that changes."""

    def __init__(self, engines: Mapping[str, Engine], clock: Clock, loud: bool = False) -> None:
        self._engines = engines
        self._loud = loud
        self._clock = clock
        self._answers: dict[str, tuple[float, str | None]] = {}

    def why_not(self, host: str) -> str | None:
        """Why a host cannot be given work now; None when it answers."""
        now = self._clock.monotonic()
        asked_at, before = self._answers.get(host, (None, None))
        if asked_at is not None and now - asked_at < _REMEMBERED:
            return before
        answer = self._ask(host)
        self._answers[host] = (self._clock.monotonic(), answer)
        if not self._loud:
            return answer
        if answer is not None and before is None:
            log.error("host %s does not answer, runs wait for it: %s", host, answer)
        elif answer is None and before is not None:
            log.info("host %s answers again", host)
        return answer

    def _ask(self, host: str) -> str | None:
        engine = self._engines.get(host)
        if engine is None:
            return "it is not in the configuration"
        try:
            engine.info()
        except EngineError as error:
            return str(error)
        return None
