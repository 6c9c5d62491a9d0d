"""What a run is compared with: the baseline of each comparing check, with its values.

Where a baseline was measured on other evaluation data, its commit is measured again on the run's own, and the
verdict waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.domain.baseline import Candidate, Chosen, Measured, SelectorKind, choose
from orchestrator.domain.change import Cause, same_evaluation_data
from orchestrator.domain.check import Comparison
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.gate import Reference
from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Purpose, Run, RunState
from orchestrator.ports.records import NewRun
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.measuring import evaluation_digest, measured

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The verdict waits for a baseline that is being measured on the new evaluation data."""

    run_id: int


@dataclass(frozen=True, slots=True)
class Against:
    """What a run is judged against: an entry for each comparing check of its gate."""

    references: Mapping[Comparison, Reference] = field(default_factory=dict)


class References:
    """Finds what runs are compared with, and has it measured where it is not. Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def of(self, run: Run, pipeline: Pipeline) -> Against | Waiting:
        """What a measured run is to be judged against."""
        comparisons = [check for check in pipeline.gate.checks if isinstance(check, Comparison)]
        if not comparisons:
            return Against()
        history = self._history(run, pipeline)
        pins = self._store.runs.pins(run.pipeline)
        references: dict[Comparison, Reference] = {}
        for check in comparisons:
            direction = pipeline.direction_of(check.metric)
            if direction is None:
                references[check] = Reference(None, f"the direction of {check.metric} is not known")
                continue
            reference = self._reference(run, check, history, pins, direction, pipeline)
            if isinstance(reference, Waiting):
                return reference
            references[check] = reference
        return Against(references)

    def _measured(self, run: Run) -> Measured:
        return measured(run, self._store.runs.metrics(run.id))

    def _history(self, run: Run, pipeline: Pipeline) -> list[tuple[Run, Candidate]]:
        deployed = set(self._store.runs.deployed_ids(run.pipeline))
        found = []
        for past in self._store.runs.measured_runs(run.pipeline):
            newer = past.change.rank > run.change.rank and past.purpose is Purpose.TRAIN
            if past.id == run.id or newer:
                continue
            if why_not_trusted(past, pipeline) is None:
                found.append(
                    (
                        past,
                        Candidate(
                            self._measured(past), past.id, evaluation_digest(past.change), past.id in deployed
                        ),
                    )
                )
        return found

    def _reference(
        self,
        run: Run,
        check: Comparison,
        history: Sequence[tuple[Run, Candidate]],
        pins: Mapping[str, int],
        direction: Direction,
        pipeline: Pipeline,
    ) -> Reference | Waiting:
        mine = evaluation_digest(run.change)
        # A run that was made to measure an old commit again stands in for it; only `best` may choose it by
        # itself.
        pool = [
            c
            for past, c in history
            if past.purpose is Purpose.TRAIN or check.baseline.kind is SelectorKind.BEST
        ]
        chosen: Chosen = choose(check.baseline, pool, check.metric, direction, pins, mine)
        if chosen.candidate is None:
            return Reference(None, chosen.why_none)
        if chosen.candidate.evaluation_digest == mine:
            return Reference(chosen.candidate.measured)
        return self._measured_again(run, chosen.candidate, pipeline)

    def _measured_again(self, run: Run, old: Candidate, pipeline: Pipeline) -> Reference | Waiting:
        """The baseline's commit on this run's evaluation data: there already, being measured, or enqueued
        now.
        """
        baseline = self._store.runs.get(old.measured.run_id)
        for again in self._store.runs.listing(run.pipeline, limit=500):
            if (
                again.purpose is Purpose.BASELINE
                and again.change.revision.commit == baseline.change.revision.commit
                and same_evaluation_data(again.change, run.change)
            ):
                if again.state is RunState.PASSED:
                    return Reference(self._measured(again))
                if not again.state.final:
                    return Waiting(again.id)
                # What failed by its own fault will again; what was our fault gets a try from each run.
                if again.state is RunState.FAILED or again.id > run.id:
                    why = f"{baseline.title}'s commit could not be measured on the new data: {again.message}"
                    return Reference(old.measured, why, comparable=False)
        enqueued = self._store.runs.enqueue(
            NewRun(
                pipeline,
                Cause.BASELINE,
                baseline.change.revision,
                run.change.datasets,
                purpose=Purpose.BASELINE,
                rerun_of=baseline.id,
                note=f"{baseline.title} measured on the evaluation data of {run.title}",
            ),
            (),
            run.pipeline,
            self._clock.now(),
        )
        if enqueued is None:
            return Reference(old.measured, "the baseline could not be measured again", comparable=False)
        log.info("%s waits for %s: %s", run.title, enqueued.title, enqueued.change.note)
        return Waiting(enqueued.id)
