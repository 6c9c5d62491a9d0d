"""Quantities that change by factors, such as latencies: compared as logarithms, told as factors."""

from __future__ import annotations

import math
from collections.abc import Sequence


def logarithms(values: Sequence[float]) -> tuple[float, ...] | None:
    """The natural logarithms, to be compared in place of the values; None unless all are positive and
    finite.
    """
    if not all(value > 0 and math.isfinite(value) for value in values):
        return None
    return tuple(map(math.log, values))


def log_margin(fraction: float, sign: int) -> float:
    """A tolerated loss as a share of the baseline, on the scale of logarithms: positive, or infinite from
    100 %.

    With ``sign`` -1 (lower is better) a loss of 0.05 is a factor of 1.05, with +1 one of 0.95.
    """
    if sign < 0:
        return math.log1p(fraction)
    return -math.log1p(-fraction) if fraction < 1 else math.inf


def log_gain(fraction: float, sign: int) -> float:
    """A wanted gain as a share of the baseline, on the scale of logarithms; see log_margin."""
    return log_margin(fraction, -sign)


def relative_change(gain: float, sign: int) -> float:
    """What a gain of logarithms is as a change of the value itself: 0.05 for five percent more."""
    return math.expm1(sign * gain)
