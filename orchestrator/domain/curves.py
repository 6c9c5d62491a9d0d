"""Series as they are kept and drawn: what they come to, and fewer points of the same shape."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.collected import Series


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """A series without its points.

    ``points`` were written, ``kept`` of them are stored. ``least`` and ``most`` are of the finite values, NaN
    where there are none; ``last`` is the last value, of ``last_step``, and may be NaN or infinite.
    """

    name: str
    points: int
    kept: int
    least: float
    most: float
    last: float
    last_step: float
    source: str = ""
    reader: str = ""


@dataclass(frozen=True, slots=True)
class KeptSeries:
    """A series as it is stored, with what is true of all that was written."""

    facts: SeriesFacts
    series: Series


def facts_of(series: Series, kept: int | None = None) -> SeriesFacts:
    """What a series comes to; ``kept`` of its points are stored, None: all. It must not be empty."""
    least, most = math.inf, -math.inf
    for value in series.values:
        if math.isfinite(value):
            least, most = min(least, value), max(most, value)
    if least > most:
        least = most = math.nan
    points = len(series.values)
    return SeriesFacts(
        series.name,
        points,
        points if kept is None else kept,
        least,
        most,
        series.values[-1],
        series.steps[-1],
        series.source,
        series.reader,
    )


def kept_series(series: Series, most: int) -> KeptSeries:
    """A series with at most so many points. It must not be empty."""
    thinned = thin(series, most)
    return KeptSeries(facts_of(series, len(thinned.values)), thinned)


def thin(series: Series, most: int) -> Series:
    """A series of the same shape with at most ``most`` points, which is 4 or more; a short one as it is.

    The first and the last point stay. What lies between is cut into stretches of equally many points, and of
    each its lowest and its highest stay, in their order, so that a peak of a single point is still there.
    Values that are not numbers stay where a stretch has nothing else.
    """
    count = len(series.values)
    most = max(most, 4)
    if count <= most:
        return series
    chosen = array("q", _chosen(series.values, most))
    return replace(
        series,
        steps=array("d", (series.steps[at] for at in chosen)),
        values=array("d", (series.values[at] for at in chosen)),
        timestamps=array("d", (series.timestamps[at] for at in chosen if series.timestamps)),
    )


def _chosen(values: Sequence[float], most: int) -> Iterator[int]:
    count = len(values)
    stretches = (most - 2) // 2
    yield 0
    for stretch in range(stretches):
        begin = 1 + stretch * (count - 2) // stretches
        end = 1 + (stretch + 1) * (count - 2) // stretches
        finite = [at for at in range(begin, end) if math.isfinite(values[at])]
        if not finite:
            yield begin
            continue
        low = min(finite, key=values.__getitem__)
        high = max(finite, key=values.__getitem__)
        yield min(low, high)
        if low != high:
            yield max(low, high)
    yield count - 1
