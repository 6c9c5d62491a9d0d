"""Slow change over the history of commits: E-divisive change points of their means (energy distance)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

MAX_HISTORY: Final = 200
"""Older commits are not looked at."""
MIN_SEGMENT: Final = 3
"""Neither one odd commit nor the newest alone is a change."""
_PERMUTATIONS: Final = 1999
LEAST_PVALUE: Final = 1 / (1 + _PERMUTATIONS)
"""No p-value by so many permutations is smaller."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """The level changed at ``index``, the first commit after it, from ``before`` to ``after``."""

    index: int
    before: float
    after: float
    pvalue: float

    @property
    def magnitude(self) -> float:
        """By how much, without sign."""
        return abs(self.after - self.before)


def change_points(
    history: Sequence[float], *, seed: int, max_pvalue: float = 0.001, min_magnitude: float = 0.0
) -> tuple[ChangePoint, ...]:
    """Where the level of ``history``, means of commits from the oldest on, changed; in that order.

    A change counts with a p-value below ``max_pvalue``, by permutations, and a magnitude of at least
    ``min_magnitude`` between the segments on its two sides. Only the last MAX_HISTORY values are looked at;
    indices count from the beginning of what was given. It tells when a level changed, after MIN_SEGMENT
    commits at the soonest, and never judges the newest. ValueError: a value is not finite, or
    ``max_pvalue`` is LEAST_PVALUE or less, which no change could be below.
    """
    import numpy as np

    if max_pvalue <= LEAST_PVALUE:
        raise ValueError(f"expected a p-value above {LEAST_PVALUE}")
    start = max(0, len(history) - MAX_HISTORY)
    values = np.asarray(history[start:], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("expected finite values")
    random = np.random.default_rng(seed)
    found: dict[int, float] = {}
    waiting = [(0, len(values))]
    while waiting:
        low, high = waiting.pop()
        if high - low < 2 * MIN_SEGMENT:
            continue
        at, pvalue = _strongest(values[low:high], random, max_pvalue)
        if pvalue < max_pvalue:
            found[low + at] = pvalue
            waiting += [(low, low + at), (low + at, high)]
    return _large_enough(values, found, start, min_magnitude)


def _strongest(values: Floats, random: np.random.Generator, max_pvalue: float) -> tuple[int, float]:
    """The best place to split, and its p-value; the p-value is cut short once it is not below
    ``max_pvalue``.
    """
    import numpy as np

    distances = np.abs(values[:, None] - values[None, :])
    statistics = _split_statistics(distances)
    observed, at = float(statistics.max()), int(statistics.argmax()) + MIN_SEGMENT
    beyond = 0
    for _ in range(_PERMUTATIONS):
        order = random.permutation(len(values))
        beyond += bool(_split_statistics(distances[np.ix_(order, order)]).max() >= observed)
        if (1 + beyond) / (1 + _PERMUTATIONS) >= max_pvalue:
            break
    return at, (1 + beyond) / (1 + _PERMUTATIONS)


def _split_statistics(distances: Floats) -> Floats:
    """The scaled energy distance between what is before and after each possible split."""
    import numpy as np

    n = len(distances)
    to_earlier = np.tril(distances).sum(axis=1)
    within_before = np.cumsum(to_earlier)
    total_to = distances.sum(axis=1)
    total = within_before[-1]
    # Pairs across a split: all distances of the earlier ones, less twice those among themselves.
    across = np.cumsum(total_to) - 2 * within_before
    within_after = total - within_before - across
    split = np.arange(1, n + 1, dtype=np.float64)
    before, after = split, n - split
    use = slice(MIN_SEGMENT - 1, n - MIN_SEGMENT)
    m, k = before[use], after[use]
    energy = (
        2 * across[use] / (m * k)
        - 2 * within_before[use] / (m * (m - 1))
        - 2 * within_after[use] / (k * (k - 1))
    )
    return np.asarray(m * k / (m + k) * energy)


def _large_enough(
    values: Floats, found: dict[int, float], start: int, min_magnitude: float
) -> tuple[ChangePoint, ...]:
    """The change points that remain when those of too little magnitude are taken away, the smallest first."""
    kept = dict(found)
    while True:
        edges = [0, *sorted(kept), len(values)]
        points = [
            ChangePoint(start + at, float(values[low:at].mean()), float(values[at:high].mean()), kept[at])
            for low, at, high in zip(edges, edges[1:], edges[2:], strict=False)
        ]
        smallest = min(points, key=lambda point: point.magnitude, default=None)
        if smallest is None or smallest.magnitude >= min_magnitude:
            return tuple(points)
        del kept[smallest.index - start]
