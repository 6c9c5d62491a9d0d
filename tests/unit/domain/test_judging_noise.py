"""Gates that know the noise: replicates, ledger, looks, many checks, ratios, rows, and their sentences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.check import Check, Comparison, Test, Threshold, parse_check
from orchestrator.domain.gate import (
    CheckResult,
    Drift,
    Gate,
    Holdout,
    HoldoutMode,
    JudgingContext,
    OnInconclusive,
    Outcome,
    Reference,
    Require,
    Verdict,
    judge,
)
from orchestrator.domain.gate.context import Rows, RowScore
from orchestrator.domain.metrics import Direction
from tests.unit.domain.examples import measured

DIRECTIONS = dict.fromkeys(("accuracy", "f1", "auc"), Direction.HIGHER) | {"latency": Direction.LOWER}

# Around 0.914, with a standard deviation of about 0.25 points.
USUAL = (0.9150, 0.9131, 0.9169, 0.9151, 0.9177, 0.9133, 0.9124, 0.9170)
LEDGER = tuple(
    measured({"accuracy": values, "f1": values, "latency": values}, run_id=20 + number)
    for number, values in enumerate(
        [(0.9100, 0.9170, 0.9130), (0.9110, 0.9155, 0.9135), (0.9122, 0.9177, 0.9099), (0.9161, 0.9120)]
    )
)
KNOWN = JudgingContext(ledger=LEDGER)


def as_check(check: str | Check) -> Check:
    return parse_check(check) if isinstance(check, str) else check


def verdict(
    checks: Sequence[str | Check],
    values: Mapping[str, tuple[float, ...]],
    baseline: tuple[float, ...] = USUAL,
    context: JudgingContext = KNOWN,
    gate: Gate | None = None,
) -> Verdict:
    parsed = tuple(as_check(check) for check in checks)
    reference = Reference(measured(dict.fromkeys(values, baseline), run_id=3, title="wine #1"), runs=(3, 4))
    references = {check: reference for check in parsed if isinstance(check, Comparison)}
    asked = replace(gate or Gate(), checks=parsed)
    return judge(asked, measured(values, run_id=9), references, DIRECTIONS, context)


def result(
    check: str | Check,
    values: tuple[float, ...],
    baseline: tuple[float, ...] = USUAL,
    context: JudgingContext = KNOWN,
) -> CheckResult:
    return verdict([check], {as_check(check).metric: values}, baseline, context).checks[0]


def moved(by: float, n: int = 3) -> tuple[float, ...]:
    """Values of a candidate whose mean is that of the baseline and so much more."""
    own = (0.0015, -0.0015, 0.0, 0.0021, -0.0021, 0.0007, -0.0007, 0.0)[:n]
    centre = math.fsum(own) / n
    mean = math.fsum(USUAL) / len(USUAL)
    return tuple(mean + by + value - centre for value in own)


# Golden sentences: what the evidence claims is what the test showed, no more


@pytest.mark.parametrize(
    ("check", "by", "told"),
    [
        (
            "accuracy not worse than best by 0.5pp",
            -0.002,
            (
                "the drop of 0.2 points is within noise (0.26 points per run); "
                "no regression beyond 0.5 points shown: pass"
            ),
        ),
        (
            "accuracy not worse than best by 0.5pp",
            -0.02,
            (
                "the drop of 2 points is more than noise explains (0.26 points per run); "
                "a regression beyond 0.5 points is shown: fail"
            ),
        ),
        (
            "accuracy not worse than best",
            0.0,
            "no difference (0.0026 per run); no regression shown: pass",
        ),
        (
            "accuracy proven not worse than best by 1pp",
            -0.001,
            (
                "the drop of 0.1 points is within noise (0.26 points per run); "
                "that there is no loss beyond 1 point is shown: pass"
            ),
        ),
        (
            "accuracy proven not worse than best by 0.5pp",
            -0.004,
            (
                "the drop of 0.4 points is more than noise explains (0.26 points per run); "
                "neither a loss beyond 0.5 points nor its absence is shown: inconclusive"
            ),
        ),
        (
            "accuracy proven not worse than best by 0.5pp",
            -0.03,
            (
                "the drop of 3 points is more than noise explains (0.26 points per run); "
                "a loss beyond 0.5 points is shown: fail"
            ),
        ),
        (
            "accuracy better than best",
            0.001,
            (
                "the rise of 0.001 is within noise (0.0026 per run); "
                "neither a gain nor its absence is shown: inconclusive"
            ),
        ),
        (
            "accuracy better than best by 1pp",
            0.02,
            (
                "the rise of 2 points is more than noise explains (0.26 points per run); "
                "a gain beyond 1 point is shown: pass"
            ),
        ),
        (
            "accuracy better than best",
            -0.02,
            (
                "the drop of 0.02 is more than noise explains (0.0026 per run); "
                "that there is no gain is shown: fail"
            ),
        ),
    ],
)
def test_a_guard_a_proof_and_an_undecided_claim_say_different_things(
    check: str, by: float, told: str
) -> None:
    sentence = result(check, moved(by)).sentence
    head, _, found = sentence.partition("8 runs): ")
    assert head.endswith("(best: wine #1, ")
    assert "(3 runs) against" in head
    assert found == told


def test_a_drop_of_what_should_fall_is_no_regression() -> None:
    faster = result("latency not worse than best by 1%", moved(-0.02))
    assert faster.outcome is Outcome.PASS
    assert faster.better is True
    assert "the drop of 0.02 is more than noise explains" in faster.sentence
    slower = result("latency not worse than best by 1%", moved(0.03))
    assert slower.outcome is Outcome.FAIL
    assert "the rise of 0.03 is more than noise explains" in slower.sentence
    assert "a regression beyond 1% (0.00915063) is shown: fail" in slower.sentence


def test_a_drop_of_several_times_the_noise_is_never_called_noise() -> None:
    # Two runs against six, as at a first look: a t of 7, and bounds that still hold 0.
    context = JudgingContext(look=1, looks=LOOKS)
    six = (0.9, 0.905, 0.895, 0.902, 0.898, 0.9)
    checks = [f"{name} not worse than best by 0.5pp" for name in ("accuracy", "f1", "auc")]
    early = verdict(checks, dict.fromkeys(("accuracy", "f1", "auc"), (0.88, 0.866)), six, context).checks[0]
    assert early.lower is not None
    assert early.upper is not None
    assert early.lower <= 0 <= early.upper
    assert "the drop of 2.7 points may still be chance" in early.sentence
    assert "within noise" not in early.sentence
    near = verdict(
        ["accuracy >= 0.9"], {"accuracy": (0.88, 0.866)}, context=JudgingContext(look=1, looks=LOOKS)
    )
    assert "within noise" not in near.checks[0].sentence


CLAIMS = st.sampled_from(["not worse than best", "proven not worse than best", "better than best"])


@settings(deadline=None)
@given(
    CLAIMS,
    st.sampled_from(["", " by 0.5pp", " by 1%", " by 0.01"]),
    st.lists(st.floats(0.85, 0.97), min_size=1, max_size=4),
    st.sampled_from([USUAL, USUAL[:3], USUAL[:1]]),
    st.booleans(),
    st.sampled_from(["accuracy", "latency"]),
)
def test_no_sentence_says_more_than_its_bounds_show(
    claim: str, by: str, values: list[float], baseline: tuple[float, ...], ledger: bool, metric: str
) -> None:
    judged = result(f"{metric} {claim}{by}", tuple(values), baseline, KNOWN if ledger else JudgingContext())
    sentence, sign = judged.sentence, 1 if metric == "accuracy" else -1
    assert sentence.endswith(f": {judged.outcome.value}")
    if judged.lower is None or judged.upper is None:
        assert "shown" not in sentence
        assert "within noise" not in sentence
        return
    margin = judged.margin or 0.0
    low, high = sorted((sign * judged.lower, sign * judged.upper))
    if "within noise" in sentence:
        assert low <= 0 <= high
        assert judged.difference is not None
        assert judged.noise_sd is not None
        assert abs(judged.difference) <= 2.0001 * judged.noise_sd
    if "may still be chance" in sentence:
        assert low <= 0 <= high
    if "more than noise explains" in sentence:
        assert not low <= 0 <= high
    if "a regression" in sentence or "; a loss" in sentence:
        assert high < -margin
    if "that there is no loss" in sentence:
        assert low > -margin
    if "; a gain" in sentence:
        assert low > margin
    if "that there is no gain" in sentence:
        assert high < margin
    if claim.startswith("not"):
        assert judged.outcome is not Outcome.INCONCLUSIVE
        assert ("no regression" in sentence) == (judged.outcome is Outcome.PASS)


# The record


def test_a_result_carries_all_that_the_test_went_by() -> None:
    judged = result("accuracy not worse than best by 0.5pp", moved(-0.002))
    assert judged.test == "t with noise ledger"
    assert (judged.candidate_n, judged.baseline_n, judged.baseline_runs) == (3, 8, (3, 4))
    assert judged.difference == pytest.approx(-0.002)
    assert judged.lower is not None
    assert judged.upper is not None
    assert judged.lower < -0.002 < judged.upper
    assert judged.alpha == 0.05
    assert judged.noise_sd == pytest.approx(0.0026, abs=1e-5)
    assert judged.noise_df == 16
    assert judged.ledger_runs == 4
    assert judged.ledger_sd == pytest.approx(0.00328, abs=1e-5)


def test_bounds_are_of_candidate_minus_baseline_whichever_way_is_good() -> None:
    high = result("accuracy not worse than best", moved(0.01))
    low = result("latency not worse than best", moved(0.01))
    assert high.lower is not None
    assert (high.lower, high.upper) == pytest.approx((low.lower, low.upper))
    assert high.lower > 0


def test_the_ledger_leaves_out_the_runs_that_are_compared() -> None:
    wild = measured({"accuracy": (0.1, 0.9)}, run_id=3), measured({"accuracy": (0.0, 0.9)}, run_id=9)
    with_them = result(
        "accuracy not worse than best", moved(0), context=JudgingContext(ledger=(*wild, *LEDGER))
    )
    assert with_them == result("accuracy not worse than best", moved(0))


def test_a_single_run_is_tested_where_the_ledger_knows_the_noise() -> None:
    judged = result("accuracy not worse than best by 0.5pp", moved(-0.02, n=1))
    assert judged.outcome is Outcome.FAIL
    assert judged.test == "t with noise ledger"


@pytest.mark.parametrize(
    ("mine", "theirs", "test"), [(3, 3, "Student's t"), (3, 8, "Welch's t"), (1, 8, "Student's t")]
)
def test_without_a_ledger_the_replicates_themselves_tell_the_noise(mine: int, theirs: int, test: str) -> None:
    judged = result("accuracy not worse than best", moved(0, mine), USUAL[:theirs], JudgingContext())
    assert judged.test == test
    assert judged.ledger_sd is None


def test_a_change_that_makes_training_noisier_says_so() -> None:
    judged = result("accuracy not worse than best", (0.88, 0.95, 0.915))
    assert judged.test == "Welch's t"
    assert "per run, variance increased)" in judged.sentence
    assert judged.warnings == ("variance increased: 0.035 per run, where 0.0033 was usual",)


def test_values_that_were_rounded_are_never_taken_for_finer_than_they_are() -> None:
    judged = result(
        "accuracy not worse than best",
        (0.91, 0.91, 0.91),
        (0.92, 0.91, 0.91, 0.91, 0.91, 0.91),
        JudgingContext(),
    )
    assert judged.noise_sd is not None
    assert judged.noise_sd >= 0.01


def test_a_replicate_that_is_nan_is_never_dropped() -> None:
    assert result("accuracy not worse than best", (*moved(0), math.nan)).outcome is Outcome.FAIL
    undecided = result("accuracy not worse than best", moved(0), (*USUAL, math.nan))
    assert undecided.outcome is Outcome.INCONCLUSIVE


def test_values_beyond_computing_are_undecided_and_no_error() -> None:
    judged = result("accuracy not worse than best", (1e200, 1.0), (1.0, 2.0))
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "too large to be compared" in judged.sentence


def test_a_threshold_is_plain_unless_replicates_are_asked_for() -> None:
    plain = Threshold("accuracy", as_check("accuracy >= 0.9").operator, 0.914)  # type: ignore[union-attr]
    assert result(plain, moved(0)).outcome is Outcome.PASS
    tested = replace(plain, test=Test.REPLICATES)
    undecided = result(tested, moved(0))
    assert undecided.outcome is Outcome.INCONCLUSIVE
    assert (
        "neither that it meets the limit nor that it misses it is shown: inconclusive" in undecided.sentence
    )
    assert result(tested, moved(0.02)).sentence == (
        "accuracy 0.935 (3 runs) against the limit >= 0.914: 0.021 above it, more than noise explains "
        "(0.003 per run); that it meets the limit is shown: pass"
    )
    assert "that it misses the limit is shown: fail" in result(tested, moved(-0.02)).sentence


def test_a_check_may_have_an_error_rate_of_its_own() -> None:
    check = as_check("accuracy better than best")
    assert result(check, moved(0.0035)).outcome is Outcome.PASS
    strict = replace(check, alpha=0.001)
    assert result(strict, moved(0.0035)).outcome is Outcome.INCONCLUSIVE
    assert result(strict, moved(0.0035)).alpha == 0.001


# Ratios


def test_a_ratio_is_judged_on_logarithms_and_told_in_percent() -> None:
    context = JudgingContext(log_ratio=frozenset({"latency"}))
    judged = result("latency not worse than best by 5%", (9.0, 9.3, 9.4), (8.0, 8.2, 8.1), context)
    assert judged.sentence == (
        "latency 9.232 (3 runs) against 8.1 (best: wine #1, 3 runs): the rise of 14 % is more than noise "
        "explains (1.8 % per run); a regression beyond 5% is shown: fail"
    )
    assert judged.difference == pytest.approx(1.132, abs=1e-3)
    assert judged.lower is not None
    assert judged.lower > 0.05 * 8.1
    near = result("latency not worse than best by 20%", (9.0, 9.3, 9.4), (8.0, 8.2, 8.1), context)
    assert near.outcome is Outcome.PASS


def test_a_ratio_of_what_is_not_positive_is_undecided() -> None:
    context = JudgingContext(log_ratio=frozenset({"latency"}))
    judged = result("latency not worse than best by 5%", (0.0, 9.3), (8.0, 8.2), context)
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "only positive values can be compared by their ratio" in judged.sentence


# Looks

LOOKS = (2, 4, 8)


def at_look(number: int, check: str, values: tuple[float, ...]) -> Verdict:
    context = replace(KNOWN, look=number, looks=LOOKS)
    return verdict([check], {"accuracy": values[: LOOKS[number - 1]]}, context=context)


def test_a_clear_loss_is_settled_at_the_first_look() -> None:
    judged = at_look(1, "accuracy not worse than best by 0.5pp", moved(-0.03, 8))
    assert (judged.outcome, judged.settled, judged.look) == (Outcome.FAIL, True, 1)
    assert judged.checks[0].correction == "looks 2, 4, 8"


def test_a_guard_that_has_shown_nothing_yet_is_looked_at_again() -> None:
    first = at_look(1, "accuracy not worse than best by 0.5pp", moved(-0.004, 8))
    assert (first.outcome, first.settled) == (Outcome.PASS, False)
    last = at_look(3, "accuracy not worse than best by 0.5pp", moved(-0.004, 8))
    assert (last.outcome, last.settled, last.look) == (Outcome.PASS, True, 3)


def test_a_guard_stops_once_a_loss_beyond_the_margin_is_ruled_out() -> None:
    assert at_look(1, "accuracy not worse than best by 2pp", moved(0, 8)).settled


def test_bounds_over_looks_are_wider_than_those_of_one() -> None:
    one = result("accuracy not worse than best", moved(0, 2))
    looked = at_look(1, "accuracy not worse than best", moved(0, 2)).checks[0]
    assert one.lower is not None
    assert looked.lower is not None
    assert looked.lower < one.lower


def test_what_an_earlier_look_decided_stays_decided() -> None:
    values = (*moved(0.03, 2), *(value - 0.04 for value in moved(0, 2)))
    assert at_look(1, "accuracy better than best", values).outcome is Outcome.PASS
    second = at_look(2, "accuracy better than best", values)
    assert (second.outcome, second.checks[0].candidate_n) == (Outcome.PASS, 2)


def test_an_earlier_look_is_found_again_where_replicates_failed() -> None:
    # One replicate of two was there at the first look, and decided; the second value is of a later one.
    values = (moved(-0.04, 1)[0], *moved(0.03, 3))
    candidate = replace(measured({"accuracy": values}, run_id=9), numbers=(0, 2, 3, 4))
    check = parse_check("accuracy not worse than best by 0.5pp")
    assert isinstance(check, Comparison)
    reference = Reference(measured({"accuracy": USUAL}, run_id=3, title="wine #1"), runs=(3,))
    context = replace(KNOWN, look=2, looks=(2, 8))
    judged = judge(Gate((check,)), candidate, {check: reference}, DIRECTIONS, context).checks[0]
    assert (judged.outcome, judged.candidate_n) == (Outcome.FAIL, 1)


def test_what_the_look_before_settled_stays_whatever_more_replicates_say() -> None:
    check = "accuracy not worse than best by 0.5pp"
    first = at_look(1, check, moved(-0.04, 2))
    assert first.checks[0].settled
    context = replace(KNOWN, look=2, looks=LOOKS, looked=first.checks)
    # Values of before are not as they were: a baseline that was removed since, or another way of reading.
    again = verdict([check], {"accuracy": moved(0.01, 4)}, context=context)
    assert again.checks == first.checks
    open_one = replace(first.checks[0], settled=False)
    judged_anew = verdict([check], {"accuracy": moved(0.01, 4)}, context=replace(context, looked=(open_one,)))
    assert judged_anew.outcome is Outcome.PASS


def test_of_two_checks_with_the_same_words_each_keeps_its_own_result() -> None:
    check = parse_check("accuracy not worse than best")
    assert isinstance(check, Comparison)
    both = (replace(check, test=Test.POINT), check)
    context = replace(KNOWN, look=1, looks=LOOKS)
    first = verdict(both, {"accuracy": moved(-0.04, 2)}, context=context)
    again = verdict(both, {"accuracy": moved(0, 4)}, context=replace(context, look=2, looked=first.checks))
    assert [c.test for c in again.checks] == [c.test for c in first.checks]
    assert first.checks[0].test != first.checks[1].test


def test_a_plain_check_that_a_look_has_settled_keeps_its_outcome() -> None:
    values = (*moved(0.03, 2), *moved(-0.3, 2))
    assert at_look(1, "accuracy >= 0.8", values).checks[0].settled
    second = at_look(2, "accuracy >= 0.8", values).checks[0]
    assert (second.outcome, second.candidate_n, second.settled) == (Outcome.PASS, 2, True)


def test_pairs_are_of_replicates_with_the_same_seed_and_the_record_shows_them_alone() -> None:
    check = parse_check("accuracy better than best")
    assert isinstance(check, Comparison)
    candidate = replace(measured({"accuracy": (0.61, 0.72, 0.83, 0.99)}, run_id=9), numbers=(0, 2, 3, 7))
    theirs = measured({"accuracy": (0.60, 0.10, 0.70, 0.80)}, run_id=3, title="wine #1")
    context = JudgingContext(pair_seeds=True)
    judged = judge(Gate((check,)), candidate, {check: Reference(theirs)}, DIRECTIONS, context).checks[0]
    assert (judged.outcome, judged.candidate_n, judged.baseline_n) == (Outcome.PASS, 3, 3)
    assert judged.estimate == pytest.approx(0.72)
    assert judged.baseline == pytest.approx(0.70)
    assert judged.difference == pytest.approx(0.02)


def test_a_deterministic_metric_needs_no_further_replicates() -> None:
    context = JudgingContext(look=1, looks=LOOKS)
    judged = verdict(["accuracy not worse than best"], {"accuracy": (0.9, 0.9)}, (0.9, 0.9), context)
    assert judged.settled
    assert judged.checks[0].test == "deterministic: point test"


def test_a_first_look_at_one_replicate_without_any_noise_known_settles_nothing() -> None:
    context = JudgingContext(look=1, looks=(1, 4))
    assert not verdict(["accuracy not worse than best"], {"accuracy": (0.9,)}, (0.9,), context).settled


def test_a_plain_threshold_is_settled_where_the_noise_cannot_bring_it_to_the_other_side() -> None:
    context = replace(KNOWN, look=1, looks=LOOKS)
    assert verdict(["accuracy >= 0.8"], {"accuracy": moved(0, 2)}, context=context).settled
    assert not verdict(["accuracy >= 0.915"], {"accuracy": moved(0, 2)}, context=context).settled
    last = replace(context, look=3)
    assert verdict(["accuracy >= 0.915"], {"accuracy": moved(0, 8)}, context=last).settled


# Many checks

SIX = [f"accuracy not worse than {baseline}" for baseline in ("best", "previous", "branch:a", "branch:b")]


def test_guards_are_corrected_for_their_number_and_claims_that_must_all_hold_are_not() -> None:
    values = {"accuracy": moved(-0.0035)}
    assert verdict(SIX[:1], values).outcome is Outcome.FAIL
    many = verdict(SIX, values)
    assert many.outcome is Outcome.PASS
    assert {c.correction for c in many.checks} == {"Holm over 4"}
    assert many.checks[0].alpha == pytest.approx(0.0125)
    assert verdict(SIX, values, gate=Gate(holm=False)).outcome is Outcome.FAIL
    claims = [check.replace("not worse", "proven not worse") + " by 1pp" for check in SIX]
    assert {c.correction for c in verdict(claims, values).checks} == {""}


def test_over_looks_guards_share_the_error_rate_evenly() -> None:
    context = replace(KNOWN, look=1, looks=LOOKS)
    judged = verdict(SIX, {"accuracy": moved(0, 2)}, context=context)
    assert {c.alpha for c in judged.checks} == {0.0125}
    assert judged.checks[0].correction == "alpha/4 for 4 guards, looks 2, 4, 8"


ANY = Gate(require=Require.ANY)


def test_any_claim_is_enough_where_any_is_asked_for() -> None:
    checks = ["accuracy better than best", "f1 better than best"]
    one = verdict(checks, {"accuracy": moved(0.02), "f1": moved(-0.02)}, gate=ANY)
    assert one.outcome is Outcome.PASS
    assert one.sentence.startswith("accuracy")
    assert {c.correction for c in one.checks} == {"Holm over 2"}
    none = verdict(checks, {"accuracy": moved(-0.02), "f1": moved(-0.02)}, gate=ANY)
    assert none.outcome is Outcome.FAIL
    unsure = verdict(checks, {"accuracy": moved(0), "f1": moved(-0.02)}, gate=ANY)
    assert unsure.outcome is Outcome.INCONCLUSIVE


def test_a_guard_fails_the_gate_also_where_any_claim_is_enough() -> None:
    checks = ["accuracy better than best", "f1 not worse than best"]
    judged = verdict(checks, {"accuracy": moved(0.02), "f1": moved(-0.02)}, gate=ANY)
    assert judged.outcome is Outcome.FAIL
    assert judged.sentence.startswith("f1")


def test_a_manual_gate_stays_inconclusive_and_says_who_decides() -> None:
    gate = Gate(on_inconclusive=OnInconclusive.MANUAL)
    judged = verdict(["accuracy better than best"], {"accuracy": moved(0)}, gate=gate)
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert judged.sentence.endswith("(a person decides)")


# Rows


def by_rows(
    check: str, mine: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], **more: object
) -> tuple[Verdict, CheckResult]:
    asked = replace(as_check(check), test=Test.PAIRED_ROWS, **more)  # type: ignore[arg-type]
    assert isinstance(asked, Comparison)
    places = range(len(mine[0]))
    slices = {"night": [i for i in places if i % 2], "day": [i for i in places if not i % 2]} if more else {}
    rows = Rows(tuple(mine), tuple(theirs), slices=slices)
    context = JudgingContext(rows={asked: rows})
    judged = verdict([asked], {asked.metric: (0.9,) * len(mine)}, (0.9,) * len(theirs), context)
    return judged, judged.checks[0]


RIGHT = [1.0] * 200
"""The baseline has all rows right."""


def test_two_models_are_compared_row_by_row_and_the_sentence_speaks_of_them_alone() -> None:
    mine = [0.0] * 8 + [1.0] * 192
    _, judged = by_rows("accuracy not worse than best", [mine], [RIGHT])
    assert judged.outcome is Outcome.FAIL
    assert judged.test == "exact McNemar"
    assert judged.rows == 200
    assert judged.sentence == (
        "accuracy 0.96 (1 run, 200 rows) against 1 (best: wine #1, 1 run): the drop of 0.04 (8 rows lost, 0 "
        "gained); a regression is shown, of these two models alone: fail"
    )
    _, few = by_rows("accuracy not worse than best", [[0.0] * 4 + [1.0] * 196], [RIGHT])
    assert few.outcome is Outcome.PASS


def test_with_a_margin_rows_are_compared_by_their_mean_difference() -> None:
    mine = [0.0] * 8 + [1.0] * 192
    _, judged = by_rows("accuracy not worse than best by 5pp", [mine], [RIGHT])
    assert judged.outcome is Outcome.PASS
    assert judged.test == "paired rows"
    assert "standard error" in judged.sentence
    assert judged.lower is not None


def test_several_runs_speak_of_the_recipe() -> None:
    mine = [[0.0] * 20 + [1.0] * 180, [1.0] * 10 + [0.0] * 20 + [1.0] * 170]
    _, judged = by_rows("accuracy not worse than best", mine, [RIGHT, RIGHT])
    assert judged.outcome is Outcome.FAIL
    assert "these two models alone" not in judged.sentence


def test_each_slice_is_judged_by_itself_and_corrected_for_their_number() -> None:
    mine = [0.0 if i % 2 and i < 40 else 1.0 for i in range(200)]
    judged, _ = by_rows("accuracy not worse than best", [mine], [RIGHT], slices="time")
    assert [(c.slice, c.outcome.value, c.rows) for c in judged.checks] == [
        ("time day", "pass", 100),
        ("time night", "fail", 100),
    ]
    assert judged.outcome is Outcome.FAIL
    assert judged.sentence.startswith("accuracy on time night 0.8 (1 run, 100 rows)")
    assert {c.correction for c in judged.checks} == {"Holm over 2"}


def test_predictions_that_cannot_be_compared_leave_the_check_undecided_with_the_reason() -> None:
    check = replace(as_check("accuracy not worse than best"), test=Test.PAIRED_ROWS)
    assert isinstance(check, Comparison)
    context = JudgingContext(rows={check: "the row ids differ: 3 are in this run alone"})
    judged = result(check, (0.9,), (0.9,), context)
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert judged.sentence == "accuracy 0.9: the row ids differ: 3 are in this run alone"
    assert (
        result(check, (0.9,), (0.9,), JudgingContext()).sentence == "accuracy 0.9: no predictions were read"
    )


def test_f1_is_compared_by_drawing_rows_anew() -> None:
    labels = [1.0, 0.0] * 100
    wrong = [1.0 - label if i < 30 else label for i, label in enumerate(labels)]
    check = replace(as_check("f1 not worse than best"), test=Test.PAIRED_ROWS)
    assert isinstance(check, Comparison)
    rows = Rows((wrong,), (labels,), RowScore.F1, labels)
    judged = result(check, (0.85,), (1.0,), JudgingContext(rows={check: rows}))
    assert judged.outcome is Outcome.FAIL
    assert judged.test == "paired bootstrap over rows"


def test_too_few_rows_show_nothing() -> None:
    loss = replace(as_check("latency better than best"), test=Test.PAIRED_ROWS)
    assert isinstance(loss, Comparison)
    judged = result(loss, (0.2,), (0.9,), JudgingContext(rows={loss: Rows(([0.2],), ([0.9],))}))
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert judged.sentence == "latency 0.2: 1 row only, which shows nothing; at least 5 are needed"
    sliced, _ = by_rows("accuracy not worse than best", [[0.0] * 9], [[1.0] * 9], slices="time")
    assert [(c.slice, c.outcome) for c in sliced.checks] == [
        ("time day", Outcome.FAIL),
        ("time night", Outcome.INCONCLUSIVE),
    ]
    assert sliced.checks[1].sentence.endswith(
        "time night has 4 rows only, which show nothing; at least 5 are needed"
    )


def test_a_slice_with_one_class_alone_is_undecided() -> None:
    labels = [1.0, 0.0] * 100
    check = as_check("auc not worse than best")
    assert isinstance(check, Comparison)
    check = replace(check, test=Test.PAIRED_ROWS, slices="time")
    slices = {"night": range(0, 200, 2), "day": range(200)}
    rows = Rows((labels,), (labels,), RowScore.AUC, labels, slices)
    judged = verdict([check], {"auc": (1.0,)}, (1.0,), JudgingContext(rows={check: rows}))
    assert [(c.slice, c.outcome) for c in judged.checks] == [
        ("time day", Outcome.PASS),
        ("time night", Outcome.INCONCLUSIVE),
    ]
    assert judged.checks[1].sentence == (
        "auc on time night: the metric is not defined on these rows: are all labels the same?"
    )
    looked = JudgingContext(rows={check: rows}, look=1, looks=(1, 2))
    assert verdict([check], {"auc": (1.0,)}, (1.0,), looked).outcome is Outcome.INCONCLUSIVE


# Hold-out budget


def test_the_hold_out_budget_makes_each_verdict_stricter() -> None:
    budget = Holdout("test-v3", HoldoutMode.NONE, max_uses=100)
    judged = verdict(["accuracy better than best"], {"accuracy": moved(0.006)}, gate=Gate(holdout=budget))
    assert judged.checks[0].alpha == pytest.approx(0.0005)
    assert judged.checks[0].correction == "hold-out 0.05 over 100 uses"
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert verdict(["accuracy better than best"], {"accuracy": moved(0.006)}).outcome is Outcome.PASS


@pytest.mark.parametrize(("uses", "warned"), [(0, False), (78, False), (79, True), (99, True)])
def test_a_hold_out_that_wears_out_is_warned_of(uses: int, warned: bool) -> None:
    gate = Gate(holdout=Holdout("test-v3", HoldoutMode.NONE, max_uses=100))
    judged = verdict(
        ["accuracy better than best"],
        {"accuracy": moved(0)},
        context=replace(KNOWN, holdout_uses=uses),
        gate=gate,
    )
    assert bool(judged.warnings) == warned


@pytest.mark.parametrize(
    ("on_exhausted", "outcome"),
    [(OnInconclusive.HOLD, Outcome.INCONCLUSIVE), (OnInconclusive.FAIL, Outcome.FAIL)],
)
def test_a_hold_out_that_is_used_up_judges_nothing_any_more(
    on_exhausted: OnInconclusive, outcome: Outcome
) -> None:
    gate = Gate(holdout=Holdout("test-v3", HoldoutMode.NONE, 100, on_exhausted=on_exhausted))
    context = replace(KNOWN, holdout_uses=100)
    judged = verdict(["accuracy better than best"], {"accuracy": moved(0.03)}, context=context, gate=gate)
    assert judged.outcome is outcome
    assert "test-v3 is used up: it has given all of its 100 verdicts" in judged.sentence
    assert judged.checks[0].estimate is None


@pytest.mark.parametrize("undecided", list(OnInconclusive))
def test_a_hold_out_that_is_used_up_passes_nothing_whatever_becomes_of_undecided_runs(
    undecided: OnInconclusive,
) -> None:
    gate = Gate(on_inconclusive=undecided, holdout=Holdout("test-v3", HoldoutMode.NONE, 100))
    context = replace(KNOWN, holdout_uses=100)
    for checks in (["accuracy better than best"], ["accuracy >= 0.9"]):
        judged = verdict(checks, {"accuracy": moved(-0.5)}, context=context, gate=gate)
        assert judged.outcome is Outcome.INCONCLUSIVE


def test_without_a_budget_uses_are_counted_and_shown() -> None:
    gate = Gate(holdout=Holdout("test-v3"))
    context = replace(KNOWN, holdout_uses=41)
    judged = verdict(["accuracy better than best"], {"accuracy": moved(0)}, context=context, gate=gate)
    assert judged.warnings == ("test-v3 was judged with 42 times",)
    assert judged.checks[0].alpha == 0.05


def test_what_a_failed_run_left_open_is_not_called_a_pass() -> None:
    context = JudgingContext(look=1, looks=LOOKS)
    values = {"accuracy": moved(-0.02, 2), "f1": moved(-0.004, 2)}
    judged = verdict(["accuracy >= 0.99", "f1 not worse than best"], values, context=context)
    assert (judged.outcome, judged.settled) == (Outcome.FAIL, True)
    guard = judged.checks[1]
    assert (guard.outcome, guard.settled) == (Outcome.INCONCLUSIVE, False)
    assert guard.sentence.endswith(
        "no regression shown; look 1 of 3 was the last, as accuracy >= 0.99 had failed: undecided"
    )


@pytest.mark.parametrize(("comparable", "outcome"), [(True, Outcome.SKIPPED), (False, Outcome.INCONCLUSIVE)])
def test_a_baseline_that_cannot_be_had_is_told_from_one_that_is_not_there_yet(
    comparable: bool, outcome: Outcome
) -> None:
    check = as_check("accuracy not worse than best")
    assert isinstance(check, Comparison)
    references = {check: Reference(None, "its training failed", comparable)}
    judged = judge(Gate((check,)), measured({"accuracy": (0.1,)}, run_id=9), references, DIRECTIONS, KNOWN)
    assert judged.checks[0].outcome is outcome
    assert judged.outcome is (Outcome.PASS if comparable else Outcome.INCONCLUSIVE)
    assert "its training failed" in judged.sentence


# Drift


def test_a_level_that_changed_lately_is_warned_of_and_judges_nothing() -> None:
    steady = tuple(0.93 + 0.001 * ((i * 7) % 5 - 2) for i in range(20))
    history = (*steady, *(value - 0.02 for value in steady[:8]))
    context = JudgingContext(history={"accuracy": history})
    gate = Gate(drift=Drift(("accuracy",)))
    judged = verdict(["accuracy >= 0.5"], {"accuracy": (0.91,)}, context=context, gate=gate)
    assert judged.outcome is Outcome.PASS
    (warning,) = judged.warnings
    assert warning.startswith("accuracy has drifted for the worse: from 0.93")
    assert warning.endswith(", 8 commits ago")
    quiet = JudgingContext(history={"accuracy": steady})
    assert verdict(["accuracy >= 0.5"], {"accuracy": (0.91,)}, context=quiet, gate=gate).warnings == ()
