"""The one sentence that tells people what a check came to: made from its figures by fixed rules.

It says no more than the test did. A guard that passes has shown nothing, so it says that no regression was
shown; only a claim that was to be shown is said to be. Whether a difference is "within noise" is read off the
same bounds that the check was decided by, and off its size: few runs have wide bounds, and what is several
times the noise that stands beside it is not called noise for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.domain.check import Claim, Comparison, Margin, Threshold
from orchestrator.domain.metrics import format_amount, format_compared, format_exact, format_value

EQUAL = 1e-12
"""Numbers that differ by less than this share of themselves are equal: binary fractions alone do that."""


_SEVERAL = 2.0
"""A difference of more noise widths than this is not called noise, whatever bounds as wide leave possible."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a check found. Everything is in the metric's unit but for ``ratio``, where differences are shares.

    ``gain`` is positive where the candidate is better; ``lower`` and ``upper`` are its bounds, None where
    the test has none. ``outcome`` is the check's, as its word. ``against`` says what the other side is.
    """

    name: str
    mine: float
    n: int
    other: float
    m: int
    against: str
    sign: int
    gain: float
    lower: float | None
    upper: float | None
    margin: Margin
    tolerance: float
    """The margin as an amount."""
    outcome: str
    noise: float = 0.0
    """The standard deviation of one run."""
    se: float = 0.0
    """The standard error of the difference."""
    increased: bool = False
    rows: int = 0
    changed: tuple[int, int] | None = None
    """Rows that only the baseline, and that only the candidate has right; None: not counted."""
    slice: str = ""
    ratio: bool = False


def runs(count: int) -> str:
    """``1 run``, ``3 runs``."""
    return "1 run" if count == 1 else f"{count} runs"


def sentence_of(check: Threshold | Comparison, found: Figures) -> str:
    """What a test with bounds found."""
    mine, other = format_compared(found.mine, found.other)
    of = f" on {found.slice}" if found.slice else ""
    rows = f", {found.rows} rows" if found.rows else ""
    told = f"{_conclusion(check, found)}{_reach(found)}: {found.outcome}"
    if isinstance(check, Threshold):
        limit = f"the limit {check.operator.value} {format_exact(check.limit)}"
        return f"{found.name} {mine} ({runs(found.n)}) against {limit}: {_distance(found)}; {told}"
    theirs = f"{other} ({found.against}, {runs(found.m)})"
    told = f"{_move(found)}; {told}"
    return f"{found.name}{of} {mine} ({runs(found.n)}{rows}) against {theirs}: {told}"


def _move(found: Figures) -> str:
    """What happened to the value, and whether the bounds leave it possible that nothing did."""
    change = found.sign * found.gain
    noise = _noise(found)
    if change == 0:
        return f"no difference{f' ({noise})' if noise else ''}"
    what = f"the {'rise' if change > 0 else 'drop'} of {amount(abs(change), found)}"
    if found.lower is None or found.upper is None:
        return f"{what} ({noise})" if noise else what
    if found.lower <= 0 <= found.upper:
        return f"{what} {'may still be chance' if _is_large(found) else 'is within noise'} ({noise})"
    return f"{what} is more than noise explains ({noise})"


def _distance(found: Figures) -> str:
    """Where the value is beside a limit, and whether the bounds leave it possible that it is on it."""
    change, noise = found.sign * found.gain, _noise(found)
    if change == 0 or found.lower is None or found.upper is None:
        return f"just there ({noise})"
    where = f"{amount(abs(change), found)} {'above' if change > 0 else 'below'} it"
    if found.lower <= 0 <= found.upper:
        return f"{where}, {'which may still be chance' if _is_large(found) else 'within noise'} ({noise})"
    return f"{where}, more than noise explains ({noise})"


def _is_large(found: Figures) -> bool:
    return abs(found.gain) > _SEVERAL * (found.se if found.rows else found.noise)


def _noise(found: Figures) -> str:
    if found.changed is not None:
        return f"{found.changed[0]} rows lost, {found.changed[1]} gained"
    if found.rows:
        return f"standard error {amount(found.se, found)}"
    return f"{amount(found.noise, found)} per run{', variance increased' if found.increased else ''}"


def _conclusion(check: Threshold | Comparison, found: Figures) -> str:
    if isinstance(check, Threshold):
        match found.outcome:
            case "pass":
                return "that it meets the limit is shown"
            case "fail":
                return "that it misses the limit is shown"
        return "neither that it meets the limit nor that it misses it is shown"
    beyond = f" beyond {margin_text(found)}" if found.tolerance else ""
    if check.claim is Claim.NO_REGRESSION:
        shown = f"a regression{beyond} is shown"
        return shown if found.outcome == "fail" else f"no regression{beyond} shown"
    if check.claim is Claim.NON_INFERIOR:
        match found.outcome:
            case "pass":
                return f"that there is no loss{beyond} is shown"
            case "fail":
                return f"a loss{beyond} is shown"
        return f"neither a loss{beyond} nor its absence is shown"
    match found.outcome:
        case "pass":
            return f"a gain{beyond} is shown"
        case "fail":
            return f"that there is no gain{beyond} is shown"
    return f"neither a gain{beyond} nor its absence is shown"


def _reach(found: Figures) -> str:
    """What the test cannot speak of: a single pair of models says nothing of how models are made."""
    return ", of these two models alone" if found.rows and found.n == found.m == 1 else ""


def amount(value: float, found: Figures) -> str:
    """An amount of the metric: in points where the check was written so, in percent for ratios."""
    return in_words(value, found.margin, found.ratio)


def in_words(value: float, margin: Margin, ratio: bool = False, limit: float = 0.0) -> str:
    """``0.3 points``, ``5 %``, or the plain number with two significant digits.

    ``limit`` is what the number must not be confused with.
    """
    scale = 100 if margin.points or ratio else 1
    number, border = abs(value) * scale, abs(limit) * scale
    if math.isclose(number, border, rel_tol=EQUAL):
        number = border
    text = format_amount(number, border)
    return f"{text} %" if ratio else in_points(text, margin)


def in_points(number: str, margin: Margin) -> str:
    """A number that people wrote in points as they read it: ``1 point``."""
    if not margin.points:
        return number
    return f"{number} point" if number == "1" else f"{number} points"


def margin_text(found: Figures) -> str:
    """The margin as it was written, with what it came to where that takes a calculation."""
    if found.margin.relative:
        return str(found.margin) if found.ratio else f"{found.margin} ({format_value(found.tolerance)})"
    if found.ratio:
        return in_words(found.tolerance, found.margin, ratio=True)
    return in_points(str(found.margin).removesuffix("pp"), found.margin)
