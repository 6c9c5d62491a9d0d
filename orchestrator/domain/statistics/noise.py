"""How much a metric varies between runs of one commit: of a few values, and pooled over many commits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

MAX_LEDGER_RUNS: Final = 10
"""The noise ledger is made of this many replicated runs, the last ones."""

MAX_LEDGER_DF: Final = 30
"""However many values are in the ledger: older noise must not outweigh what the judged runs show
themselves.
"""


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviation of one run, in the metric's unit, and the degrees of freedom that it is known with.

    ``runs`` is how many runs it was pooled from.
    """

    sd: float
    df: int
    runs: int = 0


def mean(values: Sequence[float]) -> float:
    """The mean; exact over equal values, which a plain sum is not. ValueError for none."""
    if not values:
        raise ValueError("no values")
    first = values[0]
    return first + math.fsum(value - first for value in values) / len(values)


def squares(values: Sequence[float]) -> float:
    """The sum of squared deviations from the mean: 0 for one value, and exactly 0 for equal ones."""
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values)


def pool(groups: Iterable[Sequence[float]]) -> Noise | None:
    """The noise within commits: ``groups`` holds the replicates of one run each, newest first.

    At most MAX_LEDGER_RUNS of them count, those with fewer than two values or with one that is not finite
    not at all; None where nothing is left. The runs that are themselves compared must not be among them:
    their own variance is added by the comparison, and would count twice. The standard deviation is 0 where
    each run gave the same value again and again.
    """
    total, df, runs = 0.0, 0, 0
    for values in groups:
        if runs == MAX_LEDGER_RUNS:
            break
        if len(values) < 2 or not all(map(math.isfinite, values)):
            continue
        total += squares(values)
        df += len(values) - 1
        runs += 1
    return Noise(math.sqrt(total / df), min(df, MAX_LEDGER_DF), runs) if df else None
