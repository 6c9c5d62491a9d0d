"""Gates: one claim per check, three verdicts, and the evidence in one plain sentence.

This judges points: plain values, or means over replicates, compared within a tolerance. Every sentence says
so, because a single number cannot be told from noise. The grammar of the short forms::

    METRIC >= NUMBER                    also >, <=, <
    METRIC not worse than BASELINE [by MARGIN]
    METRIC better than BASELINE [by MARGIN]

A margin is absolute as a plain number or with ``pp`` (percentage points: ``0.5pp`` is 0.005), relative with
``%``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from enum import StrEnum

from orchestrator.domain.baseline import Measured, Selector, parse_selector
from orchestrator.domain.errors import InvalidCheck
from orchestrator.domain.metrics import Direction, format_apart, format_exact, format_value


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
    """A tolerance: absolute in the metric's own unit, or a fraction of the baseline's value."""

    value: float = 0.0
    relative: bool = False

    def of(self, baseline: float) -> float:
        """The tolerance in the metric's unit."""
        return self.value * abs(baseline) if self.relative else self.value

    def __str__(self) -> str:
        if self.relative:
            return f"{format_exact(Decimal(repr(self.value)) * 100)}%"
        return format_exact(self.value)


class Claim(StrEnum):
    """What a comparison claims."""

    NO_REGRESSION = "no_regression"
    SUPERIOR = "superior"


@dataclass(frozen=True, slots=True)
class Threshold:
    """``METRIC OP NUMBER``."""

    metric: str
    operator: Operator
    limit: float
    kind: str = "threshold"

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

    def __str__(self) -> str:
        words = "not worse than" if self.claim is Claim.NO_REGRESSION else "better than"
        by = f" by {self.margin}" if self.margin.value else ""
        return f"{self.metric} {words} {self.baseline}{by}"


Check = Threshold | Comparison


class OnInconclusive(StrEnum):
    """What an inconclusive gate becomes."""

    HOLD = "hold"
    FAIL = "fail"
    PASS = "pass"  # noqa: S105 - an outcome's name, not a password


@dataclass(frozen=True, slots=True)
class Gate:
    """All checks must hold."""

    checks: tuple[Check, ...] = ()
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_THRESHOLD = re.compile(rf"(?P<metric>\S+)\s*(?P<op>>=|<=|>|<)\s*(?P<limit>{_NUMBER})(?P<unit>%|pp)?")
_COMPARISON = re.compile(
    r"(?P<metric>\S+)\s+(?P<words>not\s+worse\s+than|no\s+worse\s+than|better\s+than)\s+(?P<baseline>\S+)"
    rf"(?:\s+by\s+(?P<margin>{_NUMBER})\s*(?P<unit>%|pp)?)?"
)


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
        claim = Claim.SUPERIOR if match["words"].startswith("better") else Claim.NO_REGRESSION
        margin = parse_margin((match["margin"] or "0") + (match["unit"] or ""))
        return Comparison(match["metric"], parse_selector(match["baseline"]), claim, margin)
    raise InvalidCheck(
        f"'{text}' is no check",
        "write METRIC >= NUMBER, METRIC not worse than BASELINE by MARGIN, or METRIC better than BASELINE",
    )


def parse_margin(text: str) -> Margin:
    """Read ``0.005``, ``0.5pp`` (0.005) or ``5%`` (relative).

    Raises InvalidCheck; a margin is never negative.
    """
    match = re.fullmatch(rf"({_NUMBER})\s*(%|pp)?", text.strip())
    if not match or float(match[1]) < 0:
        raise InvalidCheck(f"'{text}' is no margin", "write a number of at least 0: 0.005, 0.5pp or 5%")
    return Margin(_number(text, match[1], match[2]), relative=match[2] == "%")


def _number(text: str, digits: str, unit: str | None) -> float:
    # Divided as a decimal: 0.7 % is to be 0.007, not 0.006999999999999999.
    try:
        value = float(Decimal(digits) / (100 if unit else 1))
    except DecimalException:
        value = math.inf
    if not math.isfinite(value):
        raise InvalidCheck(f"'{text}': {digits} is out of range", "write a number between -1e300 and 1e300")
    return value


