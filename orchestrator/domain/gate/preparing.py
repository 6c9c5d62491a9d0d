"""From a check to the question that its test is asked, or at once to the result where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.domain.baseline import Measured
from orchestrator.domain.check import Check, Claim, Comparison, Operator, Test, Threshold
from orchestrator.domain.gate.context import JudgingContext, Rows
from orchestrator.domain.gate.model import CheckResult, Outcome, Reference
from orchestrator.domain.gate.points import against_limit, mean_of
from orchestrator.domain.gate.questions import Question, of_slice, resolution_of
from orchestrator.domain.metrics import Direction, format_value
from orchestrator.domain.statistics.noise import Noise, pool
from orchestrator.domain.statistics.rows import FEWEST_ROWS
from orchestrator.domain.statistics.scale import log_gain, log_margin, logarithms

_LARGEST = 1e150
"""Beyond it squares cannot be computed with."""


def prepare(
    check: Check,
    candidate: Measured,
    reference: Reference | None,
    direction: Direction | None,
    context: JudgingContext,
) -> Sequence[CheckResult | Question]:
    """The questions of a check, one for each slice where it has slices."""
    values = candidate.values.get(check.metric, ())
    mean = candidate.mean(check.metric)
    if isinstance(check, Threshold):
        return (_threshold(check, candidate, values, mean, direction, context),)
    name, text = check.metric, str(check)
    if mean is None:
        sentence = f"{name} was not measured in this run: {text} is undecided"
        return (CheckResult(text, name, Outcome.INCONCLUSIVE, sentence),)
    n = len(values)
    if not math.isfinite(mean):
        sentence = f"{name} is {format_value(mean)} ({mean_of(n)}), which cannot be compared: fail"
        return (CheckResult(text, name, Outcome.FAIL, sentence, estimate=mean, test="point", candidate_n=n),)
    if direction is None or reference is None:
        return (_undecided(check, mean, n, None, f"the direction of {name} is not known"),)
    measured = reference.measured
    if measured is None and not reference.comparable:
        return (_undecided(check, mean, n, None, reference.why_none),)
    if measured is None:
        sentence = f"{name} {format_value(mean)}: not compared, {reference.why_none}"
        return (CheckResult(text, name, Outcome.SKIPPED, sentence, estimate=mean, candidate_n=n),)
    if not reference.comparable:
        why = f" ({reference.why_none})" if reference.why_none else ""
        cannot = f"{name} {format_value(mean)} cannot be compared with {measured.title}"
        sentence = f"{cannot}: different evaluation data{why}"
        if reference.unconfirmed:
            sentence = f"{cannot}: {reference.why_none}"
        return (_result_without_test(check, sentence, mean, n, measured),)
    other = measured.mean(name)
    if other is None or not math.isfinite(other):
        return (
            _undecided(
                check, mean, n, measured, f"{measured.title} ({check.baseline}) has no value to compare with"
            ),
        )
    if max(map(abs, (*values, *measured.values[name]))) > _LARGEST and check.test is not Test.POINT:
        return (_undecided(check, mean, n, measured, "the values are too large to be compared"),)
    if check.test is Test.PAIRED_ROWS:
        return _by_rows(
            check, direction, values, mean, reference, measured, other, context, candidate.numbers
        )
    return (_comparison(check, direction, values, mean, reference, measured, other, context, candidate),)


def _threshold(
    check: Threshold,
    candidate: Measured,
    values: tuple[float, ...],
    mean: float | None,
    direction: Direction | None,
    context: JudgingContext,
) -> CheckResult | Question:
    if mean is None:
        sentence = f"{check.metric} was not measured: {check} is undecided"
        return CheckResult(str(check), check.metric, Outcome.INCONCLUSIVE, sentence)
    if not math.isfinite(mean) or max(map(abs, values)) > _LARGEST:
        return against_limit(check, mean, len(values), direction)
    sign = 1 if check.operator in (Operator.AT_LEAST, Operator.ABOVE) else -1
    return Question(
        check,
        direction,
        sign,
        0.0,
        values,
        (),
        constant=check.limit,
        other=check.limit,
        ledger=_ledger(check.metric, context, {candidate.run_id}, ratio=False),
        resolution=resolution_of(values),
        numbers=candidate.numbers,
    )


def _comparison(
    check: Comparison,
    direction: Direction,
    values: tuple[float, ...],
    mean: float,
    reference: Reference,
    measured: Measured,
    other: float,
    context: JudgingContext,
    candidate: Measured,
) -> CheckResult | Question:
    name, theirs = check.metric, measured.values[check.metric]
    compared = {candidate.run_id, measured.run_id, *reference.runs}
    runs = reference.runs or (measured.run_id,)
    paired = context.pair_seeds and check.test is Test.REPLICATES
    numbers = candidate.numbers
    if paired:
        mine_of = dict(zip(candidate.order, values, strict=True))
        # Of several runs with the same seeds the first stands for all.
        theirs_of = dict(reversed(list(zip(measured.order, theirs, strict=True))))
        numbers = tuple(number for number in mine_of if number in theirs_of)
        if not numbers:
            why = f"no replicate has a seed that one of {measured.title} had"
            return _undecided(check, mean, len(values), measured, why)
        values = tuple(mine_of[number] for number in numbers)
        theirs = tuple(theirs_of[number] for number in numbers)
        measured = replace(measured, values={**measured.values, name: theirs})
        other = math.fsum(theirs) / len(theirs)
    if name not in context.log_ratio or check.test is Test.POINT:
        return Question(
            check,
            direction,
            direction.sign,
            _limit(check, check.margin.of(other)),
            values,
            theirs,
            measured,
            runs,
            other=other,
            ledger=_ledger(name, context, compared, ratio=False),
            resolution=resolution_of(values, theirs),
            paired=paired,
            numbers=numbers,
        )
    mine, reference_logs = logarithms(values), logarithms(theirs)
    if mine is None or reference_logs is None:
        why = "only positive values can be compared by their ratio"
        return _undecided(check, mean, len(values), measured, why)
    geometric = math.exp(math.fsum(reference_logs) / len(reference_logs))
    share = check.margin.value if check.margin.relative else check.margin.value / geometric
    superior = check.claim is Claim.SUPERIOR
    return Question(
        check,
        direction,
        direction.sign,
        log_gain(share, direction.sign) if superior else -log_margin(share, direction.sign),
        mine,
        reference_logs,
        measured,
        runs,
        other=geometric,
        ledger=_ledger(name, context, compared, ratio=True),
        ratio=True,
        paired=paired,
        numbers=numbers,
    )


def _by_rows(
    check: Comparison,
    direction: Direction,
    values: tuple[float, ...],
    mean: float,
    reference: Reference,
    measured: Measured,
    other: float,
    context: JudgingContext,
    numbers: tuple[int, ...],
) -> Sequence[CheckResult | Question]:
    rows = context.rows.get(check, "no predictions were read")
    if isinstance(rows, str):
        return (_undecided(check, mean, len(values), measured, rows),)
    runs = reference.runs or (measured.run_id,)

    def question(of: Rows, name: str) -> CheckResult | Question:
        count = len(of.candidate[0])
        if count < FEWEST_ROWS:
            few = f"{f'{name} has ' if name else ''}{count} row{'' if count == 1 else 's'} only, which show"
            few = f"{few}{'s' if count == 1 else ''} nothing; at least {FEWEST_ROWS} are needed"
            return replace(_undecided(check, mean, len(values), measured, few), rows=count, slice=name)
        limit = _limit(check, check.margin.of(other))
        return Question(
            check,
            direction,
            direction.sign,
            limit,
            values,
            measured.values[check.metric],
            measured,
            runs,
            other=other,
            rows=of,
            slice=name,
            numbers=numbers,
        )

    if not check.slices:
        return (question(rows, ""),)
    if not rows.slices:
        none = f"the predictions have no column {check.slices}"
        return (_undecided(check, mean, len(values), measured, none),)
    return tuple(question(of_slice(rows, name), f"{check.slices} {name}") for name in sorted(rows.slices))


def _limit(check: Comparison, margin: float) -> float:
    return margin if check.claim is Claim.SUPERIOR else -margin


def _ledger(metric: str, context: JudgingContext, compared: set[int], *, ratio: bool) -> Noise | None:
    """The noise that is known of a metric from runs that are not themselves compared."""
    groups = []
    for measured in context.ledger:
        values: Sequence[float] | None = measured.values.get(metric, ())
        if measured.run_id in compared or not values or max(map(abs, values)) > _LARGEST:
            continue
        values = logarithms(values) if ratio else values
        if values is not None:
            groups.append(values)
    return pool(groups)


def _undecided(check: Comparison, mean: float, n: int, measured: Measured | None, why: str) -> CheckResult:
    return _result_without_test(check, f"{check.metric} {format_value(mean)}: {why}", mean, n, measured)


def _result_without_test(
    check: Comparison, sentence: str, mean: float, n: int, measured: Measured | None
) -> CheckResult:
    return CheckResult(
        str(check),
        check.metric,
        Outcome.INCONCLUSIVE,
        sentence,
        estimate=mean,
        candidate_n=n,
        baseline_run=measured.run_id if measured else None,
        baseline_title=measured.title if measured else "",
    )
