"""What attempts compute on: two models of CPU or GPU may give different numbers for the same seed."""

from __future__ import annotations

import logging
import threading

from orchestrator.domain.errors import EngineError
from orchestrator.domain.pipeline import HostSpec
from orchestrator.domain.run import Attempt
from orchestrator.ports.engine import Engine
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

_REMEMBERED = 3600.0
"""Seconds after which a host is asked again, for another machine may have its name by now."""


class Hardware:
    """Asks each host once in a while. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cpus: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def of(self, engine: Engine, host: HostSpec | None, attempt: Attempt) -> str:
        """The models of an attempt's GPUs, else of its host's CPU; empty where it cannot be found out."""
        if attempt.gpus:
            return " + ".join(sorted({gpu.model for gpu in attempt.gpus}))
        if host is None:
            return ""
        with self._lock:
            asked, model = self._cpus.get(host.name, (0.0, ""))
        if model and self._clock.monotonic() - asked < _REMEMBERED:
            return model
        try:
            model = engine.boot(host.helper_image).cpu
        except EngineError as error:
            # It decides over nothing but with which runs this one's noise is taken together.
            log.info("host %s: its CPU's model is not known: %s", host.name, error)
            return ""
        with self._lock:
            self._cpus[host.name] = (self._clock.monotonic(), model)
        return model
