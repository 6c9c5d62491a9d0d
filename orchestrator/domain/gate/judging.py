"""Judging a candidate: each check by itself, then all of them together.

This judges points: plain values, or means over replicates, compared within a tolerance. Every sentence says
so, because a single number cannot be told from noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from orchestrator.domain.baseline import Measured
from orchestrator.domain.check import Claim, Comparison, Margin, Threshold
from orchestrator.domain.gate.context import NOTHING_KNOWN, JudgingContext
from orchestrator.domain.gate.model import CheckResult, Gate, OnInconclusive, Outcome, Reference, Verdict
from orchestrator.domain.metrics import (
    Direction,
    format_amount,
    format_compared,
    format_exact,
    format_value,
)


def judge(
    gate: Gate,
    candidate: Measured,
    references: Mapping[Comparison, Reference],
    directions: Mapping[str, Direction],
    context: JudgingContext = NOTHING_KNOWN,
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
    return Verdict(*_combine(gate, results), results, look=context.look)


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
