"""Candidate against baseline by their replicates: the difference and its one-sided bounds.

Everywhere in this package a difference is a *gain*: ``sign * (candidate - baseline)``, sign +1 where higher
is better and -1 where lower is, so that a positive one is good news.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orchestrator.domain.statistics.looks import Bound
from orchestrator.domain.statistics.noise import Noise, mean, squares
from orchestrator.domain.statistics.quantiles import f_quantile, t_probability, t_quantile

DEFAULT_ALPHA: Final = 0.05
VARIANCE_ALPHA: Final = 0.025
"""How often an equally noisy candidate is taken for a noisier one, which costs power; see
docs/statistics.md.
"""
_ROUNDING: Final = 1e-12
"""Values that differ by no more than this share of themselves are equal: rounding alone does that."""


class Method(StrEnum):
    """How an interval was made."""

    LEDGER = "t with noise ledger"
    STUDENT = "Student's t"
    WELCH = "Welch's t"
    PAIRED_SEEDS = "t over pairs of seeds"
    ROWS = "paired rows"
    BOOTSTRAP = "paired bootstrap over rows"
    UNREPLICATED = "unreplicated"
    DETERMINISTIC = "deterministic"

    @property
    def is_point(self) -> bool:
        """Whether there is no variance to go by, so that bounds are the estimate itself."""
        return self in (Method.UNREPLICATED, Method.DETERMINISTIC)


@dataclass(frozen=True, slots=True)
class Interval:
    """A gain with one-sided bounds, each at confidence 1 - ``alpha``, all in the metric's unit.

    ``lower > c`` shows a gain above c, ``upper < c`` one below; anything else shows nothing about c. ``sd``
    is the noise of one run that was gone by, ``critical`` the number of standard errors between estimate and
    bounds.
    ``looks`` is the number of looks that the bounds allow for. For point methods sd, se, df and critical are
    0 and both bounds are the estimate.
    """

    estimate: float
    lower: float
    upper: float
    se: float
    df: float
    sd: float
    alpha: float
    critical: float
    method: Method
    candidate_n: int
    baseline_n: int
    variance_increased: bool = False
    ledger: Noise | None = None
    looks: int = 1

    def p_above(self, gain: float) -> float:
        """How probable such an estimate, or a higher one, were if the true gain was ``gain``.

        Below alpha exactly where ``lower > gain``, but for bounds over several looks, which this knows
        nothing of.
        """
        if self.se == 0:
            return 0.0 if self.estimate > gain else 1.0
        return t_probability((gain - self.estimate) / self.se, self.df)

    def p_below(self, gain: float) -> float:
        """How probable such an estimate, or a lower one, were if the true gain was ``gain``; see p_above."""
        if self.se == 0:
            return 0.0 if self.estimate < gain else 1.0
        return t_probability((self.estimate - gain) / self.se, self.df)


def compare(
    candidate: Sequence[float],
    baseline: Sequence[float],
    ledger: Noise | None = None,
    *,
    alpha: float = DEFAULT_ALPHA,
    sign: int = 1,
    resolution: float = 0.0,
    bound: Bound | None = None,
    equal_noise: bool = False,
) -> Interval:
    """The gain of the mean of ``candidate`` over that of ``baseline``, one value per replicate.

    With a ledger, both sides and the ledger are one estimate of the noise; where the candidate's own noise is
    beyond the ledger's by an F test at VARIANCE_ALPHA, Welch's t takes its place and ``variance_increased``
    is set; ``equal_noise`` takes it for granted instead that it is not. A ledger of no noise at all is left
    out where there is some, which ``variance_increased`` tells as well. Without a ledger it is Student's t
    for as many replicates on either side, or for a single one on one side (which then lends the other's
    variance), else Welch's. Two single runs and no ledger: UNREPLICATED. Replicates, and a ledger if there
    is one, that do not vary at all: DETERMINISTIC.

    The noise is never taken as less than ``resolution``, the smallest step of the metric (one over the
    number of rows for an accuracy); 0: unknown. ``bound`` is for sequential looks; alpha is then the
    bound's. The ledger must not hold the compared runs, and must stay the same from look to look.
    ValueError: a side is empty, or a value is not finite (a replicate that failed is to be judged, never
    dropped).
    """
    _require_finite(candidate, baseline)
    gain = sign * (mean(candidate) - mean(baseline))
    k_c, k_b = len(candidate), len(baseline)
    own, other = _squares(candidate), _squares(baseline)
    if own == other == 0 and (ledger is None or ledger.sd == 0):
        replicated = k_c > 1 or k_b > 1 or ledger is not None
        return _point(gain, alpha, k_c, k_b, Method.DETERMINISTIC if replicated else Method.UNREPLICATED)
    contradicted = ledger is not None and ledger.sd == 0
    if contradicted:
        # It knew of no noise at all, and there is some: it would make that look smaller.
        ledger, bound = None, Bound(bound.looks, bound.alpha) if bound else None
    increased = ledger is not None and not equal_noise and _increased(own, k_c, ledger)
    ledger_df = ledger.df if ledger else 0
    known = (ledger.df * ledger.sd**2 if ledger else 0.0) + other
    pooled_df = ledger_df + k_c + k_b - 2
    if (ledger is not None and not increased) or (ledger is None and (k_c == k_b or 1 in (k_c, k_b))):
        sd = max(math.sqrt((known + own) / pooled_df), resolution)
        se, df = sd * math.sqrt(1 / k_c + 1 / k_b), float(pooled_df)
        method = Method.LEDGER if ledger else Method.STUDENT
    else:
        # The ledger's runs are like the baseline's: what is in doubt is the candidate's noise alone.
        of_candidate = max(own / (k_c - 1), resolution**2)
        of_baseline = max(known / (ledger_df + k_b - 1), resolution**2)
        se, df = _welch(of_candidate / k_c, k_c - 1, of_baseline / k_b, ledger_df + k_b - 1)
        sd, method = math.sqrt(of_candidate), Method.WELCH
    critical = _critical(method, alpha, df, pooled_df, bound)
    return Interval(
        gain,
        gain - critical * se,
        gain + critical * se,
        se,
        df,
        sd,
        bound.alpha if bound else alpha,
        critical,
        method,
        k_c,
        k_b,
        increased or contradicted,
        ledger,
        len(bound.looks) if bound else 1,
    )


def compare_with_constant(
    candidate: Sequence[float],
    constant: float,
    ledger: Noise | None = None,
    *,
    alpha: float = DEFAULT_ALPHA,
    sign: int = 1,
    resolution: float = 0.0,
) -> Interval:
    """The gain of the mean of ``candidate`` over a fixed number, such as a threshold; else as compare."""
    _require_finite(candidate, (constant,))
    gain = sign * (mean(candidate) - constant)
    n, own = len(candidate), _squares(candidate)
    if own == 0 and (ledger is None or ledger.sd == 0):
        replicated = n > 1 or ledger is not None
        return _point(gain, alpha, n, 0, Method.DETERMINISTIC if replicated else Method.UNREPLICATED)
    increased = ledger is not None and (ledger.sd == 0 or _increased(own, n, ledger))
    used = None if increased else ledger
    df = (used.df if used else 0) + n - 1
    sd = max(math.sqrt(((used.df * used.sd**2 if used else 0.0) + own) / df), resolution)
    se, critical = sd / math.sqrt(n), t_quantile(1 - alpha, df)
    return Interval(
        gain,
        gain - critical * se,
        gain + critical * se,
        se,
        df,
        sd,
        alpha,
        critical,
        Method.LEDGER if used else Method.STUDENT,
        n,
        0,
        increased,
        ledger,
    )


def compare_paired(
    candidate: Sequence[float],
    baseline: Sequence[float],
    *,
    alpha: float = DEFAULT_ALPHA,
    sign: int = 1,
    resolution: float = 0.0,
) -> Interval:
    """The mean gain over pairs of runs with the same seed, in the same order on both sides.

    Only where a person asked for it: it helps where seeds move both sides alike, and costs half of the
    degrees of freedom where they do not. ValueError: not as many on both sides, none, or a value is not
    finite.
    """
    _require_finite(candidate, baseline)
    if len(candidate) != len(baseline):
        raise ValueError(f"pairs need as many values on both sides, not {len(candidate)} and {len(baseline)}")
    gains = [sign * (mine - theirs) for mine, theirs in zip(candidate, baseline, strict=True)]
    n, gain, own = len(gains), mean(gains), squares(gains)
    largest = max(map(abs, (*candidate, *baseline)))
    if max(gains) - min(gains) <= _ROUNDING * largest:
        return _point(gain, alpha, n, n, Method.DETERMINISTIC if n > 1 else Method.UNREPLICATED)
    sd = max(math.sqrt(own / (n - 1)), resolution)
    se, critical = sd / math.sqrt(n), t_quantile(1 - alpha, n - 1)
    low, high = gain - critical * se, gain + critical * se
    return Interval(gain, low, high, se, n - 1, sd, alpha, critical, Method.PAIRED_SEEDS, n, n)


def is_deterministic(values: Sequence[float]) -> bool:
    """Whether replicates, two at least, gave the same finite value each time: further ones teach nothing."""
    return len(values) > 1 and all(map(math.isfinite, values)) and _equal(values)


def _equal(values: Sequence[float]) -> bool:
    return max(values) - min(values) <= _ROUNDING * max(map(abs, values))


def _squares(values: Sequence[float]) -> float:
    return 0.0 if _equal(values) else squares(values)


def _require_finite(*sides: Sequence[float]) -> None:
    for side in sides:
        if not side or not all(map(math.isfinite, side)):
            raise ValueError(f"expected at least one value, all of them finite, not {list(side)}")


def _point(gain: float, alpha: float, k_c: int, k_b: int, method: Method) -> Interval:
    return Interval(gain, gain, gain, 0.0, 0.0, 0.0, alpha, 0.0, method, k_c, k_b)


def _increased(own: float, k_c: int, ledger: Noise) -> bool:
    if k_c < 2:
        return False
    return own / (k_c - 1) / ledger.sd**2 > f_quantile(1 - VARIANCE_ALPHA, k_c - 1, ledger.df)


def _welch(first: float, first_df: int, second: float, second_df: int) -> tuple[float, float]:
    """Standard error and degrees of freedom of a difference of means, from the variances of the means."""
    total = first + second
    # Shares, not squares of variances: those of small numbers can vanish.
    df = 1 / ((first / total) ** 2 / first_df + (second / total) ** 2 / second_df)
    return math.sqrt(total), df


def _critical(method: Method, alpha: float, df: float, pooled_df: int, bound: Bound | None) -> float:
    if bound is None:
        return t_quantile(1 - alpha, df)
    if bound.critical is None:
        return t_quantile(1 - bound.each, df)
    if method is Method.LEDGER:
        return bound.critical
    # The bound was found for the pooled noise. Others are held to the level that it has there at this look.
    level = min(1 - t_probability(bound.critical, pooled_df), bound.alpha)
    return t_quantile(1 - level, df)
