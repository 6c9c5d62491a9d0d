"""What of a run is worth a picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from orchestrator.domain.chart import Chart, CurveChart, CurveLine, TrendChart, TrendPoint
from orchestrator.domain.collected import Series
from orchestrator.domain.curves import SeriesFacts
from orchestrator.domain.gate import CheckResult, Outcome
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Attempt, Purpose, Run, RunState
from orchestrator.ports.store import Store
from orchestrator.services.measuring import evaluation_digest, measured

TRENDS = 3
CURVES = 3
HISTORY = 30
_JUDGED = (RunState.PASSED, RunState.REJECTED, RunState.INCONCLUSIVE)


def trend_charts(
    store: Store, run: Run, pipeline: Pipeline, checks: Sequence[CheckResult]
) -> tuple[Chart, ...]:
    """The metrics that were judged, failing ones first, over the last judged runs of the branch that
    were measured on the same evaluation data.

    The band is the baseline's mean with twice the standard deviation of one run on either side. Nothing where
    there is no run before this one.
    """
    order = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1}
    chosen: dict[str, CheckResult] = {}
    for check in sorted(checks, key=lambda c: (order.get(c.outcome, 2), c.baseline_run is None)):
        if check.estimate is not None and not check.slice:
            chosen.setdefault(check.metric, check)
    if not chosen:
        return ()
    data = evaluation_digest(run.change)
    past = [
        other
        for other in store.runs.listing(run.pipeline, _JUDGED, run.change.revision.branch, HISTORY, run.id)
        if other.purpose is Purpose.TRAIN and evaluation_digest(other.change) == data
    ]
    runs = [*reversed(past), run]
    values = {each.id: measured(each, store.runs.metrics(each.id)).values for each in runs}
    charts = []
    for metric, check in list(chosen.items())[:TRENDS]:
        points = []
        for each in runs:
            known = [v for v in values[each.id].get(metric, ()) if math.isfinite(v)]
            if known:
                spread = statistics.stdev(known) if len(known) > 1 else 0.0
                points.append(
                    TrendPoint(each.id, f"#{each.number}", statistics.fmean(known), spread, each.state)
                )
        if len(points) < 2 or points[-1].run != run.id:
            continue
        charts.append(_trend(metric, tuple(points), check, pipeline))
    return tuple(charts)


def _trend(metric: str, points: tuple[TrendPoint, ...], check: CheckResult, pipeline: Pipeline) -> TrendChart:
    direction = pipeline.direction_of(metric)
    baseline = math.nan
    if check.baseline_run is not None and check.estimate is not None and check.difference is not None:
        baseline = check.estimate - check.difference
    noise = 2 * check.noise_sd if check.noise_sd is not None else math.nan
    return TrendChart(
        metric,
        points,
        pipeline.unit_of(metric),
        direction.value if direction is not None else "",
        baseline,
        f"baseline {check.baseline_title}".strip() if math.isfinite(baseline) else "",
        baseline - noise,
        baseline + noise,
    )


def curve_charts(
    store: Store,
    attempt: Attempt,
    facts: Sequence[SeriesFacts],
    pipeline: Pipeline,
    judged: Sequence[str],
) -> tuple[Chart, ...]:
    """The series that the run left: those of judged metrics first, then losses, then the others.

    ``facts`` are those of the attempt's series.
    """
    names = most_telling((each.name for each in facts if each.kept > 1), judged)
    return tuple(curve_chart(store.findings.series(attempt.id, name), pipeline) for name in names)


def most_telling(names: Iterable[str], judged: Sequence[str]) -> list[str]:
    """The few of a run's series that are drawn: judged metrics first, then losses, then the others."""
    return sorted(names, key=lambda name: (name not in judged, "loss" not in name.lower(), name))[:CURVES]


def curve_chart(series: Series, pipeline: Pipeline) -> CurveChart:
    """A series over its steps."""
    line = CurveLine(series.name, series.steps, series.values)
    return CurveChart(series.name, (line,), unit=pipeline.unit_of(series.name))
