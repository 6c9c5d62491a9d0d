"""What a gate would have said about runs of the past: judged anew by what is stored of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.baseline import Candidate, Measured, Place, SelectorKind, choose, pooled, together
from orchestrator.domain.check import Comparison
from orchestrator.domain.gate import JudgingContext, Reference, Verdict, judge
from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Purpose, Run, RunState
from orchestrator.domain.statistics.noise import MAX_LEDGER_RUNS
from orchestrator.ports.baselines import PastRun
from orchestrator.ports.store import Store
from orchestrator.services.candidates import before, candidates, eligible_runs
from orchestrator.services.judging import log_ratios, uses_of
from orchestrator.services.measuring import evaluation_digest, measured

_JUDGED = (RunState.PASSED, RunState.REJECTED, RunState.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Replayed:
    """One run of the past: what was said then is in ``run``; ``verdict`` is what the gate says now.

    ``replicates`` is how many of the run's it took, at the looks that are planned now.
    """

    run: Run
    verdict: Verdict
    replicates: int

    @property
    def differs(self) -> bool:
        """Whether the gate says another thing than was said then."""
        then = self.run.verdict
        return then is None or then.outcome is not self.verdict.outcome


def replay(store: Store, pipeline: Pipeline, last: int) -> list[Replayed]:
    """What the pipeline's gate says about its last judged runs, oldest first. Writes nothing, trains nothing.

    Each is compared with what came before it. A comparison for which a commit would have to be measured on
    other data, or by predictions, is inconclusive.
    """
    metrics = {check.metric for check in pipeline.gate.checks}
    eligible = eligible_runs(store, pipeline, metrics) if metrics else []
    judged = [
        run
        for run in store.runs.listing(pipeline.name, _JUDGED, limit=4 * last)
        if run.purpose is Purpose.TRAIN and run.verdict is not None
    ]
    return [_replayed(store, pipeline, run, eligible) for run in reversed(judged[:last])]


def _replayed(store: Store, pipeline: Pipeline, run: Run, eligible: Sequence[PastRun]) -> Replayed:
    past = candidates(store, pipeline, before(eligible, run))
    known = {candidate.measured.run_id: candidate.measured for candidate in past}
    like = store.baselines.replicated(run.id, 4 * MAX_LEDGER_RUNS)
    pins = store.runs.pins(pipeline.name)
    directions: dict[str, Direction] = {}
    references: dict[Comparison, Reference] = {}
    for check in pipeline.gate.checks:
        direction = pipeline.direction_of(check.metric)
        if direction is not None:
            directions[check.metric] = direction
        if isinstance(check, Comparison):
            references[check] = _reference(
                check, direction, pipeline, past, pins, evaluation_digest(run.change)
            )
    holdout = pipeline.gate.holdout
    uses, retired = uses_of(store, run, holdout) if holdout else (0, "")
    context = JudgingContext(
        ledger=tuple(known[run_id] for run_id in like if run_id in known),
        pair_seeds=pipeline.looks.pair_seeds,
        log_ratio=log_ratios(pipeline),
        holdout_uses=uses,
        holdout_retired=retired,
    )
    mine = measured(run, store.runs.metrics(run.id))
    there = max((len(values) for values in mine.values.values()), default=0)
    looks = tuple(count for count in pipeline.looks.counts if count <= there)
    for number, count in enumerate(looks if len(looks) > 1 else (), 1):
        looked = replace(context, look=number, looks=looks)
        verdict = judge(pipeline.gate, _first(mine, count), references, directions, looked)
        if verdict.settled:
            return Replayed(run, verdict, count)
    return Replayed(run, judge(pipeline.gate, mine, references, directions, context), there)


def _first(whole: Measured, count: int) -> Measured:
    there = sum(number < count for number in whole.order)
    cut = {name: values[:there] for name, values in whole.values.items()}
    return replace(whole, values=cut, numbers=whole.numbers[:there])


def _reference(
    check: Comparison,
    direction: Direction | None,
    pipeline: Pipeline,
    past: Sequence[Candidate],
    pins: Mapping[str, int],
    digest: str,
) -> Reference:
    spec = pipeline.baseline_of(check.baseline)
    if direction is None:
        return Reference(None, f"the direction of {check.metric} is not known")
    if spec.select.kind is SelectorKind.MERGE_BASE:
        return Reference(None, "where branches left the default branch is not looked up again")
    found = choose(spec, past, check.metric, direction, pins, Place(digest))
    chosen = found.candidate
    if chosen is None:
        return Reference(None, found.why_none)
    if chosen.evaluation_digest != digest:
        again = [
            c for c in past if c.evaluation_digest == digest and c.measured.commit == chosen.measured.commit
        ]
        if not again:
            return Reference(chosen.measured, comparable=False)
        chosen = again[-1]
    members = together(chosen, past, spec) or (chosen,)
    return Reference(pooled(members, chosen.measured), runs=tuple(c.measured.run_id for c in members))
