"""The plain cases of a gate, where no noise is known, and the sentences in which it gives its evidence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.check import Check, Comparison, parse_check
from orchestrator.domain.gate import CheckResult, Gate, OnInconclusive, Outcome, Reference, Verdict, judge
from orchestrator.domain.metrics import Direction
from tests.unit.domain.examples import measured

DIRECTIONS = {"accuracy": Direction.HIGHER, "latency": Direction.LOWER}
NO_BASELINE = Reference(None, "no eligible baseline yet")


def against(*values: float, metric: str = "accuracy", comparable: bool = True) -> Reference:
    baseline = measured({metric: values} if values else {}, run_id=3, title="wine #1")
    return Reference(baseline, comparable=comparable)


def verdict(
    checks: tuple[str, ...],
    values: dict[str, tuple[float, ...]],
    reference: Reference = NO_BASELINE,
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD,
) -> Verdict:
    parsed: tuple[Check, ...] = tuple(parse_check(check) for check in checks)
    references = {check: reference for check in parsed if isinstance(check, Comparison)}
    return judge(Gate(parsed, on_inconclusive), measured(values), references, DIRECTIONS)


def result(check: str, values: tuple[float, ...], reference: Reference = NO_BASELINE) -> CheckResult:
    """The result of one check on values of its metric."""
    metric = check.split()[0]
    return verdict((check,), {metric: values} if values else {}, reference).checks[0]


# The first days


def test_without_a_baseline_a_comparison_is_skipped_and_thresholds_still_judge() -> None:
    checks = ("accuracy >= 0.9", "accuracy not worse than best")
    passed = verdict(checks, {"accuracy": (0.93,)})
    assert [c.outcome for c in passed.checks] == [Outcome.PASS, Outcome.SKIPPED]
    assert passed.outcome is Outcome.PASS
    assert passed.sentence == "accuracy 0.93 (1 run) meets the limit >= 0.9: pass"
    assert passed.checks[1].sentence == "accuracy 0.93: not compared, no eligible baseline yet"

    failed = verdict(checks, {"accuracy": (0.8,)})
    assert failed.outcome is Outcome.FAIL
    assert failed.sentence == "accuracy 0.8 (1 run) misses the limit >= 0.9: fail"


def test_a_gate_of_skipped_checks_alone_passes_and_says_that_nothing_was_applied() -> None:
    first = verdict(("accuracy not worse than best",), {"accuracy": (0.5,)})
    assert first.outcome is Outcome.PASS
    assert (
        first.sentence
        == "no check could be applied yet: accuracy 0.5: not compared, no eligible baseline yet"
    )


def test_a_gate_without_checks_passes_and_says_so() -> None:
    assert verdict((), {"accuracy": (0.1,)}) == Verdict(
        Outcome.PASS, "the pipeline has no checks: every run that completes passes"
    )


# Golden sentences: what the evidence claims is what the test did, no more


@pytest.mark.parametrize(
    ("check", "values", "baseline", "sentence"),
    [
        (
            "accuracy not worse than best by 0.5pp",
            (0.912,),
            (0.915,),
            (
                "accuracy 0.912 (1 run) against 0.915 (best: wine #1, 1 run): worse by 0.3 points, "
                "a loss of up to 0.5 points is allowed (point test, unreplicated): pass"
            ),
        ),
        (
            "accuracy not worse than best by 1pp",
            (0.81,),
            (0.8,),
            (
                "accuracy 0.81 (1 run) against 0.8 (best: wine #1, 1 run): better by 1 point, "
                "a loss of up to 1 point is allowed (point test, unreplicated): pass"
            ),
        ),
        (
            "accuracy not worse than best by 1pp",
            (0.8,),
            (0.81,),
            (
                "accuracy 0.8 (1 run) against 0.81 (best: wine #1, 1 run): worse by 1 point, "
                "a loss of up to 1 point is allowed (point test, unreplicated): pass"
            ),
        ),
        (
            "accuracy not worse than best",
            (0.897,),
            (0.915,),
            (
                "accuracy 0.897 (1 run) against 0.915 (best: wine #1, 1 run): worse by 0.018, "
                "no loss is allowed (point test, unreplicated): fail"
            ),
        ),
        (
            "accuracy better than best by 1pp",
            (0.93,),
            (0.91,),
            (
                "accuracy 0.93 (1 run) against 0.91 (best: wine #1, 1 run): better by 2 points, "
                "a gain of more than 1 point is asked for (point test, unreplicated): pass"
            ),
        ),
        (
            "accuracy better than best",
            (0.91,),
            (0.91,),
            (
                "accuracy 0.91 (1 run) against 0.91 (best: wine #1, 1 run): no difference, "
                "a gain is asked for (point test, unreplicated): fail"
            ),
        ),
        (
            "accuracy not worse than best",
            (0.91, 0.91),
            (0.90, 0.90),
            (
                "accuracy 0.91 (mean of 2 runs) against 0.9 (best: wine #1, mean of 2 runs): better by 0.01, "
                "no loss is allowed (deterministic: point test): pass"
            ),
        ),
        (
            "latency not worse than best by 5%",
            (11.0,),
            (10.0,),
            (
                "latency 11 (1 run) against 10 (best: wine #1, 1 run): worse by 1, "
                "a loss of up to 5% (0.5) is allowed (point test, unreplicated): fail"
            ),
        ),
    ],
)
def test_the_evidence_claims_no_more_than_the_test_did(
    check: str, values: tuple[float, ...], baseline: tuple[float, ...], sentence: str
) -> None:
    judged = result(check, values, against(*baseline, metric=check.split()[0]))
    assert judged.sentence == sentence
    assert sentence.endswith(f": {judged.outcome.value}")


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(["not worse than", "better than", "proven not worse than"]),
)
def test_one_run_on_each_side_and_no_ledger_says_that_it_is_unreplicated(
    value: float, baseline: float, claim: str
) -> None:
    judged = result(f"accuracy {claim} best", (value,), against(baseline))
    assert "point test, unreplicated" in judged.sentence
    assert (judged.lower, judged.upper, judged.noise_sd) == (None, None, None)
    for word in ("significant", "shown", "noise", "confidence", "p ="):
        assert word not in judged.sentence


def test_a_result_carries_the_numbers_behind_its_sentence() -> None:
    judged = result("latency not worse than best by 50%", (10.0,), against(12.0, metric="latency"))
    assert judged == CheckResult(
        check="latency not worse than best by 50%",
        metric="latency",
        outcome=Outcome.PASS,
        sentence=judged.sentence,
        estimate=10.0,
        baseline=12.0,
        difference=-2.0,
        margin=6.0,
        test="point test",
        candidate_n=1,
        baseline_n=1,
        baseline_run=3,
        baseline_title="wine #1",
        better=True,
        baseline_runs=(3,),
    )


# Boundaries


@pytest.mark.parametrize(
    ("check", "value", "baseline", "outcome"),
    [
        ("accuracy not worse than best by 0.1", 0.8, 0.9, Outcome.PASS),
        ("accuracy not worse than best by 0.1", 0.7999, 0.9, Outcome.FAIL),
        ("accuracy not worse than best by 10%", 0.81, 0.9, Outcome.PASS),
        ("accuracy not worse than best by 10%", 0.8099, 0.9, Outcome.FAIL),
        ("accuracy better than best by 0.1", 0.9, 0.8, Outcome.FAIL),
        ("accuracy better than best by 0.1", 0.4, 0.3, Outcome.FAIL),
        ("accuracy better than best by 0.2", 0.9, 0.7, Outcome.FAIL),
        ("accuracy better than best by 0.1", 0.9001, 0.8, Outcome.PASS),
        ("accuracy better than best", 0.9, 0.9, Outcome.FAIL),
        ("accuracy not worse than best", 0.9, 0.9, Outcome.PASS),
        ("accuracy not worse than best", 0.0, 0.0, Outcome.PASS),
        ("latency not worse than best by 10%", 0.33, 0.3, Outcome.PASS),
        ("latency not worse than best by 10%", 0.3301, 0.3, Outcome.FAIL),
        ("latency not worse than best by 0.1", 0.3, 0.2, Outcome.PASS),
        ("latency better than best", 0.1, 0.2, Outcome.PASS),
        ("latency better than best", 0.2, 0.1, Outcome.FAIL),
        ("accuracy not worse than best by 10%", -1.1, -1.0, Outcome.PASS),
        ("accuracy not worse than best by 10%", -1.2, -1.0, Outcome.FAIL),
    ],
)
def test_a_value_exactly_at_the_margin_is_within_it_whatever_binary_fractions_do(
    check: str, value: float, baseline: float, outcome: Outcome
) -> None:
    assert result(check, (value,), against(baseline, metric=check.split()[0])).outcome is outcome


@pytest.mark.parametrize(
    ("check", "values", "outcome"),
    [
        ("accuracy >= 0", (0.0,), Outcome.PASS),
        ("accuracy > 0", (0.0,), Outcome.FAIL),
        ("accuracy > 0", (1e-9,), Outcome.PASS),
        ("accuracy >= -1", (-1.0,), Outcome.PASS),
        ("accuracy <= 0.9", (0.9,), Outcome.PASS),
        ("accuracy < 0.9", (0.9,), Outcome.FAIL),
        ("latency <= 0.1", (0.1, 0.1, 0.1), Outcome.PASS),
        ("latency < 0.1", (0.1, 0.1, 0.1), Outcome.FAIL),
        ("accuracy >= 0.9", (0.85, 0.95), Outcome.PASS),
        ("accuracy >= 0.9", (0.85, 0.9499), Outcome.FAIL),
    ],
)
def test_a_threshold_judges_the_mean_of_all_replicates(
    check: str, values: tuple[float, ...], outcome: Outcome
) -> None:
    assert result(check, values).outcome is outcome


def test_a_value_that_misses_by_little_is_never_shown_as_the_limit_itself() -> None:
    assert result("accuracy >= 1", (0.99999999,)).sentence == (
        "accuracy 0.99999999 (1 run) misses the limit >= 1: fail"
    )


def test_a_threshold_says_which_side_is_better_only_where_a_direction_is_known() -> None:
    assert result("accuracy >= 0.9", (0.95,)).better is True
    assert result("latency <= 10", (12.0,)).better is False
    assert result("rows >= 10", (12.0,)).better is None


# What cannot be compared


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "check",
    [
        "accuracy >= 0.9",
        "accuracy <= 0.9",
        "latency > 1",
        "latency < 1",
        "accuracy not worse than best",
        "accuracy better than best",
        "latency not worse than best",
        "latency better than best",
    ],
)
def test_nan_and_infinities_fail_any_check(check: str, value: float) -> None:
    judged = result(check, (value, 0.95), against(0.5, metric=check.split()[0]))
    assert judged.outcome is Outcome.FAIL
    assert judged.sentence.endswith("fail")
    assert result(check, (value,), NO_BASELINE).outcome is Outcome.FAIL


def test_a_nan_is_named_in_the_evidence() -> None:
    assert result("accuracy >= 0.9", (0.95, math.nan)).sentence == (
        "accuracy is NaN (mean of 2 runs), which meets no limit: fail"
    )
    assert result("accuracy better than best", (math.nan,), against(0.5)).sentence == (
        "accuracy is NaN (1 run), which cannot be compared: fail"
    )


def test_equal_nans_are_no_sign_of_an_unused_seed() -> None:
    assert result("accuracy >= 0.9", (math.nan, math.nan)).warnings == ()


def test_a_metric_that_this_run_lacks_leaves_the_check_undecided() -> None:
    threshold = result("accuracy >= 0.9", ())
    assert threshold.outcome is Outcome.INCONCLUSIVE
    assert threshold.sentence == "accuracy was not measured: accuracy >= 0.9 is undecided"
    comparison = result("accuracy not worse than best", (), against(0.9))
    assert comparison.outcome is Outcome.INCONCLUSIVE
    assert comparison.sentence == (
        "accuracy was not measured in this run: accuracy not worse than best is undecided"
    )


@pytest.mark.parametrize("baseline", [(), (math.nan,), (0.9, math.nan), (math.inf,)])
def test_a_metric_that_the_baseline_lacks_leaves_the_check_undecided(baseline: tuple[float, ...]) -> None:
    judged = result("accuracy not worse than best", (0.9,), against(*baseline))
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert judged.sentence == "accuracy 0.9: wine #1 (best) has no value to compare with"
    assert judged.baseline_run == 3


def test_values_on_different_evaluation_data_are_never_compared() -> None:
    judged = verdict(("accuracy not worse than best",), {"accuracy": (0.99,)}, against(0.5, comparable=False))
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert judged.sentence == "accuracy 0.99 cannot be compared with wine #1: different evaluation data"
    assert judged.checks[0].difference is None


def test_why_the_baseline_could_not_be_measured_again_is_part_of_the_evidence() -> None:
    reference = Reference(measured({"accuracy": (0.5,)}, title="wine #1"), "the commit is gone", False)
    assert result("accuracy not worse than best", (0.9,), reference).sentence == (
        "accuracy 0.9 cannot be compared with wine #1: different evaluation data (the commit is gone)"
    )


# Seeds


def test_identical_values_from_different_seeds_are_a_point_test_with_a_warning() -> None:
    judged = result("accuracy not worse than best", (0.9, 0.9, 0.9), against(0.8, 0.8))
    assert judged.test == "deterministic: point test"
    (warning,) = judged.warnings
    assert "all seeds gave the same value" in warning
    assert result("accuracy >= 0.5", (0.9, 0.9)).warnings == judged.warnings


def test_a_deterministic_candidate_does_not_make_a_noisy_baseline_deterministic() -> None:
    judged = result("accuracy not worse than best", (0.9, 0.9), against(0.8, 0.85))
    assert judged.test == "Student's t"
    assert judged.noise_sd is not None
    assert judged.noise_sd > 0
    assert judged.warnings


def test_one_value_is_no_sign_of_an_unused_seed() -> None:
    assert result("accuracy >= 0.5", (0.9,)).warnings == ()


# The whole gate


@pytest.mark.parametrize(
    ("on_inconclusive", "outcome", "words"),
    [
        (OnInconclusive.HOLD, Outcome.INCONCLUSIVE, "is undecided"),
        (OnInconclusive.FAIL, Outcome.FAIL, "(inconclusive counts as fail here)"),
        (OnInconclusive.PASS, Outcome.PASS, "(inconclusive counts as pass here)"),
    ],
)
def test_the_pipeline_says_what_an_undecided_check_comes_to(
    on_inconclusive: OnInconclusive, outcome: Outcome, words: str
) -> None:
    judged = verdict(("accuracy >= 0.5", "f1 >= 0.5"), {"accuracy": (0.9,)}, on_inconclusive=on_inconclusive)
    assert judged.outcome is outcome
    assert judged.sentence.startswith("f1 was not measured")
    assert judged.sentence.endswith(words)
    assert judged.checks[1].outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("on_inconclusive", OnInconclusive)
def test_a_failing_check_fails_the_gate_whatever_else_is_undecided(on_inconclusive: OnInconclusive) -> None:
    judged = verdict(("f1 >= 0.5", "accuracy >= 0.95"), {"accuracy": (0.9,)}, on_inconclusive=on_inconclusive)
    assert judged.outcome is Outcome.FAIL
    assert judged.sentence == "accuracy 0.9 (1 run) misses the limit >= 0.95: fail"


def test_results_come_in_the_order_of_the_checks() -> None:
    checks = ("latency <= 10", "accuracy >= 0.9", "accuracy not worse than best")
    judged = verdict(checks, {"accuracy": (0.95,), "latency": (5.0,)})
    assert tuple(c.check for c in judged.checks) == checks
