"""Putting together what the files of one attempt say: which of two counts, and how much is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from orchestrator.domain.collected import Param, Plot, Reading, Series
from orchestrator.domain.curves import KeptSeries, kept_series
from orchestrator.domain.metrics import Metric, format_apart
from orchestrator.domain.pipeline import Limits

T = TypeVar("T")

_SAME = 1e-6
"""Relative difference up to which two values are the same: some formats keep numbers with 24 bits."""
_TOLD = 10
"""So many pairs of files that differ are told of one by one."""
_IMPRECISE = frozenset({"tensorboard"})
"""Readers of formats that keep fewer digits than the others: of two equal values the other's is kept."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was read at once. ``declared``: the pipeline names where it stood, and so it goes first."""

    declared: bool
    reading: Reading


@dataclass(slots=True)
class Findings:
    """All that the files of one attempt say, each name once."""

    metrics: list[Metric] = field(default_factory=list)
    series: list[KeptSeries] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """What is not kept, and why."""
    conflict: str = ""
    """Why a judged metric is not known: two files say different things of it."""


def put_together(found: Sequence[Found], judged: Collection[str], limits: Limits) -> Findings:
    """One value for each name.

    Where two files have a metric with different values, the one that the pipeline declares counts, and a
    warning says so. Where it declares both, or none, a metric that a gate judges is in conflict; of any other
    the one read first counts, with a warning.
    """
    made = Findings()
    ordered = sorted(found, key=lambda each: (not each.declared, _is_imprecise(each.reading)))
    _add_metrics(made, ordered, judged, limits.metrics)
    _add_series(made, [s for each in ordered for s in each.reading.series], limits)
    _add_params(made, [p for each in ordered for p in each.reading.params], limits.params)
    plots: dict[str, Plot] = {}
    for plot in (p for each in ordered for p in each.reading.plots):
        plots.setdefault(plot.path, plot)
    made.plots = _up_to(list(plots.values()), limits.plots, made, lambda p: f"plot {p.path}", "plots")
    for each in ordered:
        made.warnings += each.reading.warnings
    return made


def _is_imprecise(reading: Reading) -> bool:
    return any(metric.reader in _IMPRECISE for metric in reading.metrics[:1])


def _add_metrics(made: Findings, found: Sequence[Found], judged: Collection[str], most: int) -> None:
    kept: dict[str, tuple[Metric, bool]] = {}
    others: list[tuple[Metric, Metric, bool]] = []
    for each in found:
        for metric in each.reading.metrics:
            first, declared = kept.setdefault(metric.name, (metric, each.declared))
            if not _same(first.value, metric.value):
                others.append((first, metric, declared and not each.declared))
            elif first is not metric:
                kept[metric.name] = (_with_what_is_told(first, metric), declared)
    metrics = [metric for metric, _ in kept.values()]
    # Those that are judged are kept whatever else there is.
    metrics.sort(key=lambda metric: metric.name not in judged)
    made.metrics = _up_to(metrics, most, made, lambda m: f"metric {m.name} of {m.source}", "metrics")
    for number, (first, other, one_is_declared) in enumerate(others):
        one, two = format_apart(first.value, other.value), format_apart(other.value, first.value)
        told = f"{first.name} is {one} in {first.source} and {two} in {other.source}"
        if one_is_declared:
            told += ", which is not declared: the first counts"
        elif first.name in judged:
            made.conflict = made.conflict or (
                f"{told}: which one counts is not clear; name that file under collect: alone"
            )
            continue
        else:
            told += ": the first counts"
        if number < _TOLD:
            made.warnings.append(told)
    if len(others) > _TOLD:
        made.warnings.append(f"{len(others) - _TOLD} more metrics have different values in two files")


def _same(one: float, other: float) -> bool:
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=_SAME)


def _with_what_is_told(metric: Metric, other: Metric) -> Metric:
    """What another file says of the same value, where the first one is silent."""
    return replace(
        metric,
        step=other.step if metric.step is None else metric.step,
        timestamp=other.timestamp if metric.timestamp is None else metric.timestamp,
        stderr=other.stderr if metric.stderr is None else metric.stderr,
        direction=metric.direction or other.direction,
        unit=metric.unit or other.unit,
    )


def _add_series(made: Findings, series: Sequence[Series], limits: Limits) -> None:
    kept: dict[str, Series] = {}
    for each in series:
        first = kept.setdefault(each.name, each)
        if first is not each and first.values != each.values:
            made.left_out.append(
                (f"series {each.name} of {each.source}", f"that of {first.source} is kept under this name")
            )
    wanted = _up_to(list(kept.values()), limits.series, made, lambda s: f"series {s.name}", "series")
    share = _share([len(each.values) for each in wanted], limits.points)
    for each in wanted:
        thinned = kept_series(each, share)
        made.series.append(thinned)
        if thinned.facts.kept < thinned.facts.points:
            why = f"{thinned.facts.kept} of its {thinned.facts.points} points are kept"
            most = f"all series of a run may have {limits.points} (storage.limits.points)"
            made.left_out.append((f"series {each.name}", f"{why}, as {most}"))


def _add_params(made: Findings, params: Sequence[Param], most: int) -> None:
    kept: dict[str, Param] = {}
    differing: list[str] = []
    for param in params:
        first = kept.setdefault(param.name, param)
        if first.text != param.text:
            differing.append(
                f"parameter {param.name} is {first.text[:80]!r} in {first.source} and {param.text[:80]!r} in"
                f" {param.source}: the first is shown"
            )
    made.warnings += differing[:_TOLD]
    if len(differing) > _TOLD:
        made.warnings.append(f"{len(differing) - _TOLD} more parameters differ between two files")
    made.params = _up_to(list(kept.values()), most, made, lambda p: f"parameter {p.name}", "params")


def _share(lengths: Sequence[int], most: int) -> int:
    """The longest that a series may be, so that all together have no more than ``most`` points."""
    left = most
    for count, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - count)
        if length > share:
            return share
        left -= length
    return max(lengths, default=most)


def _up_to(items: list[T], most: int, made: Findings, name: Callable[[T], str], limit: str) -> list[T]:
    made.left_out += [
        (name(item), f"there are more than {most}, storage.limits.{limit}") for item in items[most:]
    ]
    return items[:most]
