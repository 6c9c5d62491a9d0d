"""Many checks at once: Holm's step-down correction."""

from __future__ import annotations

from collections.abc import Sequence


def holm(pvalues: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the order given: each is to be compared with alpha itself.

    For guards, and for claims of which any is enough. Claims that must all be shown need none: that all of
    them are shown by mistake is no likelier than that one is.
    """
    count = len(pvalues)
    order = sorted(range(count), key=lambda index: pvalues[index])
    adjusted = [0.0] * count
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (count - rank) * pvalues[index]))
        adjusted[index] = highest
    return tuple(adjusted)


def holm_level(alpha: float, pvalues: Sequence[float], index: int) -> float:
    """The level at which Holm's procedure judged one of the p-values: what its bounds are shown at.

    Alpha over the number of hypotheses that were not yet rejected when its turn came.
    """
    ordered = sorted(range(len(pvalues)), key=lambda other: pvalues[other])
    for rank, other in enumerate(ordered):
        level = alpha / (len(pvalues) - rank)
        if other == index or pvalues[other] >= level:
            return level
    raise IndexError(index)
