"""Judging by plain values, or by means of replicates, within a tolerance: no noise is estimated."""

from __future__ import annotations

import math

from orchestrator.domain.baseline import Measured
from orchestrator.domain.check import Claim, Comparison, Threshold
from orchestrator.domain.evidence import EQUAL, in_points, in_words
from orchestrator.domain.gate.model import CheckResult, Outcome
from orchestrator.domain.metrics import Direction, format_compared, format_exact, format_value

DETERMINISTIC = "deterministic: point test"


def mean_of(n: int) -> str:
    """``1 run``, ``mean of 3 runs``."""
    return "1 run" if n == 1 else f"mean of {n} runs"


def seed_warning(values: tuple[float, ...]) -> tuple[str, ...]:
    """What to tell of replicates that all gave the same value."""
    if len(values) > 1 and len(set(values)) == 1 and math.isfinite(values[0]):
        return ("all seeds gave the same value: deterministic, or MLCI_SEED is not used",)
    return ()


def against_limit(check: Threshold, mean: float, n: int, direction: Direction | None) -> CheckResult:
    """A mean, which may be NaN or infinite, against a fixed number."""
    if math.isclose(mean, check.limit, rel_tol=EQUAL):
        mean = check.limit
    gain = None if direction is None or not math.isfinite(mean) else direction.sign * (mean - check.limit)
    holds = math.isfinite(mean) and check.operator.holds(mean, check.limit)
    outcome = Outcome.PASS if holds else Outcome.FAIL
    shown, _ = format_compared(mean, check.limit)
    if not math.isfinite(mean):
        sentence = f"{check.metric} is {shown} ({mean_of(n)}), which meets no limit: fail"
    else:
        limit = (
            f"{'meets' if holds else 'misses'} the limit {check.operator.value} {format_exact(check.limit)}"
        )
        sentence = f"{check.metric} {shown} ({mean_of(n)}) {limit}: {outcome.value}"
    return CheckResult(
        str(check),
        check.metric,
        outcome,
        sentence,
        estimate=mean,
        baseline=check.limit,
        difference=mean - check.limit,
        test="point",
        candidate_n=n,
        better=None if gain is None else gain >= 0,
    )


def against_baseline(
    check: Comparison,
    direction: Direction,
    mean: float,
    n: int,
    measured: Measured,
    other: float,
    *,
    deterministic: bool,
) -> CheckResult:
    """A finite mean against a baseline's."""
    name = check.metric
    if math.isclose(mean, other, rel_tol=EQUAL):
        mean = other
    m = len(measured.values.get(name, ()))
    gain = direction.sign * (mean - other)
    margin = check.margin.of(other)
    tolerance = EQUAL * max(abs(mean), abs(other))
    holds = gain > margin + tolerance if check.claim is Claim.SUPERIOR else gain >= -margin - tolerance
    outcome = Outcome.PASS if holds else Outcome.FAIL
    label = DETERMINISTIC if deterministic else "point test"
    note = "" if deterministic else ", unreplicated" if n == m == 1 else ", noise not estimated"
    mine, reference = format_compared(mean, other)
    sentence = (
        f"{name} {mine} ({mean_of(n)}) against {reference} "
        f"({check.baseline}: {measured.title}, {mean_of(m)}): "
        f"{_finding(check, gain, margin)} ({label}{note}): {outcome.value}"
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
        candidate_n=n,
        baseline_n=m,
        baseline_run=measured.run_id,
        baseline_title=measured.title,
        better=None if mean == other else gain > 0,
    )


def _finding(check: Comparison, gain: float, margin: float) -> str:
    """What was found and what was allowed, in points where the check was written in points."""
    # Only where the margin decides must the digits show on which side of it the difference is.
    decides = gain > 0 if check.claim is Claim.SUPERIOR else gain < 0
    by = in_words(gain, check.margin, limit=margin if decides else 0.0)
    found = "no difference" if gain == 0 else f"{'better' if gain > 0 else 'worse'} by {by}"
    if check.margin.relative:
        written = f"{check.margin} ({format_value(margin)})"
    else:
        written = in_points(str(check.margin).removesuffix("pp"), check.margin)
    if check.claim is Claim.SUPERIOR:
        return f"{found}, a gain {f'of more than {written} ' if margin else ''}is asked for"
    return f"{found}, {f'a loss of up to {written}' if margin else 'no loss'} is allowed"
