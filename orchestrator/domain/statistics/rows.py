"""Candidate against baseline by their predictions on the same rows of the evaluation data."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.domain.statistics.bounds import DEFAULT_ALPHA, Interval, Method
from orchestrator.domain.statistics.quantiles import binomial_probability, normal_quantile, t_quantile

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

FEWEST_ROWS: Final = 5
"""Of fewer nothing is said: bounds go by the normal distribution of a mean over many."""
RESAMPLES: Final = 1000
_FEWEST_RESAMPLES: Final = 200
_MOST_DRAWN: Final = 20_000_000
"""Rows times models times resamples: what a bootstrap may cost, in the order of a second."""
_ROUNDING: Final = 1e-12
"""Scores that differ by no more than this share of themselves are equal: rounding alone does that."""
_CHUNK: Final = 2_000_000
"""Weights that are in memory at once."""

Score = Callable[["Floats", "Floats", "Floats"], "Floats"]
"""A metric of weighted rows: labels (rows), predictions (rows), weights (resamples x rows) to one value
each.
"""


@dataclass(frozen=True, slots=True)
class McNemar:
    """Rows on which only one of two models is right. Speaks of these two models, not of how they are made.

    ``p_worse`` is how probable so few gained among the changed rows were if the candidate was as good,
    ``p_better`` the same for so many; both exact and one-sided, ``p_changed`` two-sided.
    """

    lost: int
    gained: int
    rows: int
    p_worse: float
    p_better: float
    p_changed: float

    @property
    def estimate(self) -> float:
        """The gain of accuracy, as a fraction."""
        return (self.gained - self.lost) / self.rows

    def chi_square(self, *, corrected: bool = True) -> float:
        """The classic approximate statistic with one degree of freedom, to compare with other tools."""
        changed = self.lost + self.gained
        difference = max(0, abs(self.lost - self.gained) - (1 if corrected else 0))
        return difference**2 / changed if changed else 0.0


def mcnemar(lost: int, gained: int, rows: int) -> McNemar:
    """Exact McNemar: ``lost`` rows that only the baseline has right, ``gained`` that only the candidate has.

    ValueError: negative counts, no rows, or more changed rows than rows.
    """
    if lost < 0 or gained < 0 or rows < max(1, lost + gained):
        raise ValueError(f"{lost} rows lost and {gained} gained of {rows}: that cannot be")
    changed = lost + gained
    worse = binomial_probability(gained, changed, 0.5)
    better = binomial_probability(lost, changed, 0.5)
    return McNemar(lost, gained, rows, worse, better, min(1.0, 2 * min(worse, better)))


def mcnemar_of_rows(candidate: Sequence[bool], baseline: Sequence[bool]) -> McNemar:
    """Exact McNemar of whether each row is right, in the same order on both sides. ValueError as mcnemar."""
    if len(candidate) != len(baseline):
        raise ValueError(f"{len(candidate)} rows against {len(baseline)}: they must be the same")
    pairs = list(zip(candidate, baseline, strict=True))
    lost = sum(1 for mine, theirs in pairs if theirs and not mine)
    gained = sum(1 for mine, theirs in pairs if mine and not theirs)
    return mcnemar(lost, gained, len(pairs))


def row_order(candidate: Sequence[Hashable], baseline: Sequence[Hashable]) -> tuple[int, ...] | None:
    """For each row id of the baseline its index in the candidate: brings the candidate's rows into its order.

    None where the ids are not the same or one is there twice: then nothing may be compared.
    """
    places = {name: index for index, name in enumerate(candidate)}
    if len(places) != len(candidate) or len(candidate) != len(baseline) or set(baseline) != places.keys():
        return None
    return tuple(places[name] for name in baseline)


def paired_rows(
    candidate: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
    *,
    alpha: float = DEFAULT_ALPHA,
    sign: int = 1,
) -> Interval:
    """The gain of the mean score over rows: one sequence per run, all of the same rows in the same order.

    A score is 1 or 0 for a right or wrong prediction, or any number, such as a row's loss. The standard
    error is of the rows, and, with several runs on a side, of what seeds change beyond single rows. With one
    run on each side the interval speaks of these two models, not of how they are made. Where all scores are
    0 or 1 the standard error is no less than what as many rows without any difference allow; where all rows
    moved by the same amount, no less than what as many rows without an exception allow. ``sd`` is that of
    one run's mean due to seeds, ``df`` that of the standard error: infinite for single runs. Only where no
    row moved at all, and the scores are not 0 and 1, it is DETERMINISTIC. ValueError: runs of different or no
    rows, or a score that is not finite.
    """
    import numpy as np

    mine, theirs = _matrix(candidate), _matrix(baseline)
    if mine.shape[1] != theirs.shape[1]:
        raise ValueError(f"{mine.shape[1]} rows against {theirs.shape[1]}: they must be the same")
    rows = mine.shape[1]
    gains = sign * (mine.mean(axis=0) - theirs.mean(axis=0))
    rounding = _ROUNDING * max(float(np.abs(mine).max()), float(np.abs(theirs).max()))
    if float(np.abs(gains).max()) <= rounding:
        gains = np.zeros(rows)
    gain = float(gains.mean())
    of_rows = float(gains.var(ddof=1)) / rows if rows > 1 else 0.0
    binary = bool(np.isin(mine, (0.0, 1.0)).all() and np.isin(theirs, (0.0, 1.0)).all())
    if binary:
        of_rows = max(of_rows, _exceptions(rows, alpha))
    elif float(np.ptp(gains)) <= rounding:
        of_rows = gain**2 * _exceptions(rows, alpha)
    seeds = _over_seeds(
        [np.asarray(side.mean(axis=1)) for side in (mine, theirs)],
        [
            float(side.var(axis=0, ddof=1).sum()) / rows**2 if len(side) > 1 else 0.0
            for side in (mine, theirs)
        ],
    )
    return _interval(gain, of_rows, seeds, (len(mine), len(theirs)), alpha, Method.ROWS)


def paired_bootstrap(
    score: Score,
    labels: Sequence[float],
    candidate: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
    *,
    seed: int,
    alpha: float = DEFAULT_ALPHA,
    sign: int = 1,
) -> Interval:
    """The gain of a metric that is no mean over rows, such as ``f1`` and ``auc``; otherwise as paired_rows.

    Rows are drawn anew for both sides alike, RESAMPLES times, fewer where there are very many rows;
    resamples on which the metric is not defined are left out. Where other predictions give the same gain on
    all resamples, such as from one class right to all, the standard error is what as many rows without an
    exception allow. ValueError also where it is not defined on the
    rows themselves.
    """
    import numpy as np

    truth = np.asarray(labels, dtype=np.float64)
    sides = _matrix(candidate), _matrix(baseline)
    rows = truth.size
    if any(side.shape[1] != rows for side in sides):
        raise ValueError(
            f"{rows} labels, {sides[0].shape[1]} rows against {sides[1].shape[1]}: they must be the same"
        )
    whole = np.ones((1, rows))
    values = [np.array([score(truth, run, whole)[0] for run in side]) for side in sides]
    if not all(np.isfinite(value).all() for value in values):
        raise ValueError("the metric is not defined on these rows: are all labels the same?")
    random = np.random.default_rng(seed)
    models = sum(len(side) for side in sides)
    # The error shrinks with the number of rows as is known: many rows need not all be drawn to find it.
    used = min(rows, max(1, _MOST_DRAWN // (models * _FEWEST_RESAMPLES)))
    if used < rows:
        chosen = random.choice(rows, used, replace=False)
        truth, sides = truth[chosen], (sides[0][:, chosen], sides[1][:, chosen])
    mine, theirs = _resampled(score, truth, sides, min(RESAMPLES, _MOST_DRAWN // (used * models)), random)
    gain = sign * float(values[0].mean() - values[1].mean())
    of_rows = float((mine.mean(axis=0) - theirs.mean(axis=0)).var(ddof=1)) * used / rows
    if of_rows <= _ROUNDING**2 and any((run != sides[0][0]).any() for side in sides for run in side):
        of_rows = _exceptions(rows, alpha)
    seeds = _over_seeds(values, [_apart(side) * used / rows for side in (mine, theirs)])
    return _interval(gain, of_rows, seeds, (len(mine), len(theirs)), alpha, Method.BOOTSTRAP)


def _resampled(
    score: Score, labels: Floats, sides: tuple[Floats, Floats], count: int, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """The metric of each run, runs x resamples, where it is defined for all of them."""
    import numpy as np

    rows = labels.size
    chunk = max(1, _CHUNK // rows)
    parts: tuple[list[Floats], list[Floats]] = ([], [])
    for start in range(0, count, chunk):
        weights = np.array(
            [
                np.bincount(random.integers(0, rows, rows, dtype=np.int32), minlength=rows)
                for _ in range(min(chunk, count - start))
            ],
            dtype=np.float64,
        )
        for side, part in zip(sides, parts, strict=True):
            part.append(np.stack([score(labels, run, weights) for run in side]))
    mine, theirs = (np.concatenate(part, axis=1) for part in parts)
    defined = np.isfinite(mine).all(axis=0) & np.isfinite(theirs).all(axis=0)
    if defined.sum() < count / 2:
        raise ValueError("the metric is not defined on most resamples of these rows: too few of one label")
    return mine[:, defined], theirs[:, defined]


def f1(labels: Floats, predictions: Floats, weights: Floats) -> Floats:
    """F1 of the positive class: labels and predictions are 1 or 0. NaN where neither has a positive."""
    import numpy as np

    both = weights @ (labels * predictions)
    positives = weights @ labels + weights @ predictions
    ratio: Floats = np.divide(2 * both, positives, out=np.full_like(both, np.nan), where=positives > 0)
    return ratio


def auc(labels: Floats, predictions: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve of scores, ties counted half. NaN where all labels are the same."""
    import numpy as np

    order = np.argsort(predictions, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(predictions[order]) != 0])
    # Rows come first from here on: reordering then moves whole lines of memory.
    ordered = np.ascontiguousarray(weights.T)[order]
    lost = np.where((labels[order] > 0.5)[:, None], 0.0, ordered)
    won = ordered - lost
    if len(starts) < len(order):
        won, lost = np.add.reduceat(won, starts, axis=0), np.add.reduceat(lost, starts, axis=0)
    below = np.cumsum(lost, axis=0)
    pairs = won.sum(axis=0) * below[-1]
    below -= lost / 2
    area = np.einsum("ij,ij->j", won, below)
    share: Floats = np.divide(area, pairs, out=np.full_like(area, np.nan), where=pairs > 0)
    return share


