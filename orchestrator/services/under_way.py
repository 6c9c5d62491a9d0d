"""How far a run has come: what its command has printed until now."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from orchestrator.domain.chart import Chart
from orchestrator.domain.collected import Series
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Metric, format_value
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Attempt, AttemptState
from orchestrator.ports.collecting import Collectors
from orchestrator.ports.world import LogFiles
from orchestrator.services.charts import curve_chart, most_telling
from orchestrator.services.readings import required_metrics

_LINES = 20_000
_LONGEST = 4096


def printed_so_far(
    logs: LogFiles, collectors: Collectors, attempts: Sequence[Attempt], pipeline: Pipeline
) -> tuple[tuple[Metric, ...], tuple[Series, ...]]:
    """The numbers that the first replicate at work has printed: the last ones, and their curves.

    Read as the results would be: lines of JSON, the pattern that the pipeline declares for the output, and
    the last ones of the metrics that it must leave. Of a long log the end alone is read.
    """
    running = [each for each in attempts if each.state is AttemptState.RUNNING]
    if not running:
        return (), ()
    kept = deque((line.text[:_LONGEST] for _, line in logs.lines(running[0].id)), _LINES)
    pattern = next((spec.expression for spec in pipeline.readings if not spec.file and spec.expression), "")
    try:
        reading = collectors.printed(kept, required_metrics(pipeline), pattern)
    except InvalidInput:
        return (), ()
    return reading.metrics, reading.series


def so_far(metrics: Sequence[Metric], pipeline: Pipeline) -> str:
    """The first metric that it must leave, of those printed: ``accuracy 0.91 so far``; empty without one."""
    values = {metric.name: metric.value for metric in metrics}
    found = next((name for name in required_metrics(pipeline) if name in values), "")
    return f"{found} {format_value(values[found])} so far" if found else ""


def curves_so_far(series: Sequence[Series], pipeline: Pipeline) -> tuple[Chart, ...]:
    """A chart of each series that has a curve by now; metrics that it must leave first, then losses."""
    drawable = {each.name: each for each in series if len(each.values) > 1}
    names = most_telling(drawable, required_metrics(pipeline))
    return tuple(curve_chart(drawable[name], pipeline) for name in names)
