"""What a gate would have said about runs of the past: judged anew by what was known when they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.baseline import Measured
from orchestrator.domain.check import Comparison
from orchestrator.domain.gate import JudgingContext, Outcome, Verdict, judge
from orchestrator.domain.gate.context import Rows
from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Purpose, Run, RunState
from orchestrator.ports.baselines import PastRun
from orchestrator.ports.hooks import Ruling
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.candidates import eligible_runs
from orchestrator.services.judging import log_ratios, uses_of
from orchestrator.services.measuring import measured
from orchestrator.services.predictions import RowReader
from orchestrator.services.references import References

_JUDGED = (RunState.PASSED, RunState.REJECTED, RunState.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Replayed:
    """One run of the past. ``then`` is what its gate said, whatever a person decided afterwards; ``verdict``
    is what the gate says now.

    ``replicates`` is how many of the run's it took, at the looks that are planned now; ``notes`` are what it
    could not know.
    """

    run: Run
    then: Outcome | None
    verdict: Verdict
    replicates: int
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether the gate says another thing than was said then."""
        return self.then is not self.verdict.outcome


class Replayer:
    """Judges anew. Writes nothing, trains nothing."""

    def __init__(self, store: Store, clock: Clock, rows: RowReader | None = None) -> None:
        """``rows`` reads predictions, where they are still kept."""
        self._store = store
        self._rows = rows
        self._references = References(store, clock)

    def replay(self, pipeline: Pipeline, last: int) -> list[Replayed]:
        """What the pipeline's gate says about its last judged runs, oldest first.

        Each is compared with what was known when it ended. Where the gate would have had something measured
        first, or trained more replicates than there are, it is inconclusive.
        """
        metrics = {check.metric for check in pipeline.gate.checks if isinstance(check, Comparison)}
        eligible = eligible_runs(self._store, pipeline, metrics) if metrics else []
        judged = [
            run
            for run in self._store.runs.listing(pipeline.name, _JUDGED, limit=4 * last)
            if run.purpose is Purpose.TRAIN and run.verdict is not None
        ]
        return [self._replayed(pipeline, run, eligible) for run in reversed(judged[:last])]

    def _replayed(self, pipeline: Pipeline, run: Run, eligible: Sequence[PastRun]) -> Replayed:
        store = self._store
        against = self._references.as_of(run, pipeline, eligible)
        references = against.references
        directions: dict[str, Direction] = {}
        for check in pipeline.gate.checks:
            direction = pipeline.direction_of(check.metric)
            if direction is not None:
                directions[check.metric] = direction
        holdout = pipeline.gate.holdout
        uses, retired = uses_of(store, run, holdout) if holdout else (0, "")
        context = JudgingContext(
            ledger=against.ledger,
            pair_seeds=pipeline.looks.pair_seeds,
            log_ratio=log_ratios(pipeline),
            holdout_uses=uses,
            holdout_retired=retired,
            rows=self._rows.rows_of(run.id, pipeline, references) if self._rows else {},
        )
        mine = measured(run, store.runs.metrics(run.id))
        trained = len({attempt.replicate for attempt in store.attempts.of_run(run.id)})
        looks = self._looks(pipeline, run, trained)
        notes = against.notes
        verdict, taken = Verdict(Outcome.INCONCLUSIVE, ""), 0
        for number, count in enumerate(looks, 1):
            if number > 1 and count > trained:
                break
            taken = min(count, trained)
            looked = replace(context, rows=_first_rows(context.rows, mine, taken))
            if len(looks) > 1:
                looked = replace(looked, look=number, looks=looks)
            verdict = judge(pipeline.gate, _first(mine, taken), references, directions, looked)
            if verdict.settled:
                break
        wanted = next((count for count in looks if count > trained), None)
        if wanted is not None and not (verdict.settled and taken in looks):
            notes = (*notes, f"it has {trained} of the {wanted} replicates that this gate would have trained")
            if len(looks) > 1:
                verdict = _open(verdict)
        return Replayed(run, self._said_of(run), verdict, taken, notes)

    def _looks(self, pipeline: Pipeline, run: Run, trained: int) -> tuple[int, ...]:
        """At how many replicates the gate would have looked; a person may have asked for a number of them."""
        if run.replicates != self._store.runs.definition(run.id).replicates:
            return (trained,)
        return pipeline.looks.counts or (pipeline.replicates,)

    def _said_of(self, run: Run) -> Outcome | None:
        """What the gate said then: what a person could decide on was inconclusive."""
        rulings = {decision.ruling for decision in self._store.approvals.decisions(run.id)}
        if rulings & {Ruling.DECIDED_PASS, Ruling.DECIDED_FAIL}:
            return Outcome.INCONCLUSIVE
        return run.verdict.outcome if run.verdict else None


def _open(verdict: Verdict) -> Verdict:
    sentence = f"{verdict.sentence.removesuffix(f': {verdict.outcome.value}')}: undecided at this look"
    return replace(verdict, outcome=Outcome.INCONCLUSIVE, sentence=sentence)


def _there(whole: Measured, count: int) -> int:
    return sum(number < count for number in whole.order)


def _first(whole: Measured, count: int) -> Measured:
    there = _there(whole, count)
    cut = {name: values[:there] for name, values in whole.values.items()}
    return replace(whole, values=cut, numbers=whole.numbers[:there])


def _first_rows(
    rows: Mapping[Comparison, Rows | str], whole: Measured, count: int
) -> dict[Comparison, Rows | str]:
    there = _there(whole, count)
    return {
        check: each if isinstance(each, str) else replace(each, candidate=each.candidate[:there])
        for check, each in rows.items()
    }
