"""One rule of a gate: what it claims about a metric, and the short forms in which people write it::

    METRIC >= NUMBER                    also >, <=, <
    METRIC not worse than BASELINE [by MARGIN]
    METRIC proven not worse than BASELINE [by MARGIN]
    METRIC better than BASELINE [by MARGIN]

A margin is absolute as a plain number or with ``pp`` (percentage points: ``0.5pp`` is 0.005), relative with
``%``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from enum import StrEnum

from orchestrator.domain.baseline import Selector, parse_selector
from orchestrator.domain.errors import InvalidCheck
from orchestrator.domain.metrics import format_exact


class Operator(StrEnum):
    """How a value is compared with a fixed number."""

    AT_LEAST = ">="
    ABOVE = ">"
    AT_MOST = "<="
    BELOW = "<"

    def holds(self, value: float, limit: float) -> bool:
        """Whether ``value OP limit``; never for NaN."""
        match self:
            case Operator.AT_LEAST:
                return value >= limit
            case Operator.ABOVE:
                return value > limit
            case Operator.AT_MOST:
                return value <= limit
            case Operator.BELOW:
                return value < limit


@dataclass(frozen=True, slots=True)
class Margin:
    """A tolerance: absolute in the metric's own unit, or a fraction of the baseline's value.

    ``points`` says that it was written in percentage points, in which people then read differences, too.
    """

    value: float = 0.0
    relative: bool = False
    points: bool = False

    def of(self, baseline: float) -> float:
        """The tolerance in the metric's unit."""
        return self.value * abs(baseline) if self.relative else self.value

    def __str__(self) -> str:
        if self.relative or self.points:
            return f"{format_exact(Decimal(repr(self.value)) * 100)}{'%' if self.relative else 'pp'}"
        return format_exact(self.value)


class Claim(StrEnum):
    """What a comparison claims."""

    NO_REGRESSION = "no_regression"
    """A guard: it fails only where a loss beyond the margin is shown."""
    NON_INFERIOR = "non_inferior"
    """That no loss beyond the margin happened is to be shown."""
    SUPERIOR = "superior"
    """That the gain is greater than the margin is to be shown."""


class Test(StrEnum):
    """What a check is decided by."""

    __test__ = False

    REPLICATES = "replicates"
    """Replicates and the noise ledger; plain values where there is no variance to estimate."""
    POINT = "point"
    """Plain values, or means of replicates, whatever their noise."""
    PAIRED_ROWS = "paired_rows"
    """The predictions of each row of the evaluation data, candidate against baseline."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """``METRIC OP NUMBER``."""

    metric: str
    operator: Operator
    limit: float
    kind: str = "threshold"
    test: Test = Test.POINT
    alpha: float | None = None
    """The check's own error rate; None: the gate's."""

    def __str__(self) -> str:
        return f"{self.metric} {self.operator.value} {format_exact(self.limit)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A claim about a metric against a baseline."""

    metric: str
    baseline: Selector
    claim: Claim
    margin: Margin = Margin()
    kind: str = "comparison"
    test: Test = Test.REPLICATES
    alpha: float | None = None
    """The check's own error rate; None: the gate's."""
    slices: str = ""
    """A column of the predictions file: the claim is made of each of its values apart. Empty: of all rows."""

    def __str__(self) -> str:
        words = _WORDS[self.claim]
        by = f" by {self.margin}" if self.margin.value else ""
        return f"{self.metric} {words} {self.baseline}{by}"


Check = Threshold | Comparison

_WORDS = {
    Claim.NO_REGRESSION: "not worse than",
    Claim.NON_INFERIOR: "proven not worse than",
    Claim.SUPERIOR: "better than",
}


_CLAIMS = {
    "better": Claim.SUPERIOR,
    "proven": Claim.NON_INFERIOR,
    "not": Claim.NO_REGRESSION,
    "no": Claim.NO_REGRESSION,
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_THRESHOLD = re.compile(rf"(?P<metric>\S+)\s*(?P<op>>=|<=|>|<)\s*(?P<limit>{_NUMBER})(?P<unit>%|pp)?")
_COMPARISON = re.compile(
    r"(?P<metric>\S+)\s+(?P<words>(?:proven\s+)?not?\s+worse\s+than|better\s+than)\s+(?P<baseline>\S+)"
    rf"(?:\s+by\s+(?P<margin>{_NUMBER})\s*(?P<unit>%|pp)?)?"
)

_MARGINLESS = re.compile(r"\S+\s+(?:(?:proven\s+)?not?\s+worse|better)\s+than\s+\S+\s+by\s+(?P<margin>.+)")


def parse_check(text: str) -> Check:
    """Read a check's short form. Raises InvalidCheck (or InvalidSelector) saying what was expected."""
    stripped = text.strip()
    if match := _THRESHOLD.fullmatch(re.sub(r"\s*(>=|<=|>|<)\s*", r" \1 ", stripped, count=1)):
        if match["unit"] == "pp":
            raise InvalidCheck(
                f"'{text}': pp is for differences", "write a threshold as a plain number or with %"
            )
        limit = _number(text, match["limit"], match["unit"])
        return Threshold(match["metric"], Operator(match["op"]), limit)
    if match := _COMPARISON.fullmatch(stripped):
        claim = _CLAIMS[match["words"].split()[0]]
        margin = parse_margin((match["margin"] or "0") + (match["unit"] or ""))
        return Comparison(match["metric"], parse_selector(match["baseline"]), claim, margin)
    if match := _MARGINLESS.fullmatch(stripped):
        try:
            parse_margin(match["margin"])
        except InvalidCheck as error:
            raise InvalidCheck(f"'{text}': {error.message}", error.remedy) from None
    raise InvalidCheck(
        f"'{text}' is no check",
        "write METRIC >= NUMBER, METRIC [proven] not worse than BASELINE by MARGIN, or METRIC better than "
        "BASELINE by MARGIN",
    )


def parse_margin(text: str) -> Margin:
    """Read ``0.005``, ``0.5pp`` (0.005) or ``5%`` (relative).

    Raises InvalidCheck; a margin is never negative.
    """
    match = re.fullmatch(rf"({_NUMBER})\s*(%|pp)?", text.strip())
    if not match or float(match[1]) < 0:
        raise InvalidCheck(f"'{text}' is no margin", "write a number of at least 0: 0.005, 0.5pp or 5%")
    return Margin(_number(text, match[1], match[2]), relative=match[2] == "%", points=match[2] == "pp")


def _number(text: str, digits: str, unit: str | None) -> float:
    # Divided as a decimal: 0.7 % is to be 0.007, not 0.006999999999999999.
    try:
        value = float(Decimal(digits) / (100 if unit else 1))
    except DecimalException:
        value = math.inf
    if not math.isfinite(value):
        raise InvalidCheck(f"'{text}': {digits} is out of range", "write a number between -1e300 and 1e300")
    return value
