"""The words and figures that people read."""

import math

import pytest

from orchestrator.domain.gate import CheckResult, Outcome
from orchestrator.domain.report import (
    Report,
    Word,
    format_duration,
    format_size,
    is_broken,
    is_fixed,
    key_metric,
    label_for,
    trend_for,
    word_for,
)
from orchestrator.domain.run import RunState
from tests.unit.domain.examples import run

PASSED, REJECTED, FAILED = RunState.PASSED, RunState.REJECTED, RunState.FAILED

WORDS = {
    (PASSED, REJECTED): Word.FIXED,
    (PASSED, FAILED): Word.FIXED,
    (REJECTED, PASSED): Word.BROKEN,
    (REJECTED, REJECTED): Word.STILL_FAILING,
    (FAILED, FAILED): Word.STILL_FAILING,
}
PLAIN = {
    RunState.AWAITING_APPROVAL: Word.STARTED,
    RunState.QUEUED: Word.STARTED,
    RunState.RUNNING: Word.STARTED,
    RunState.EVALUATING: Word.STARTED,
    RunState.PASSED: Word.PASSED,
    RunState.REJECTED: Word.REJECTED,
    RunState.INCONCLUSIVE: Word.INCONCLUSIVE,
    RunState.FAILED: Word.FAILED,
    RunState.ERRORED: Word.ERRORED,
    RunState.CANCELLED: Word.CANCELLED,
}


@pytest.mark.parametrize("previous", [None, PASSED, REJECTED, FAILED])
@pytest.mark.parametrize("state", RunState)
def test_one_word_says_what_happened(state: RunState, previous: RunState | None) -> None:
    expected = WORDS[state, previous] if previous and (state, previous) in WORDS else PLAIN[state]
    assert word_for(state, previous) is expected


@pytest.mark.parametrize(
    ("state", "previous", "label"),
    [
        (PASSED, None, "passed"),
        (PASSED, PASSED, "passed"),
        (PASSED, FAILED, "passed (fixed)"),
        (REJECTED, None, "rejected"),
        (REJECTED, PASSED, "rejected (broken)"),
        (REJECTED, REJECTED, "rejected (still failing)"),
        (REJECTED, FAILED, "rejected (still broken)"),
        (FAILED, PASSED, "failed (broken)"),
        (FAILED, REJECTED, "failed (still broken)"),
        (FAILED, FAILED, "failed (still failing)"),
        (RunState.ERRORED, PASSED, "errored"),
        (RunState.AWAITING_APPROVAL, FAILED, "awaiting approval"),
    ],
)
def test_a_label_tells_the_state_before_what_it_means(
    state: RunState, previous: RunState | None, label: str
) -> None:
    assert label_for(state, previous) == label


def test_a_crash_after_a_rejection_says_that_it_crashed_and_that_it_is_still_broken() -> None:
    report = Report(
        run(), word_for(FAILED, REJECTED), "exit code 1", "", "", trend=trend_for(FAILED, REJECTED)
    )
    assert report.subject == "[wine] failed, still broken: exit code 1"


@pytest.mark.parametrize("state", RunState)
def test_trouble_of_the_infrastructure_neither_fixes_nor_breaks(state: RunState) -> None:
    for outcome in (RunState.ERRORED, RunState.CANCELLED, RunState.INCONCLUSIVE):
        assert not is_fixed(outcome, state)
        assert not is_broken(outcome, state)


def test_the_first_run_of_a_branch_is_neither_fixed_nor_broken() -> None:
    assert not is_fixed(PASSED, None)
    assert not is_broken(REJECTED, None)


def check(
    metric: str,
    outcome: Outcome = Outcome.PASS,
    estimate: float | None = 0.9,
    difference: float | None = None,
) -> CheckResult:
    baseline_run = None if difference is None else 3
    return CheckResult(
        metric, metric, outcome, "", estimate=estimate, difference=difference, baseline_run=baseline_run
    )


def test_the_key_metric_is_the_failing_one_then_the_compared_one_then_the_first() -> None:
    threshold, compared = check("f1", estimate=0.8), check("accuracy", estimate=0.931, difference=0.012)
    failing = check("recall", Outcome.FAIL, estimate=0.5)
    assert key_metric((threshold, compared, failing)) == "recall 0.5"
    assert key_metric((threshold, compared)) == "accuracy 0.931 (+0.012)"
    assert key_metric((threshold,)) == "f1 0.8"
    assert key_metric((check("f1", Outcome.INCONCLUSIVE, estimate=None),)) == ""
    assert key_metric(()) == ""


def test_a_failing_threshold_still_tells_the_difference_with_the_baseline() -> None:
    checks = (check("accuracy", Outcome.FAIL, 0.897), check("accuracy", Outcome.PASS, 0.897, -0.018))
    assert key_metric(checks) == "accuracy 0.897 (-0.018)"


def test_a_key_metric_of_zero_or_nan_is_shown_as_it_is() -> None:
    assert key_metric((check("loss", estimate=0.0),)) == "loss 0"
    assert key_metric((check("loss", Outcome.FAIL, estimate=math.nan),)) == "loss NaN"


@pytest.mark.parametrize(
    ("metric", "outcome", "subject"),
    [
        (
            "accuracy 0.931 (+0.012)",
            "deployed to prod",
            "[wine] fixed: accuracy 0.931 (+0.012), deployed to prod",
        ),
        ("accuracy 0.931", "", "[wine] fixed: accuracy 0.931"),
        ("", "not deployed", "[wine] fixed: exit code 1, not deployed"),
    ],
)
def test_the_subject_carries_the_news(metric: str, outcome: str, subject: str) -> None:
    assert Report(run(), Word.FIXED, "exit code 1", metric, outcome).subject == subject


def failed(cause: str, outcome: str = "") -> str:
    headline = "the command ended with exit code 1"
    return Report(
        run(), Word.FAILED, headline, "", outcome, likely_cause=cause, failure="exit code 1"
    ).subject


def test_the_subject_of_a_failure_tells_the_likely_cause_where_it_is_known() -> None:
    assert failed("KeyError: 'flavonoids'") == "[wine] failed: KeyError: 'flavonoids' (exit code 1)"
    assert failed("") == "[wine] failed: the command ended with exit code 1"


def test_a_long_cause_leaves_room_for_the_rest_of_the_subject() -> None:
    subject = failed("ValueError: " + "a very long story " * 20, "not deployed")
    assert len(subject) <= 120
    assert subject.startswith("[wine] failed: ValueError: a very long story")
    assert subject.endswith("… (exit code 1), not deployed")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.84, "0.8 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 m 0 s"),
        (252, "4 m 12 s"),
        (3599.7, "1 h 0 m"),
        (7500, "2 h 5 m"),
        (90000, "25 h 0 m"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (150 * 1024, "150 KiB"),
        (20 << 20, "20.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_sizes_are_in_binary_units(count: int, text: str) -> None:
    assert format_size(count) == text
