"""What a gate can show: the smallest change it sees, the replicates and the rows that a wanted one needs."""

from __future__ import annotations

import math
from typing import Final

from orchestrator.domain.statistics.looks import Bound
from orchestrator.domain.statistics.quantiles import normal_quantile, t_power, t_probability, t_quantile

MAX_REPLICATES: Final = 1000
"""Beyond as many replicates nobody trains: the change is too small for this metric."""


def power(change: float, candidate_n: int, baseline_n: int, ledger_df: int = 0, alpha: float = 0.05) -> float:
    """How probably a true change of ``change`` noise sds beyond the limit is seen as such.

    ``baseline_n`` 0: against a fixed number.
    """
    df = _df(candidate_n, baseline_n, ledger_df)
    if df < 1:
        return 0.0
    shift = change / math.sqrt(1 / candidate_n + (1 / baseline_n if baseline_n else 0))
    return t_power(df, shift, t_quantile(1 - alpha, df))


def level_of_last_look(looks: Bound, baseline_n: int, ledger_df: int) -> float:
    """The level of the last of several looks alone: what is seen at all of them is seen at least as often."""
    if looks.critical is None:
        return looks.each
    return 1 - t_probability(looks.critical, _df(looks.looks[-1], baseline_n, ledger_df))


def _df(candidate_n: int, baseline_n: int, ledger_df: int) -> int:
    return ledger_df + candidate_n - 1 + (baseline_n - 1 if baseline_n else 0)


def detectable(
    candidate_n: int, baseline_n: int, ledger_df: int = 0, alpha: float = 0.05, wanted: float = 0.8
) -> float:
    """The smallest change, in noise sds beyond the limit, that is seen with probability ``wanted``.

    Infinite where there is no noise to judge by.
    """
    if _df(candidate_n, baseline_n, ledger_df) < 1:
        return math.inf
    low, high = 0.0, 1.0
    while power(high, candidate_n, baseline_n, ledger_df, alpha) < wanted:
        high *= 2
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        if power(middle, candidate_n, baseline_n, ledger_df, alpha) < wanted:
            low = middle
        else:
            high = middle
    return high


def replicates_needed(
    change: float,
    baseline_n: int | None = None,
    ledger_df: int = 0,
    alpha: float = 0.05,
    wanted: float = 0.8,
) -> int | None:
    """Replicates of the candidate that see a change of ``change`` noise sds with probability ``wanted``.

    ``baseline_n`` None: as many on either side; 0: against a fixed number. None: not even
    MAX_REPLICATES would do.
    """
    for count in range(1, MAX_REPLICATES + 1):
        if power(change, count, count if baseline_n is None else baseline_n, ledger_df, alpha) >= wanted:
            return count
    return None


def rows_needed(change: float, changed: float, alpha: float = 0.05, wanted: float = 0.8) -> int:
    """Rows of a test set that show a difference of accuracy of ``change`` between two models, as a fraction.

    ``changed`` is the share of rows on which only one of the two is right. ValueError: not
    0 < change <= changed <= 1.
    """
    if not 0 < change <= changed <= 1:
        raise ValueError(f"expected 0 < change <= changed <= 1, not {change} and {changed}")
    quantiles = normal_quantile(1 - alpha) + normal_quantile(wanted)
    return max(1, math.ceil(quantiles**2 * (changed - change**2) / change**2))


def noether(probability: float, alpha: float = 0.05, beta: float = 0.05) -> int:
    """Pairs of runs that show P(candidate > baseline) >= ``probability`` without any belief about their
    noise.
    """
    quantiles = normal_quantile(1 - alpha) - normal_quantile(beta)
    return math.ceil(quantiles**2 / (6 * (0.5 - probability) ** 2))


def prediction_limit(level: float, count: int | None) -> float:
    """How many sds above the mean of ``count`` values the next one lies with probability 1 - ``level`` at
    most.

    ``count`` None: mean and sd are known.
    """
    if count is None:
        return normal_quantile(level)
    return t_quantile(level, count - 1) * math.sqrt(1 + 1 / count)
