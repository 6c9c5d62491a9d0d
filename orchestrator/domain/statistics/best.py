"""Which of several commits is best, when each is known by a few noisy runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.domain.statistics.noise import Noise, mean, squares
from orchestrator.domain.statistics.quantiles import t_quantile


def rank_by_lower_bound(
    groups: Sequence[Sequence[float]], ledger: Noise | None, *, sign: int = 1, alpha: float = 0.05
) -> tuple[int, ...]:
    """Indices of ``groups``, the best first: by the lower bound of each one's mean, so that few lucky runs
    rank low.

    The noise is one for all of them: that within groups, pooled with the ledger (which must not hold their
    runs). Where there is none at all, by their means. Earlier groups win ties. The highest of several means
    is too high: the value of the winner is to be estimated from fresh runs alone. ValueError: an empty
    group, or a value that is not finite.
    """
    if not all(group and all(map(math.isfinite, group)) for group in groups):
        raise ValueError("expected at least one value in each group, all of them finite")
    df = sum(len(group) - 1 for group in groups) + (ledger.df if ledger else 0)
    noise = 0.0
    if df:
        known = ledger.df * ledger.sd**2 if ledger else 0.0
        noise = math.sqrt((known + math.fsum(map(squares, groups))) / df) * t_quantile(1 - alpha, df)
    bounds = [sign * mean(group) - noise / math.sqrt(len(group)) for group in groups]
    return tuple(sorted(range(len(groups)), key=lambda index: -bounds[index]))
