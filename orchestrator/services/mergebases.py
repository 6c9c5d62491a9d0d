"""Where branches left the default branch: asked of repositories beside the loop that judges, which must not
wait for them.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.domain.run import Run
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, SourceControl

log = logging.getLogger(__name__)

_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 300.0
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Left:
    """Where a change's branch left the default branch. Empty ``commit``: it is on that branch itself, or the
    two have nothing in common; empty ``branch``: it is not known which branch that is.
    """

    branch: str = ""
    commit: str = ""


class MergeBases:
    """Remembers what it found. Thread-safe."""

    def __init__(self, store: Store, sources: SourceControl | None, clock: Clock) -> None:
        self._store = store
        self._sources = sources
        self._clock = clock
        self._found: dict[int, Left] = {}
        self._asking: set[int] = set()
        self._tries: dict[int, tuple[int, float]] = {}
        """By run, how often it was asked for in vain, and when it is asked again."""
        self._lock = threading.Lock()

    def of(self, run: Run, pipeline: Pipeline) -> Left | None:
        """Where the run's branch left; None while that is being found out: ask again later."""
        with self._lock:
            if run.id in self._found:
                return self._found[run.id]
            if run.id in self._asking or self._tries.get(run.id, (0, 0.0))[1] > self._clock.monotonic():
                return None
        source = pipeline.source_named(run.change.revision.source)
        branch = default_branch(run, pipeline)
        if source is None or self._sources is None or not branch:
            return Left()
        head = self._store.detection.heads(run.pipeline, source.name).get(branch)
        if head is None:
            return Left()
        if head == run.change.revision.commit:
            return Left(branch)
        with self._lock:
            self._asking.add(run.id)
        ask = (self._sources, run, source, branch, head)
        threading.Thread(target=self._ask, args=ask, name=f"merge-base-{run.id}", daemon=True).start()
        return None

    def _ask(self, sources: SourceControl, run: Run, source: SourceSpec, branch: str, head: str) -> None:
        commit = run.change.revision.commit
        try:
            base = sources.merge_base(source, commit, head)
        except OrchestratorError as error:
            with self._lock:
                tries = self._tries.get(run.id, (0, 0.0))[0] + 1
                pause = min(_FIRST_PAUSE * 2 ** (tries - 1), _LONGEST_PAUSE)
                self._tries[run.id] = (tries, self._clock.monotonic() + pause)
            log.warning("%s: where its branch left %s: %s", run.title, branch, error)
        else:
            with self._lock:
                self._found[run.id] = Left(branch, "" if base is None or base == commit else base)
                while len(self._found) > _REMEMBERED:
                    self._found.pop(next(iter(self._found)))
                self._tries.pop(run.id, None)
        finally:
            with self._lock:
                self._asking.discard(run.id)


def default_branch(run: Run, pipeline: Pipeline) -> str:
    """The branch that a change is to go into: a pull request's base, else the first that deploys."""
    pull = run.change.revision.pull
    if pull is not None:
        return pull.base
    plain = (b for b in pipeline.deploy_branches if not b.startswith("refs/") and not set("*?[") & set(b))
    return next(plain, "")
