"""What a run is judged with beside its values: hold-out uses, the history of its metrics, its predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.domain.gate import Holdout, HoldoutMode, JudgingContext
from orchestrator.domain.pipeline import Pipeline, Scale
from orchestrator.domain.run import Purpose, Run, RunState
from orchestrator.ports.store import Store
from orchestrator.services.candidates import before, candidates, eligible_runs
from orchestrator.services.measuring import evaluation_digest
from orchestrator.services.references import Against

_JUDGED = (RunState.PASSED, RunState.REJECTED, RunState.INCONCLUSIVE)
_LOOKED_THROUGH = 5000
"""Older runs do not count as uses of a hold-out: none is meant to live that long."""


def context_of(
    store: Store, run: Run, pipeline: Pipeline, against: Against, looks: tuple[int, ...], look: int
) -> JudgingContext:
    """What is known for the verdict on a run."""
    uses, retired = uses_of(store, run, pipeline.gate.holdout) if pipeline.gate.holdout else (0, "")
    return JudgingContext(
        ledger=against.ledger,
        look=look if len(looks) > 1 else 0,
        looks=looks if len(looks) > 1 else (),
        pair_seeds=pipeline.looks.pair_seeds,
        log_ratio=log_ratios(pipeline),
        holdout_uses=uses,
        holdout_retired=retired,
        history=_histories(store, run, pipeline),
    )


def log_ratios(pipeline: Pipeline) -> frozenset[str]:
    """The metrics that are compared by their ratio."""
    return frozenset(spec.name for spec in pipeline.metrics if spec.scale is Scale.LOG_RATIO)


def uses_of(store: Store, run: Run, holdout: Holdout) -> tuple[int, str]:
    """How often the pipeline judged on a run's evaluation data before it, and why that ended, or empty."""
    return _uses(_judged(store, run.pipeline, run, below=run.id), holdout)


def uses_so_far(store: Store, pipeline: str, holdout: Holdout) -> tuple[int, str]:
    """The same, up to now, on the evaluation data of the newest run that was judged."""
    newest = next(
        (r for r in store.runs.listing(pipeline, _JUDGED, limit=100) if r.purpose is Purpose.TRAIN), None
    )
    return (0, "") if newest is None else _uses(_judged(store, pipeline, newest, newest.id + 1), holdout)


def _judged(store: Store, pipeline: str, like: Run, below: int) -> list[Run]:
    """The runs with lower ids that were judged on the evaluation data of ``like``, newest first."""
    digest = evaluation_digest(like.change)
    return [
        past
        for past in store.runs.listing(pipeline, _JUDGED, limit=_LOOKED_THROUGH)
        if past.id < below and past.purpose is Purpose.TRAIN and evaluation_digest(past.change) == digest
    ]


def _uses(judged: Sequence[Run], holdout: Holdout) -> tuple[int, str]:
    if holdout.mode is HoldoutMode.FIRST_CHANGE:
        ended = next((past for past in reversed(judged) if past.state is not RunState.PASSED), None)
        if ended is not None:
            return len(judged), f"{ended.title} did not pass, which ended it"
    return len(judged), ""


def _histories(store: Store, run: Run, pipeline: Pipeline) -> dict[str, tuple[float, ...]]:
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