class Outcome(StrEnum):
    """What a check, or the whole gate, came to."""

    PASS = "pass"  # noqa: S105 - an outcome's name, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check's outcome with its evidence.

    ``estimate`` is the candidate's mean, ``difference`` candidate minus baseline; None where there is none.
    ``sentence`` is the same wherever people read it. ``warnings`` are things a person should know beside it.
    """

    check: str
    metric: str
    outcome: Outcome
    sentence: str
    estimate: float | None = None
    baseline: float | None = None
    difference: float | None = None
    margin: float | None = None
    test: str = ""
    candidate_n: int = 0
    baseline_n: int = 0
    baseline_run: int | None = None
    baseline_title: str = ""
    better: bool | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's outcome (never SKIPPED) with the evidence of each check."""

    outcome: Outcome
    sentence: str
    checks: tuple[CheckResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """What a comparison has on its other side: a measured run, or the reason why there is none.

    ``comparable`` is False when that run was measured on other evaluation data.
    """

    measured: Measured | None
    why_none: str = ""
    comparable: bool = True


def judge(
    gate: Gate,
    candidate: Measured,
    references: Mapping[Comparison, Reference],
    directions: Mapping[str, Direction],
) -> Verdict:
    """Judge a candidate.

    ``references`` holds an entry for each Comparison of the gate, ``directions`` for its metrics.
    """
    results = tuple(
        _judge_threshold(check, candidate, directions.get(check.metric))
        if isinstance(check, Threshold)
        else _judge_comparison(check, candidate, references[check], directions[check.metric])
        for check in gate.checks
    )
    return Verdict(*_combine(gate, results), results)


def _combine(gate: Gate, results: tuple[CheckResult, ...]) -> tuple[Outcome, str]:
    failed = [r for r in results if r.outcome is Outcome.FAIL]
    unsure = [r for r in results if r.outcome is Outcome.INCONCLUSIVE]
    if failed:
        return Outcome.FAIL, failed[0].sentence
    if unsure:
        match gate.on_inconclusive:
            case OnInconclusive.FAIL:
                return Outcome.FAIL, f"{unsure[0].sentence} (inconclusive counts as fail here)"
            case OnInconclusive.PASS:
                return Outcome.PASS, f"{unsure[0].sentence} (inconclusive counts as pass here)"
            case OnInconclusive.HOLD:
                return Outcome.INCONCLUSIVE, unsure[0].sentence
    if not results:
        return Outcome.PASS, "the pipeline has no checks: every run that completes passes"
    judged = [r for r in results if r.outcome is Outcome.PASS]
    if not judged:
        return Outcome.PASS, "no check could be applied yet: " + results[0].sentence
    return Outcome.PASS, judged[-1].sentence


_NOISE = 1e-12
"""Numbers that differ by less than this share of themselves are equal: binary fractions alone do that."""


def _seeds(n: int) -> str:
    return "1 run" if n == 1 else f"mean of {n} runs"


def _values(candidate: Measured, metric: str) -> tuple[float, ...]:
    return candidate.values.get(metric, ())


def _seed_warning(values: tuple[float, ...]) -> tuple[str, ...]:
    if len(values) > 1 and len(set(values)) == 1 and math.isfinite(values[0]):
        return ("all seeds gave the same value: deterministic, or MLCI_SEED is not used",)
    return ()


def _judge_threshold(check: Threshold, candidate: Measured, direction: Direction | None) -> CheckResult:
    values = _values(candidate, check.metric)
    mean = candidate.mean(check.metric)
    if mean is None:
        return CheckResult(
            str(check),
            check.metric,
            Outcome.INCONCLUSIVE,
            f"{check.metric} was not measured: {check} is undecided",
        )
    if math.isclose(mean, check.limit, rel_tol=_NOISE):
        mean = check.limit
    gain = None if direction is None or not math.isfinite(mean) else direction.sign * (mean - check.limit)
    holds = math.isfinite(mean) and check.operator.holds(mean, check.limit)
    outcome = Outcome.PASS if holds else Outcome.FAIL
    shown = format_apart(mean, check.limit)
    if not math.isfinite(mean):
        sentence = f"{check.metric} is {shown} ({_seeds(len(values))}), which meets no limit: fail"
    else:
        limit = (
            f"{'meets' if holds else 'misses'} the limit {check.operator.value} {format_exact(check.limit)}"
        )
        sentence = f"{check.metric} {shown} ({_seeds(len(values))}) {limit}: {outcome.value}"
    return CheckResult(
        str(check),
        check.metric,
        outcome,
        sentence,
        estimate=mean,
        baseline=check.limit,
        difference=mean - check.limit,
        test="point",
        candidate_n=len(values),
        better=None if gain is None else gain >= 0,
        warnings=_seed_warning(values),
    )


def _judge_comparison(
    check: Comparison, candidate: Measured, reference: Reference, direction: Direction
) -> CheckResult:
    name, text = check.metric, str(check)
    values = _values(candidate, name)
    mean = candidate.mean(name)
    if mean is None:
        return CheckResult(
            text, name, Outcome.INCONCLUSIVE, f"{name} was not measured in this run: {text} is undecided"
        )
    if not math.isfinite(mean):
        return CheckResult(
            text,
            name,
            Outcome.FAIL,
            f"{name} is {format_value(mean)} ({_seeds(len(values))}), which cannot be compared: fail",
            estimate=mean,
            test="point",
            candidate_n=len(values),
        )
    measured = reference.measured
    if measured is None:
        return CheckResult(
            text,
            name,
            Outcome.SKIPPED,
            f"{name} {format_value(mean)}: not compared, {reference.why_none}",
            estimate=mean,
            candidate_n=len(values),
        )
    other = measured.mean(name)
    if not reference.comparable:
        return CheckResult(
            text,
            name,
            Outcome.INCONCLUSIVE,
            f"{name} {format_value(mean)} cannot be compared with {measured.title}: different evaluation data"
            + (f" ({reference.why_none})" if reference.why_none else ""),
            estimate=mean,
            candidate_n=len(values),
            baseline_run=measured.run_id,
            baseline_title=measured.title,
        )
    if other is None or not math.isfinite(other):
        return CheckResult(
            text,
            name,
            Outcome.INCONCLUSIVE,
            f"{name} {format_value(mean)}: {measured.title} ({check.baseline}) has no value to compare with",
            estimate=mean,
            candidate_n=len(values),
            baseline_run=measured.run_id,
            baseline_title=measured.title,
        )
    return _compare(check, direction, values, mean, measured, other)


def _compare(
    check: Comparison,
    direction: Direction,
    values: tuple[float, ...],
    mean: float,
    measured: Measured,
    other: float,
) -> CheckResult:
    name = check.metric
    if math.isclose(mean, other, rel_tol=_NOISE):
        mean = other
    theirs = measured.values.get(name, ())
    gain = direction.sign * (mean - other)
    margin = check.margin.of(other)
    tolerance = _NOISE * max(abs(mean), abs(other))
    guard = check.claim is Claim.NO_REGRESSION
    holds = gain >= -margin - tolerance if guard else gain > margin + tolerance
    outcome = Outcome.PASS if holds else Outcome.FAIL
    identical = bool(_seed_warning(values)) and (len(theirs) == 1 or bool(_seed_warning(theirs)))
    label = "deterministic: point test" if identical else "point test"
    unreplicated = len(values) == 1 and len(theirs) == 1
    note = ", unreplicated" if unreplicated else ", noise not estimated" if not identical else ""
    amount = format_value(abs(mean - other))
    finding = "no difference" if mean == other else f"{'better' if gain > 0 else 'worse'} by {amount}"
    if guard:
        allowed = f"a loss of up to {format_value(margin)} is allowed" if margin else "no loss is allowed"
    else:
        allowed = f"a gain of more than {format_value(margin)} is asked for"
    sentence = (
        f"{name} {format_value(mean)} ({_seeds(len(values))}) against {format_value(other)} "
        f"({check.baseline}: {measured.title}, {_seeds(len(theirs))}): {finding}, {allowed} "
        f"({label}{note}): {outcome.value}"
    )
    return CheckResult(
        str(check),
        name,
        outcome,
        sentence,
        estimate=mean,
        baseline=other,
        difference=mean - other,
        margin=margin,
        test=label,
        candidate_n=len(values),
        baseline_n=len(theirs),
        baseline_run=measured.run_id,
        baseline_title=measured.title,
        better=None if mean == other else gain > 0,
        warnings=_seed_warning(values),
    )
