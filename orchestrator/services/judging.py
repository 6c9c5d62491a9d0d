"""What a run is judged with beside its values: hold-out uses, the history of its metrics, its predictions."""

from __future__ import annotations

import math

from orchestrator.domain.change import Change, DatasetRole
from orchestrator.domain.gate import Holdout, HoldoutMode, JudgingContext, Outcome
from orchestrator.domain.pipeline import Pipeline, Scale
from orchestrator.domain.run import Purpose, Run, RunState
from orchestrator.ports.baselines import NewUse, Uses
from orchestrator.ports.store import Store
from orchestrator.services.candidates import before, candidates, eligible_runs
from orchestrator.services.measuring import evaluation_digest
from orchestrator.services.references import Against

_JUDGED = (RunState.PASSED, RunState.REJECTED, RunState.INCONCLUSIVE)


def context_of(
    store: Store, run: Run, pipeline: Pipeline, against: Against, looks: tuple[int, ...], look: int
) -> JudgingContext:
    """What is known for the verdict on a run."""
    uses, retired = uses_of(store, run, pipeline.gate.holdout) if pipeline.gate.holdout else (0, "")
    return JudgingContext(
        ledger=against.ledger,
        look=look if len(looks) > 1 else 0,
        looks=looks if len(looks) > 1 else (),
        looked=against.looked,
        pair_seeds=pipeline.looks.pair_seeds,
        log_ratio=log_ratios(pipeline),
        holdout_uses=uses,
        holdout_retired=retired,
    )


def log_ratios(pipeline: Pipeline) -> frozenset[str]:
    """The metrics that are compared by their ratio."""
    return frozenset(spec.name for spec in pipeline.metrics if spec.scale is Scale.LOG_RATIO)


def uses_of(store: Store, run: Run, holdout: Holdout) -> tuple[int, str]:
    """How often a run's version of the sealed data was judged with before it, and why that ended, if so."""
    fingerprint = _evaluation(run.change).get(holdout.dataset)
    return (0, "") if fingerprint is None else _told(store.baselines.uses(fingerprint, run.id), holdout)


def uses_so_far(store: Store, pipeline: str, holdout: Holdout) -> tuple[int, str]:
    """The same, up to now, of the version that the newest run was judged with."""
    newest = next(
        (r for r in store.runs.listing(pipeline, _JUDGED, limit=100) if r.purpose is Purpose.TRAIN), None
    )
    fingerprint = None if newest is None else _evaluation(newest.change).get(holdout.dataset)
    return (0, "") if fingerprint is None else _told(store.baselines.uses(fingerprint), holdout)


def uses_made(run: Run, pipeline: Pipeline, outcome: Outcome | None, before: int) -> tuple[NewUse, ...]:
    """The uses that a verdict makes, or a look that asks for more (None).

    All evaluation data count, so that a budget given later, or to another pipeline, begins where they stand.
    """
    if not pipeline.gate.checks:
        return ()
    versions = _evaluation(run.change)
    budget = pipeline.gate.holdout
    limited = versions.get(budget.dataset) if budget and budget.mode is not HoldoutMode.OFF else None
    told = outcome.value if outcome else ""
    return tuple(NewUse(v, told, before if v == limited else None) for v in sorted({*versions.values()}))


def _evaluation(change: Change) -> dict[str, str]:
    """The fingerprints of the evaluation data by their names."""
    return {v.dataset: v.fingerprint for v in change.datasets if v.role is DatasetRole.EVALUATION}


def _told(uses: Uses, holdout: Holdout) -> tuple[int, str]:
    ended = uses.not_passed and holdout.mode is HoldoutMode.FIRST_CHANGE
    return uses.count, f"{uses.not_passed} did not pass, which ended it" if ended else ""


def histories(store: Store, run: Run, pipeline: Pipeline) -> dict[str, tuple[float, ...]]:
    """The means of the commits that passed on the same evaluation data, oldest first."""
    drift = pipeline.gate.drift
    if drift is None:
        return {}
    digest = evaluation_digest(run.change)
    past = before(eligible_runs(store, pipeline, set(drift.metrics)), run)
    same = [
        c.measured for c in candidates(store, pipeline, past) if c.evaluation_digest == digest and not c.again
    ]
    means = {metric: [measured.mean(metric) for measured in same] for metric in drift.metrics}
    return {
        metric: tuple(value for value in values if value is not None and math.isfinite(value))
        for metric, values in means.items()
    }
