"""Measuring baselines further while a slot is idle: runs that give way to all others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from orchestrator.domain.baseline import (
    BaselineSpec,
    Candidate,
    Place,
    SelectorKind,
    choose,
    pooled,
    together,
)
from orchestrator.domain.change import Cause
from orchestrator.domain.check import Comparison
from orchestrator.domain.pipeline import HostSpec, Pipeline
from orchestrator.domain.run import Purpose, Reason, Run, RunState
from orchestrator.domain.statistics.bounds import is_deterministic
from orchestrator.ports.records import NewRun
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.candidates import as_trained, candidates, eligible_runs

log = logging.getLogger(__name__)

TOPPING_UP: Final = -1000
"""The priority of these runs: below all that people can write."""
WHO: Final = "topping up"
"""Who ends one of these runs for another's sake."""
_LOOKS_BACK = 200
LONG_LIVED: Final = 16
"""So many measurements has a baseline that many changes are compared with: what one small set of measurements
happens to be makes wrong failures come in clumps."""
_MANY = 8
"""Who asks for fewer has reasons to."""
_LONG = 10
"""So many runs that passed after it make a baseline long-lived."""
_PAUSE = 15.0
"""Seconds between two looks at what is wanted: while nothing waits there is no hurry."""
_LONG_PAUSE = 600.0
"""Seconds after which that is looked at although nothing has changed: trouble may be over."""
_AFTER_GIVING_WAY = 300.0
"""Seconds in which none is begun after one gave way: there will be more to do."""
_AFTER_TROUBLE = timedelta(hours=1)


