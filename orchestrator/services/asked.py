"""Runs that programs ask for: so many a minute, of refs that the repository itself has."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from orchestrator.domain.change import PULLS, Cause
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Run
from orchestrator.domain.text import clean
from orchestrator.ports.world import Clock
from orchestrator.services.detect import Detector

log = logging.getLogger(__name__)

A_MINUTE: Final = 10
"""Runs of one pipeline that programs may start in a minute."""
WHO: Final = "a program, by the API"
_MINUTE: Final = 60.0


class AskedRuns:
    """Enqueues runs that programs ask for. Thread-safe; ``mask`` hides secrets in what they say."""

    def __init__(
        self,
        pipelines: Mapping[str, Pipeline],
        detector: Detector,
        clock: Clock,
        mask: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._mask = mask
        self._pipelines = pipelines
        self._detector = detector
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: dict[str, deque[float]] = {}

    def start(self, name: str, ref: str | None, reason: str) -> Run | float:
        """A run of a ref, or of the branch that is deployed; or seconds to wait, when it were too many.

        Raises NotFound when there is no such pipeline or ref, InvalidInput when the ref is no branch, tag or
        commit of the repository itself, SourceError or DatasetError when it could not be found out.
        """
        pipeline = self._pipelines.get(name)
        if pipeline is None:
            raise NotFound("there is no such pipeline")
        if ref is not None and ref.startswith(PULLS):
            raise InvalidInput(
                f"{clean(ref)} is a pull request, whose runs are started by its commits alone",
                "a branch, a tag or a commit",
            )
        if (wait := self._too_many(name)) > 0:
            return wait
        run = self._detector.run_now(pipeline, ref, WHO, cause=Cause.TRIGGER, note=self._mask(clean(reason)))
        log.info("%s enqueued: asked for by the API", run.title)
        return run

    def _too_many(self, name: str) -> float:
        """Count one more; or, without that, seconds until there may be one."""
        now = self._clock.monotonic()
        with self._lock:
            times = self._asked.setdefault(name, deque())
            while times and now - times[0] >= _MINUTE:
                times.popleft()
            if len(times) >= A_MINUTE:
                return times[0] + _MINUTE - now
            times.append(now)
            return 0.0
