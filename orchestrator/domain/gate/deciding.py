"""Deciding questions: at which level, after which look, and the evidence of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.domain.check import Comparison, Margin, Threshold
from orchestrator.domain.evidence import Figures, in_words, sentence_of
from orchestrator.domain.gate.context import JudgingContext
from orchestrator.domain.gate.levels import Level, asked, even, family, stepped_down
from orchestrator.domain.gate.model import CheckResult, Gate, Outcome
from orchestrator.domain.gate.points import against_baseline, against_limit, seed_warning
from orchestrator.domain.gate.questions import Answer, Question
from orchestrator.domain.statistics.bounds import Method, is_deterministic
from orchestrator.domain.statistics.scale import relative_change


def decide(gate: Gate, questions: Sequence[Question], context: JudgingContext) -> list[CheckResult]:
    """The results of all questions of a gate, in their order."""
    levels = [asked(gate, question) for question in questions]
    looks = context.looks if context.look and len(context.looks) > 1 else ()
    if looks:
        for members in family(gate, questions):
            what = f"{len(members)} {'guards' if questions[members[0]].guard else 'claims'}"
            for i, level in even(levels, members, what).items():
                levels[i] = level
        return [
            _in_looks(question, level, looks, min(context.look, len(looks)))
            for question, level in zip(questions, levels, strict=True)
        ]
    found = [
        None if question.by_points else _ask(question, question.count, level.alpha)
        for question, level in zip(questions, levels, strict=True)
    ]
    answers = [None if isinstance(each, CheckResult) else each for each in found]
    for members in family(gate, questions):
        for i, level in stepped_down(levels, members, questions, answers).items():
            levels[i], answers[i] = level, questions[i].ask(questions[i].count, level.alpha)
    return [
        first
        if isinstance(first, CheckResult)
        else _result(question, answer, level, question.count, settled=True)
        for question, first, answer, level in zip(questions, found, answers, levels, strict=True)
    ]


def _ask(question: Question, n: int, alpha: float, looks: tuple[int, ...] = ()) -> Answer | CheckResult:
    """The answer; or the result where a metric is not defined on the rows, such as AUC on one class."""
    if question.rows is None:
        return question.ask(n, alpha, looks)
    try:
        return question.ask(n, alpha, looks)
    except ValueError as error:
        check, measured = question.check, question.measured
        return CheckResult(
            str(check),
            check.metric,
            Outcome.INCONCLUSIVE,
            f"{check.metric}{f' on {question.slice}' if question.slice else ''}: {error}",
            candidate_n=n,
            baseline_n=question.baseline_n,
            baseline_run=measured.run_id if measured else None,
            baseline_title=measured.title if measured else "",
            baseline_runs=question.runs,
            rows=len(question.rows.candidate[0]),
            slice=question.slice,
        )


def _in_looks(question: Question, level: Level, looks: tuple[int, ...], look: int) -> CheckResult:
    """The first look that decides a check decides it for good; whichever came before did not."""
    level = level.cut(level.alpha, f"looks {', '.join(map(str, looks))}")
    last = look == len(looks)
    for number in range(1, look + 1):
        n = question.count if number == look else question.there_at(looks[number - 1])
        if not n:
            continue
        found = _ask(question, n, level.alpha, looks)
        if isinstance(found, CheckResult):
            return found
        answer = found
        deterministic = answer.interval is not None and answer.interval.method is Method.DETERMINISTIC
        settled = deterministic if answer.is_point else answer.above or answer.below
        if settled or number == look:
            break
    return _result(question, None if question.by_points else answer, level, n, settled=settled or last)


def _result(question: Question, answer: Answer | None, level: Level, n: int, *, settled: bool) -> CheckResult:
    if answer is None or answer.is_point:
        return _by_points(question, answer, n, settled)
    return _by_test(question, answer, level, n, settled)


def _by_points(question: Question, answer: Answer | None, n: int, settled: bool) -> CheckResult:
    check = question.check
    mean, other = question.sides(n)
    values, theirs = question.values[:n], question.theirs
    if isinstance(check, Threshold):
        result = against_limit(check, mean, n, question.direction)
    else:
        if question.measured is None or question.direction is None:
            raise ValueError(f"{check} has no baseline")
        if answer is not None and answer.interval is not None:
            deterministic = answer.interval.method is Method.DETERMINISTIC
        else:
            deterministic = is_deterministic(values) and (len(theirs) == 1 or is_deterministic(theirs))
        result = against_baseline(
            check, question.direction, mean, n, question.measured, other, deterministic=deterministic
        )
    return replace(
        result,
        warnings=seed_warning(values),
        baseline_runs=question.runs,
        settled=settled,
        slice=question.slice,
    )


def _by_test(question: Question, answer: Answer, level: Level, n: int, settled: bool) -> CheckResult:
    check, measured, interval = question.check, question.measured, answer.interval
    mine, other = question.sides(n)
    outcome = _outcome(question, answer)
    margin = check.margin if isinstance(check, Comparison) else Margin()
    asked_of = question.other if question.paired else other
    tolerance = check.margin.of(asked_of) if isinstance(check, Comparison) else 0.0
    share = relative_change(answer.gain, question.sign) if question.ratio else 0.0
    figures = Figures(
        name=check.metric,
        mine=mine,
        n=n,
        other=other,
        m=question.compared_with(n),
        against=f"{check.baseline}: {measured.title}" if isinstance(check, Comparison) and measured else "",
        sign=question.sign,
        gain=question.sign * share if question.ratio else answer.gain,
        lower=interval.lower if interval else None,
        upper=interval.upper if interval else None,
        margin=margin,
        tolerance=tolerance / asked_of if question.ratio else tolerance,
        outcome=outcome.value,
        noise=interval.sd if interval else 0.0,
        se=interval.se if interval else 0.0,
        increased=bool(interval and interval.variance_increased),
        rows=len(question.rows.candidate[0]) if question.rows else 0,
        changed=answer.changed,
        slice=question.slice,
        ratio=question.ratio,
    )
    low, high = _bounds(question, answer, other)
    unit = other if question.ratio else 1.0
    ledger = interval.ledger if interval else None
    return CheckResult(
        str(check),
        check.metric,
        outcome,
        sentence_of(check, figures),
        estimate=mine,
        baseline=other,
        difference=other * share if question.ratio else question.sign * answer.gain,
        margin=tolerance if isinstance(check, Comparison) else None,
        test=answer.test,
        candidate_n=n,
        baseline_n=question.compared_with(n),
        baseline_run=measured.run_id if measured else None,
        baseline_title=measured.title if measured else "",
        better=None if answer.gain == 0 else answer.gain > 0,
        warnings=(*seed_warning(question.values[:n]), *_increase(figures, question)),
        lower=low,
        upper=high,
        alpha=answer.alpha,
        noise_sd=interval.sd * unit if interval else None,
        noise_df=interval.df if interval and math.isfinite(interval.df) else None,
        ledger_sd=ledger.sd * unit if ledger else None,
        ledger_runs=ledger.runs if ledger else 0,
        correction=level.correction,
        baseline_runs=question.runs,
        rows=figures.rows,
        slice=question.slice,
        settled=settled,
    )


def _outcome(question: Question, answer: Answer) -> Outcome:
    if question.guard:
        return Outcome.FAIL if answer.below else Outcome.PASS
    if answer.above:
        return Outcome.PASS
    return Outcome.FAIL if answer.below else Outcome.INCONCLUSIVE


def _bounds(question: Question, answer: Answer, other: float) -> tuple[float | None, float | None]:
    """The bounds of the difference, candidate minus baseline, in the metric's unit."""
    if answer.interval is None:
        return None, None
    gains, sign = (answer.interval.lower, answer.interval.upper), question.sign
    ends = [other * relative_change(gain, sign) if question.ratio else sign * gain for gain in gains]
    return min(ends), max(ends)


def _increase(figures: Figures, question: Question) -> tuple[str, ...]:
    if not figures.increased or question.ledger is None:
        return ()
    now = in_words(figures.noise, figures.margin, figures.ratio)
    before = in_words(question.ledger.sd, figures.margin, figures.ratio)
    return (f"variance increased: {now} per run, where {before} was usual",)
