"""Judging a candidate: each check by itself, then all of them together.

Pure: the same figures give the same verdict, on every machine and at any time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace

from orchestrator.domain.baseline import Measured
from orchestrator.domain.check import Check, Comparison
from orchestrator.domain.gate.combining import combine
from orchestrator.domain.gate.context import NOTHING_KNOWN, JudgingContext
from orchestrator.domain.gate.deciding import decide
from orchestrator.domain.gate.model import (
    CheckResult,
    Drift,
    Gate,
    Holdout,
    HoldoutMode,
    OnInconclusive,
    Outcome,
    Reference,
    Verdict,
)
from orchestrator.domain.gate.preparing import prepare
from orchestrator.domain.gate.questions import Question
from orchestrator.domain.metrics import Direction, format_compared
from orchestrator.domain.statistics.drift import change_points
from orchestrator.domain.statistics.holdout import Wear, wear

_SEED = 20_261_123
_RECENT = 10
"""A level that changed longer ago than as many commits is the usual one by now."""


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
    warnings = (*_budget(gate.holdout, context), *drifts(gate.drift, directions, context.history))
    spent = _spent(gate.holdout, context)
    if spent and gate.checks:
        results = tuple(CheckResult(str(c), c.metric, Outcome.INCONCLUSIVE, spent) for c in gate.checks)
        fails = gate.holdout is not None and gate.holdout.on_exhausted is OnInconclusive.FAIL
        # What nothing was asked of does not pass, whatever becomes of answers that decide nothing.
        outcome = Outcome.FAIL if fails else Outcome.INCONCLUSIVE
        sentence = f"{spent} (counts as fail here)" if fails else spent
        return Verdict(outcome, sentence, results, look=context.look, warnings=warnings)
    prepared: list[tuple[Check, CheckResult | Question]] = [
        (check, item)
        for check in gate.checks
        for item in prepare(
            check,
            candidate,
            references[check] if isinstance(check, Comparison) else None,
            directions.get(check.metric),
            context,
        )
    ]
    questions = [item for _, item in prepared if isinstance(item, Question)]
    decided = iter(decide(gate, questions, context))
    settled = _settled(context)
    found = [
        (check, _as_settled(settled, item if isinstance(item, CheckResult) else next(decided)))
        for check, item in prepared
    ]
    combined = combine(gate, found)
    results = tuple(result for _, result in found)
    if combined.outcome is Outcome.FAIL and combined.settled:
        why = next((r.check for r in results if r.outcome is Outcome.FAIL and r.settled), "")
        results = tuple(_left_open(result, why, context) for result in results)
    return Verdict(
        combined.outcome,
        combined.sentence,
        results,
        combined.settled,
        context.look,
        warnings,
    )


def _settled(context: JudgingContext) -> dict[tuple[str, str], deque[CheckResult]]:
    """What the look before came to, by check and slice; several checks may have the same words."""
    kept: dict[tuple[str, str], deque[CheckResult]] = {}
    for result in context.looked:
        kept.setdefault((result.check, result.slice), deque()).append(result)
    return kept


def _as_settled(kept: Mapping[tuple[str, str], deque[CheckResult]], result: CheckResult) -> CheckResult:
    before = kept.get((result.check, result.slice))
    was = before.popleft() if before else None
    return was if was is not None and was.settled else result


def _left_open(result: CheckResult, why: str, context: JudgingContext) -> CheckResult:
    """A check that more replicates might have decided, where another one has failed the run for good."""
    if result.settled or result.outcome is not Outcome.PASS:
        return result
    looks = f"look {context.look} of {len(context.looks)} was the last"
    if why:
        looks = f"{looks}, as {why} had failed"
    sentence = f"{result.sentence.removesuffix(': pass')}; {looks}: undecided"
    return replace(result, outcome=Outcome.INCONCLUSIVE, sentence=sentence)


def _spent(budget: Holdout | None, context: JudgingContext) -> str:
    """Why the evaluation data cannot be judged with any more; empty: it can."""
    if budget is None or budget.mode is HoldoutMode.OFF:
        return ""
    if context.holdout_retired:
        return f"{budget.dataset} is used up: {context.holdout_retired}"
    if context.holdout_uses >= budget.max_uses:
        return f"{budget.dataset} is used up: it has given all of its {budget.max_uses} verdicts"
    return ""


def _budget(budget: Holdout | None, context: JudgingContext) -> Iterator[str]:
    if budget is None:
        return
    uses = context.holdout_uses
    if budget.mode is HoldoutMode.OFF:
        yield f"{budget.dataset} was judged with {uses + 1} times"
    elif uses < budget.max_uses and wear(uses + 1, budget.max_uses) is not Wear.FRESH:
        yield f"{budget.dataset} wears out: verdict {uses + 1} of {budget.max_uses}; collect a new test set"


def drifts(
    drift: Drift | None,
    directions: Mapping[str, Direction],
    histories: Mapping[str, tuple[float, ...]],
) -> Iterator[str]:
    """Warnings of metrics whose level changed lately; ``histories`` are means of commits, oldest first."""
    for metric in drift.metrics if drift else ():
        history = histories.get(metric, ())
        if drift is None or not history:
            continue
        least = drift.min_magnitude.of(history[-1])
        points = change_points(history, seed=_SEED, max_pvalue=drift.max_pvalue, min_magnitude=least)
        ago = len(history) - points[-1].index if points else 0
        if points and ago <= _RECENT:
            before, after = format_compared(points[-1].before, points[-1].after)
            direction = directions.get(metric)
            change = points[-1].after - points[-1].before
            way = (
                ""
                if direction is None
                else " for the better"
                if direction.sign * change > 0
                else " for the worse"
            )
            yield f"{metric} has drifted{way}: from {before} to {after}, {ago} commits ago"
