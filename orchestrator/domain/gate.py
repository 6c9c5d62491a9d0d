"""Gates: one claim per check, three verdicts, and the evidence in one plain sentence.

This judges points: plain values, or means over replicates, compared within a tolerance. Every sentence says
so, because a single number cannot be told from noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.domain.baseline import Measured
from orchestrator.domain.check import Check, Claim, Comparison, Margin, Threshold
from orchestrator.domain.metrics import (
    Direction,
    format_amount,
    format_compared,
    format_exact,
    format_value,
)


class OnInconclusive(StrEnum):
    """What an inconclusive gate becomes."""

    HOLD = "hold"
    FAIL = "fail"
    PASS = "pass"  # noqa: S105 - an outcome's name, not a password
    MANUAL = "manual"
    """A person decides."""


class Require(StrEnum):
    """How the checks make the gate's verdict."""

    ALL = "all"
    ANY = "any"
    """One claim that is shown is enough."""


class HoldoutMode(StrEnum):
    """How far verdicts on sealed evaluation data may be answered, and what each costs (ease.ml/ci)."""

    OFF = "off"
    """Uses are counted and shown."""
    NONE = "none"
    FIRST_CHANGE = "first_change"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Holdout:
    """The budget of a sealed test set. ``dataset`` is its name; ``delta`` the total error probability."""

    dataset: str
    mode: HoldoutMode = HoldoutMode.OFF
    max_uses: int = 100
    delta: float = 0.05
    on_exhausted: OnInconclusive = OnInconclusive.HOLD


@dataclass(frozen=True, slots=True)
class Drift:
    """A warning when the history of a metric has changed its level; it never judges the newest commit."""

    metrics: tuple[str, ...]
    max_pvalue: float = 0.001
    min_magnitude: Margin = field(default_factory=Margin)


@dataclass(frozen=True, slots=True)
class Gate:
    """What the checks must show together. ``alpha`` is the one-sided error rate of each claim."""

    checks: tuple[Check, ...] = ()
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    alpha: float = 0.05
    holm: bool = True
    """Whether guards, and claims of which any is enough, are corrected for their number."""
    require: Require = Require.ALL
    holdout: Holdout | None = None
    drift: Drift | None = None


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
    lower: float | None = None
    """The one-sided bounds of ``difference`` at confidence 1 - ``alpha``, in the metric's unit."""
    upper: float | None = None
    alpha: float | None = None
    """The error rate that the check was decided at, after every correction."""
    noise_sd: float | None = None
    """The standard deviation of one run that the test went by, with its degrees of freedom."""
    noise_df: float | None = None
    ledger_sd: float | None = None
    """What the noise ledger alone says, from that many runs; None: none was used."""
    ledger_runs: int = 0
    correction: str = ""
    baseline_runs: tuple[int, ...] = ()
    """The runs whose values together are the baseline; ``baseline_run`` is the one that was chosen."""
    rows: int = 0
    """Rows of the evaluation data that were compared; 0: the test did not go by rows."""
    slice: str = ""
    settled: bool = True
    """Whether more replicates cannot change the outcome."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's outcome (never SKIPPED) with the evidence of each check.

    ``settled``: more replicates cannot change it. ``look`` counts the looks taken, from 1; 0 where the
    replicates were not trained in looks.
    """

    outcome: Outcome
    sentence: str
    checks: tuple[CheckResult, ...] = ()
    settled: bool = True
    look: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """What a comparison has on its other side: a measured run, or the reason why there is none.

    ``comparable`` is False when that run was measured on other evaluation data. ``measured`` holds the values
    of all ``runs`` that measured the same commit on the same data.
    """

    measured: Measured | None
    why_none: str = ""
    comparable: bool = True
    runs: tuple[int, ...] = ()


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
            case OnInconclusive.HOLD | OnInconclusive.MANUAL:
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
    shown, _ = format_compared(mean, check.limit)
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
    guard = check.claim is not Claim.SUPERIOR
    holds = gain >= -margin - tolerance if guard else gain > margin + tolerance
    outcome = Outcome.PASS if holds else Outcome.FAIL
    identical = bool(_seed_warning(values)) and (len(theirs) == 1 or bool(_seed_warning(theirs)))
    label = "deterministic: point test" if identical else "point test"
    unreplicated = len(values) == 1 and len(theirs) == 1
    note = ", unreplicated" if unreplicated else ", noise not estimated" if not identical else ""
    mine, reference = format_compared(mean, other)
    sentence = (
        f"{name} {mine} ({_seeds(len(values))}) against {reference} "
        f"({check.baseline}: {measured.title}, {_seeds(len(theirs))}): {_finding(check, gain, margin)} "
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


def _finding(check: Comparison, gain: float, margin: float) -> str:
    """What was found and what was allowed, in points where the check was written in points."""
    scale = 100 if check.margin.points else 1
    # Only where the margin decides must the digits show on which side of it the difference is.
    decides = gain > 0 if check.claim is Claim.SUPERIOR else gain < 0
    limit = margin * scale if decides else 0.0
    exact = limit if math.isclose(abs(gain) * scale, limit, rel_tol=_NOISE) else abs(gain) * scale
    amount = _in_points(format_amount(exact, limit), check.margin)
    found = "no difference" if gain == 0 else f"{'better' if gain > 0 else 'worse'} by {amount}"
    if check.margin.relative:
        written = f"{check.margin} ({format_value(margin)})"
    else:
        written = _in_points(str(check.margin).removesuffix("pp"), check.margin)
    if check.claim is Claim.SUPERIOR:
        return f"{found}, a gain {f'of more than {written} ' if margin else ''}is asked for"
    return f"{found}, {f'a loss of up to {written}' if margin else 'no loss'} is allowed"


def _in_points(number: str, margin: Margin) -> str:
    if not margin.points:
        return number
    return f"{number} point" if number == "1" else f"{number} points"