class ToppingUp:
    """Enqueues one run at a time for each pipeline, and ends it when another waits. One thread."""

    def __init__(
        self,
        store: Store,
        pipelines: Callable[[], Iterable[Pipeline]],
        hosts: Iterable[HostSpec],
        clock: Clock,
    ) -> None:
        self._store = store
        self._pipelines = pipelines
        self._hosts = hosts
        self._clock = clock
        self._next = 0.0
        self._head = -1
        self._waited = False
        """Whether something else waited at the last look already."""

    def tick(self) -> Run | None:
        """Give way, or enqueue one run where one is wanted; the run that was enqueued."""
        wanting = [pipeline for pipeline in self._pipelines() if wants_more(pipeline)]
        if not wanting:
            return None
        mine = [run for run in self._store.runs.unfinished() if is_topping_up(run)]
        now = self._clock.now()
        others = {w.run_id for w in self._store.queue.waiting(now)} - {run.id for run in mine}
        if others:
            if self._waited:
                self._give_way(mine)
            self._waited = True
            return None
        self._waited = False
        head, passed = self._store.journal.head(), self._clock.monotonic() - self._next
        if passed < 0 or (head == self._head and passed < _LONG_PAUSE):
            return None
        self._next, self._head = self._clock.monotonic() + _PAUSE, head
        going = {run.pipeline for run in mine}
        for pipeline in wanting:
            idle = self._idle()
            if idle and pipeline.name not in going and (new := self._wanted(pipeline, idle)) is not None:
                run = self._enqueue(new)
                if run is not None:
                    log.info("%s: %s", run.title, new.note)
                return run
        return None

    def _enqueue(self, new: NewRun) -> Run | None:
        """Of two servers that see the same newest run one enqueues; who sees the other's run leaves it."""
        pipeline = new.pipeline.name
        (newest,) = self._store.runs.listing(pipeline, limit=1)
        if any(r.pipeline == pipeline and is_topping_up(r) for r in self._store.runs.unfinished()):
            return None
        new = replace(new, once=f"topping up after run {newest.id}")
        return self._store.runs.enqueue(new, (), pipeline, self._clock.now())

    def _give_way(self, mine: Iterable[Run]) -> None:
        for run in mine:
            if run.cancel_requested_by is None:
                log.info("%s gives way: another run waits", run.title)
                self._store.runs.request_cancel(run.id, WHO, Reason.SUPERSEDED, self._clock.now())
                self._next = self._clock.monotonic() + _AFTER_GIVING_WAY

    def _idle(self) -> int:
        taken = self._store.attempts.slots_in_use()
        return sum(max(0, host.slots - taken.get(host.name, 0)) for host in self._hosts)

    def _wanted(self, pipeline: Pipeline, idle: int) -> NewRun | None:
        """The run that measures a baseline of a pipeline further, if one is wanted and can be made."""
        comparisons = [check for check in pipeline.gate.checks if isinstance(check, Comparison)]
        runs = eligible_runs(self._store, pipeline, {check.metric for check in comparisons})
        past = candidates(self._store, pipeline, runs)
        if not past:
            return None
        pins = self._store.runs.pins(pipeline.name)
        rebased = self._store.baselines.rebased(pipeline.name)
        since = rebased.run_id if rebased else 0
        place = Place(past[-1].evaluation_digest)
        for check in comparisons:
            spec, direction = pipeline.baseline_of(check.baseline), pipeline.direction_of(check.metric)
            wanted = wanted_of(spec)
            if not wanted or direction is None or spec.select.kind is SelectorKind.MERGE_BASE:
                continue
            chosen = choose(spec, past, check.metric, direction, pins, place, since).candidate
            if chosen is None or chosen.evaluation_digest != place.evaluation_digest:
                continue
            members = together(chosen, past, spec)
            values = pooled(members, chosen.measured).values.get(check.metric, ())
            there = len(values)
            if is_deterministic(values):
                continue
            if wanted >= _MANY and lives_long(chosen, past):
                wanted = max(wanted, LONG_LIVED)
            if there < wanted and (new := self._new(pipeline, spec, chosen, there, wanted, idle)) is not None:
                return new
        return None

    def _new(
        self, pipeline: Pipeline, spec: BaselineSpec, chosen: Candidate, there: int, wanted: int, idle: int
    ) -> NewRun | None:
        original = self._store.runs.get(chosen.measured.run_id)
        heads = self._store.detection.data_heads(pipeline.name)
        if any(heads.get(v.dataset, v.fingerprint) != v.fingerprint for v in original.change.datasets):
            return None
        if self._is_given_up(pipeline, original):
            return None
        then = as_trained(self._store, pipeline, original)
        counted = f"{there} of {wanted} for {spec.name}"
        return NewRun(
            replace(then, actions=(), priority=TOPPING_UP),
            Cause.BASELINE,
            original.change.revision,
            original.change.datasets,
            purpose=Purpose.BASELINE,
            rerun_of=original.id,
            note=f"{original.title} measured further while a slot is idle: {counted}",
            priority=TOPPING_UP,
            replicates=min(wanted - there, idle),
        )

    def _is_given_up(self, pipeline: Pipeline, original: Run) -> bool:
        """Whether the last such run came to nothing in a way that the next one would come to as well."""
        for run in self._store.runs.listing(pipeline.name, limit=_LOOKS_BACK):
            if not is_topping_up(run) or run.change.revision.commit != original.change.revision.commit:
                continue
            if run.change.datasets != original.change.datasets:
                continue
            if run.state is RunState.ERRORED:
                return run.finished_at is None or self._clock.now() - run.finished_at < _AFTER_TROUBLE
            by_person = run.reason is Reason.CANCELLED_BY_PERSON
            return run.state is RunState.FAILED or (run.state is RunState.CANCELLED and by_person)
        return False


def wanted_of(spec: BaselineSpec) -> int:
    """How many measurements of a baseline are wanted; 0: as many as there are."""
    return max(spec.replicates, spec.confirm)


def lives_long(chosen: Candidate, past: Sequence[Candidate]) -> bool:
    """Whether many runs passed since a baseline was trained, and it is still the one to compare with."""
    return sum(not c.again and c.position > chosen.position for c in past) >= _LONG


def wants_more(pipeline: Pipeline) -> bool:
    """Whether a pipeline asks for more measurements of a baseline than its run had.

    Where all have the same seeds, further ones tell nothing new.
    """
    return not pipeline.looks.pair_seeds and any(wanted_of(spec) for spec in pipeline.baselines)


def is_topping_up(run: Run) -> bool:
    """Whether a run measures a baseline further, and gives way to all others."""
    return run.purpose is Purpose.BASELINE and run.priority == TOPPING_UP
