"""What the files of a run say: metrics, series, parameters, plots."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.bootstrap import Application
from orchestrator.cli.output import Column, Json, print_table
from orchestrator.domain.codec import to_plain
from orchestrator.domain.collected import Param, Plot, Series
from orchestrator.domain.curves import SeriesFacts
from orchestrator.domain.errors import NotFound
from orchestrator.domain.metrics import Metric, format_value
from orchestrator.domain.run import Run, latest_tries

MOST_SHOWN = 20
"""So many rows of each kind are in ``runs show``; the commands of their own show all."""


def metrics_of(app: Application, run: Run) -> list[tuple[int, Metric]]:
    """The metrics of each replicate's latest try, with the replicate's index, by name."""
    found = [(replicate, m) for replicate, left in app.store.runs.metrics(run.id).items() for m in left]
    return sorted(found, key=lambda each: (each[1].name, each[0]))


def series_of(app: Application, run: Run) -> list[tuple[int, SeriesFacts]]:
    """What the series of each replicate's latest try come to, with the replicate's index."""
    return [
        (attempt.replicate, facts)
        for attempt in latest_tries(app.store.attempts.of_run(run.id))
        for facts in app.store.findings.series_facts(attempt.id)
    ]


def points_of(app: Application, run: Run, name: str) -> list[tuple[int, Series]]:
    """The points of a series, of each replicate that has it. NotFound when none has."""
    found = [
        (attempt.replicate, app.store.findings.series(attempt.id, name))
        for attempt in latest_tries(app.store.attempts.of_run(run.id))
        if name in {facts.name for facts in app.store.findings.series_facts(attempt.id)}
    ]
    if not found:
        names = sorted({facts.name for _, facts in series_of(app, run)})
        there = f"its series are: {', '.join(names[:MOST_SHOWN])}" if names else "it left no series"
        raise NotFound(f"{run.title} has no series {name!r}; {there}")
    return found


def params_of(app: Application, run: Run) -> list[tuple[int, Param]]:
    """The parameters of each replicate's latest try, with the replicate's index."""
    return [
        (attempt.replicate, param)
        for attempt in latest_tries(app.store.attempts.of_run(run.id))
        for param in app.store.findings.params(attempt.id)
    ]


def plots_of(app: Application, run: Run) -> list[tuple[int, Plot]]:
    """The plots of each replicate's latest try, with the replicate's index."""
    return [
        (attempt.replicate, plot)
        for attempt in latest_tries(app.store.attempts.of_run(run.id))
        for plot in app.store.findings.plots(attempt.id)
    ]


def metrics_json(found: Sequence[tuple[int, Metric]]) -> list[Json]:
    """As programs read them."""
    return [{"replicate": replicate, **to_plain(metric)} for replicate, metric in found]


def series_json(found: Sequence[tuple[int, SeriesFacts]]) -> list[Json]:
    """As programs read them."""
    return [{"replicate": replicate, **to_plain(facts)} for replicate, facts in found]


def points_json(found: Sequence[tuple[int, Series]]) -> list[Json]:
    """The points as programs read them: columns of equal length."""
    return [
        {
            "replicate": replicate,
            "name": series.name,
            "steps": [to_plain(_whole(step)) for step in series.steps],
            "values": [to_plain(value) for value in series.values],
            "timestamps": [to_plain(moment) for moment in series.timestamps],
            "source": series.source,
            "reader": series.reader,
        }
        for replicate, series in found
    ]


def params_json(found: Sequence[tuple[int, Param]]) -> list[Json]:
    """As programs read them."""
    return [{"replicate": replicate, **to_plain(param)} for replicate, param in found]


def plots_json(found: Sequence[tuple[int, Plot]]) -> list[Json]:
    """As programs read them: the file is the artifact of that path."""
    told = ("path", "kind", "title", "hints", "source", "reader")
    return [
        {"replicate": replicate, **{name: to_plain(getattr(plot, name)) for name in told}}
        for replicate, plot in found
    ]


def print_metrics(found: Sequence[tuple[int, Metric]], empty: str) -> None:
    """Values, with what their files say of them."""
    rows = [
        (
            metric.name,
            str(replicate),
            f"{format_value(metric.value)} {metric.unit}".strip(),
            "" if metric.stderr is None else format_value(metric.stderr),
            "" if metric.step is None else str(metric.step),
            metric.source,
        )
        for replicate, metric in found
    ]
    titles: list[Column | str] = [Column("metric", elastic=True, least=12), "replicate"]
    titles += [Column(name, right=True) for name in ("value", "stderr", "step")]
    titles.append(Column("source", elastic=True, keep_end=True))
    told = [n for n in range(len(titles)) if n not in (3, 4) or any(row[n] for row in rows)]
    print_table([titles[n] for n in told], [[row[n] for n in told] for row in rows], empty)


def print_series(found: Sequence[tuple[int, SeriesFacts]], empty: str) -> None:
    """What series come to."""
    columns: list[Column | str] = [Column("series", elastic=True, least=12), "replicate"]
    columns += [Column(name, right=True) for name in ("points", "least", "most", "last", "at step")]
    columns.append(Column("source", elastic=True, keep_end=True))
    rows = [
        (
            facts.name,
            str(replicate),
            str(facts.points),
            *map(format_value, (facts.least, facts.most, facts.last, facts.last_step)),
            facts.source,
        )
        for replicate, facts in found
    ]
    print_table(columns, rows, empty)


def print_points(found: Sequence[tuple[int, Series]]) -> None:
    """The points of a series, one line each."""
    rows = [
        (str(replicate), format_value(step), format_value(value))
        for replicate, series in found
        for step, value in zip(series.steps, series.values, strict=True)
    ]
    print_table(("replicate", Column("step", right=True), Column("value", right=True)), rows)


def print_params(found: Sequence[tuple[int, Param]], empty: str) -> None:
    """What a training was told; what all replicates were told alike stands there once."""
    by_name: dict[tuple[str, str, str], list[int]] = {}
    for replicate, param in found:
        by_name.setdefault((param.name, param.text, param.source), []).append(replicate)
    every = sorted({replicate for replicate, _ in found})
    rows = [
        (name, text, "" if replicates == every else ", ".join(map(str, replicates)), source)
        for (name, text, source), replicates in by_name.items()
    ]
    fold = Column("value", fold=True)
    if any(row[2] for row in rows):
        print_table(("parameter", fold, "replicate", "source"), rows, empty)
    else:
        print_table(
            ("parameter", fold, "source"), [(name, text, source) for name, text, _, source in rows], empty
        )


def _whole(step: float) -> float | int:
    return int(step) if math.isfinite(step) and step == int(step) else step