def _matrix(runs: Sequence[Sequence[float]]) -> Floats:
    import numpy as np

    if not len(runs) or len({len(run) for run in runs}) != 1 or not len(runs[0]):
        raise ValueError("expected at least one run, each of the same rows, one at least")
    matrix: Floats = np.asarray(runs, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise ValueError("expected a finite score for each row")
    return matrix


def _exceptions(rows: int, alpha: float) -> float:
    """The squared standard error with which the bound is the share of rows that may be unlike all these."""
    return (-math.log(alpha) / (normal_quantile(1 - alpha) * rows)) ** 2


def _apart(values: Floats) -> float:
    """The variance over seeds that rows alone explain: how runs of one side part, by resamples."""
    runs = len(values)
    if runs < 2:
        return 0.0
    return float((values - values.mean(axis=0)).var(axis=1, ddof=1).mean()) * runs / (runs - 1)


@dataclass(frozen=True, slots=True)
class _Seeds:
    """How a run's score varies over seeds, pooled over both sides: ``beyond`` what rows explain, and all."""

    beyond: float = 0.0
    total: float = 0.0
    df: int = 0


def _over_seeds(scores: Sequence[Floats], by_rows: Sequence[float]) -> _Seeds:
    """From the scores of each side's runs, and the variance between them that rows alone explain."""
    df = sum(len(side) - 1 for side in scores)
    if not df:
        return _Seeds()
    several = [
        (len(s) - 1, float(s.var(ddof=1)), rows)
        for s, rows in zip(scores, by_rows, strict=True)
        if len(s) > 1
    ]
    total = sum(count * variance for count, variance, _ in several) / df
    rows = sum(count * variance for count, _, variance in several) / df
    return _Seeds(max(0.0, total - rows), total, df)


def _interval(
    gain: float, of_rows: float, seeds: _Seeds, counts: tuple[int, int], alpha: float, method: Method
) -> Interval:
    k_c, k_b = counts
    share = 1 / k_c + 1 / k_b
    se, sd = math.sqrt(of_rows + seeds.beyond * share), math.sqrt(seeds.beyond)
    if se == 0:
        return Interval(gain, gain, gain, 0.0, 0.0, 0.0, alpha, 0.0, Method.DETERMINISTIC, k_c, k_b)
    # The part of rows, which are many, is well known; that of seeds by as few degrees as there are seeds.
    df = seeds.df * max(1.0, se**2 / (seeds.total * share)) ** 2 if seeds.total else math.inf
    critical = t_quantile(1 - alpha, df)
    return Interval(
        gain, gain - critical * se, gain + critical * se, se, df, sd, alpha, critical, method, k_c, k_b
    )
