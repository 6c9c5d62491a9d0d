"""What a sealed test set can bear: each verdict that people act upon tells something about its rows."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

MAX_FULL_USES: Final = 10
"""Answering fully costs twice as much with every use: beyond this, nothing could be shown any more."""


class Release(StrEnum):
    """What is told of a verdict on a sealed test set."""

    NONE = "none"
    """Nobody is told until the test set is retired."""
    FIRST_CHANGE = "first_change"
    """All that passed until then is known; the first failure retires the test set."""
    FULL = "full"
    """Each verdict is told, and what is tried next may depend on all of them."""


class Wear(StrEnum):
    """How far a test set is used up."""

    FRESH = "fresh"
    WEARING = "wearing"
    """Four fifths are used: a new test set should be collected now."""
    EXHAUSTED = "exhausted"


def log_hypotheses(uses: int, release: Release) -> float:
    """The natural logarithm of the number of models that ``uses`` verdicts may be about."""
    return uses * math.log(2) if release is Release.FULL else math.log(uses)


def alpha_of_use(alpha: float, delta: float, max_uses: int, release: Release) -> float:
    """The error rate of one use, so that all ``max_uses`` together err with at most ``delta``.

    ValueError: ``max_uses`` below 1, or fully released beyond MAX_FULL_USES.
    """
    if max_uses < 1 or (release is Release.FULL and max_uses > MAX_FULL_USES):
        allowed = f" and at most {MAX_FULL_USES}" if release is Release.FULL else ""
        raise ValueError(f"max_uses is {max_uses}: expected at least 1{allowed}")
    return min(alpha, math.exp(math.log(delta) - log_hypotheses(max_uses, release)))


def wear(used: int, max_uses: int) -> Wear:
    """How far a test set is used up after ``used`` verdicts."""
    if used >= max_uses:
        return Wear.EXHAUSTED
    return Wear.WEARING if used >= 0.8 * max_uses else Wear.FRESH


def rows_for_value(tolerance: float, delta: float, uses: int, release: Release) -> int:
    """Rows of a test set that pin one accuracy, or the share of changed predictions, to +-``tolerance``.

    So that all ``uses`` together are right with probability 1 - ``delta``. By Hoeffding's inequality, as in
    ease.ml/ci: right for any distribution of rows, and so more than a test of one difference needs.
    """
    return math.ceil((log_hypotheses(uses, release) - math.log(delta)) / (2 * tolerance**2))


def rows_for_difference(tolerance: float, delta: float, uses: int, release: Release) -> int:
    """As rows_for_value, for the difference of the accuracies of two models: each to half the tolerance."""
    return math.ceil(4 * (log_hypotheses(uses, release) + math.log(2) - math.log(delta)) / (2 * tolerance**2))


def is_below(value: float, limit: float, tolerance: float) -> bool | None:
    """Whether a quantity known to +-``tolerance`` is below ``limit``; None: it cannot be said."""
    if value + tolerance < limit:
        return True
    if value - tolerance > limit:
        return False
    return None
