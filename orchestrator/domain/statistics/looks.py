"""Sequential looks: one bound for all of them, so that looking several times costs no more than alpha in
all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

_SEED: Final = 20_570_548
_TRIALS: Final = 400_000
_MOST_DRAWN: Final = 2_400_000
"""Trials times looks: what a bound may cost, in the order of a third of a second."""
_FEWEST_BEYOND: Final = 400
"""A simulated quantile with fewer trials beyond it is not trusted."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What the bounds at each of several looks are made with.

    ``critical`` is the one number of standard errors for every look, for a comparison by pooled noise; None:
    each look is made at ``each``, that is alpha over the number of looks, which is always safe.
    """

    looks: tuple[int, ...]
    alpha: float
    critical: float | None = None

    @property
    def each(self) -> float:
        """The level of a single look where there is no common bound."""
        return self.alpha / len(self.looks)


def bound(looks: Sequence[int], baseline_n: int, ledger_df: int, alpha: float = 0.05) -> Bound:
    """The bound for candidates that are looked at with ``looks`` replicates, e.g. 2, 4 and 8.

    ``baseline_n`` is the number of the baseline's values, 0 for a fixed limit, ``ledger_df`` the ledger's
    degrees of freedom, 0 without one (and then each look is made at alpha over their number). With m guards,
    or m claims of which any is enough, ask at alpha / m. Simulated with a fixed seed, so that it is the same
    on every call and machine with the same numpy; the first call for given arguments takes up to a third of a
    second of processor time. ValueError: looks that do not grow, or that begin below 1.
    """
    sizes = tuple(looks)
    if not sizes or sizes[0] < 1 or any(b <= a for a, b in pairwise(sizes)):
        raise ValueError(f"expected growing numbers of replicates, from 1, not {list(looks)}")
    if len(sizes) == 1 or ledger_df < 1:
        return Bound(sizes, alpha)
    return Bound(sizes, alpha, _simulated(sizes, baseline_n, ledger_df, alpha))


@lru_cache(512)
def _simulated(looks: tuple[int, ...], baseline_n: int, ledger_df: int, alpha: float) -> float | None:
    return critical(looks, baseline_n or math.inf, ledger_df, alpha, min(_TRIALS, _MOST_DRAWN // len(looks)))


def critical(
    looks: Sequence[int], baseline_n: float, ledger_df: float, alpha: float, trials: int, seed: int = _SEED
) -> float | None:
    """The number that the largest of the looks' t statistics exceeds with probability alpha, by simulation.

    An infinite ``baseline_n`` is a constant, an infinite ``ledger_df`` a known noise. None where alpha is
    too small for as many ``trials``.
    """
    import numpy as np

    if 2 * trials * alpha < _FEWEST_BEYOND:
        return None
    random = np.random.default_rng(seed)

    def chi_square(df: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return random.chisquare(df, trials) if df > 0 else np.zeros(trials)

    constant, known = math.isinf(baseline_n), math.isinf(ledger_df)
    noise = (
        np.ones(trials) if known else chi_square(ledger_df) + chi_square(0 if constant else baseline_n - 1)
    )
    df = 1.0 if known else ledger_df + (0 if constant else baseline_n - 1)
    theirs = np.zeros(trials) if constant else random.standard_normal(trials) / math.sqrt(baseline_n)
    mine, spread, seen = np.zeros(trials), np.zeros(trials), 0
    highest, lowest = np.full(trials, -np.inf), np.full(trials, np.inf)
    for size in looks:
        more = size - seen
        block = random.standard_normal(trials) / math.sqrt(more)
        if not known:
            spread += chi_square(more - 1) + (block - mine) ** 2 * (seen * more / size)
        mine += (block - mine) * (more / size)
        seen = size
        variance = noise if known else (noise + spread) / (df + size - 1)
        statistic = (mine - theirs) / np.sqrt(variance * (1 / size + 1 / baseline_n))
        np.maximum(highest, statistic, out=highest)
        np.minimum(lowest, statistic, out=lowest)
    # Both ends of a symmetric statistic are the same question asked twice.
    return float(np.quantile(np.concatenate([highest, -lowest]), 1 - alpha))
