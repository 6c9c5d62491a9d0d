"""Candidate against baseline by replicates: which test is made, and that it is that test."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from orchestrator.domain.statistics.bounds import (
    Interval,
    Method,
    compare,
    compare_paired,
    compare_with_constant,
    is_deterministic,
)
from orchestrator.domain.statistics.looks import Bound
from orchestrator.domain.statistics.noise import Noise, pool

THREE = [0.912, 0.908, 0.915]
OTHER_THREE = [0.917, 0.913, 0.916]
EIGHT = [0.915, 0.918, 0.911, 0.914, 0.917, 0.913, 0.916, 0.912]
LEDGER = Noise(sd=0.003, df=20, runs=10)


def test_as_many_replicates_on_both_sides_without_a_ledger_are_compared_by_students_t() -> None:
    interval = compare(THREE, OTHER_THREE)
    known = stats.ttest_ind(THREE, OTHER_THREE).confidence_interval(0.90)
    assert interval.method is Method.STUDENT
    assert (interval.lower, interval.upper) == pytest.approx((known.low, known.high))
    assert interval.df == 4


def test_unequal_numbers_without_a_ledger_are_compared_by_welchs_t() -> None:
    interval = compare(THREE, EIGHT)
    known = stats.ttest_ind(THREE, EIGHT, equal_var=False)
    bounds = known.confidence_interval(0.90)
    assert interval.method is Method.WELCH
    assert not interval.variance_increased
    assert (interval.lower, interval.upper) == pytest.approx((bounds.low, bounds.high))
    assert interval.df == pytest.approx(known.df)


def test_a_single_run_borrows_the_noise_of_the_other_sides_replicates() -> None:
    interval = compare([0.905], EIGHT)
    assert interval.method is Method.STUDENT
    assert interval.df == 7
    sd = stats.tstd(EIGHT)
    assert interval.se == pytest.approx(sd * math.sqrt(1 + 1 / 8))


def test_ledger_and_both_sides_are_one_estimate_of_the_noise() -> None:
    interval = compare(THREE, EIGHT, LEDGER)
    variance = (20 * 0.003**2 + 2 * stats.tvar(THREE) + 7 * stats.tvar(EIGHT)) / 29
    assert interval.method is Method.LEDGER
    assert interval.df == 29
    assert interval.sd == pytest.approx(math.sqrt(variance))
    assert interval.upper - interval.estimate == pytest.approx(
        stats.t.ppf(0.95, 29) * math.sqrt(variance * (1 / 3 + 1 / 8))
    )


def test_with_a_ledger_even_two_single_runs_are_tested() -> None:
    interval = compare([0.90], [0.92], LEDGER)
    assert (interval.method, interval.df) == (Method.LEDGER, 20)
    assert interval.se == pytest.approx(0.003 * math.sqrt(2))
    assert interval.upper < 0


def test_two_single_runs_without_a_ledger_are_unreplicated() -> None:
    interval = compare([0.90], [0.92])
    assert interval.method is Method.UNREPLICATED
    assert interval.lower == interval.upper == interval.estimate == pytest.approx(-0.02)


@pytest.mark.parametrize(
    ("candidate", "baseline", "ledger"),
    [
        ([0.9] * 3, [0.8] * 3, None),
        ([0.9] * 3, [0.8], None),
        ([0.9], [0.8], Noise(0.0, 20)),
        ([0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2], None),
    ],
)
def test_replicates_that_never_vary_are_deterministic_and_no_noise_of_zero_is_computed_with(
    candidate: list[float], baseline: list[float], ledger: Noise | None
) -> None:
    interval = compare(candidate, baseline, ledger)
    assert interval.method is Method.DETERMINISTIC
    assert interval.method.is_point
    assert interval.lower == interval.upper == interval.estimate


def test_equal_values_on_one_side_are_no_proof_that_there_is_no_noise() -> None:
    interval = compare([0.9] * 3, [0.90, 0.91, 0.92])
    assert interval.method is Method.STUDENT
    assert interval.se > 0


def test_the_noise_is_never_less_than_the_metrics_resolution() -> None:
    rows = 100
    close = compare([0.90, 0.90, 0.91], [0.90, 0.90, 0.90], resolution=1 / rows)
    assert close.sd == 1 / rows
    assert compare(THREE, OTHER_THREE, resolution=1e-6).sd > 1e-6


def test_a_noisier_candidate_is_told_and_judged_by_its_own_noise() -> None:
    wild = [0.85, 0.91, 0.96]
    interval = compare(wild, EIGHT, LEDGER)
    assert interval.variance_increased
    assert interval.method is Method.WELCH
    assert interval.sd == pytest.approx(stats.tstd(wild))
    assert interval.upper > 0.03
    assert not compare(wild, EIGHT, LEDGER, equal_noise=True).variance_increased


def test_noise_where_the_ledger_knew_of_none_is_not_made_smaller_by_it() -> None:
    silent = Noise(0.0, 30, 10)
    for candidate, baseline in ((THREE, EIGHT), (THREE, OTHER_THREE), ([0.91] * 3, EIGHT), ([0.91], EIGHT)):
        known, alone = compare(candidate, baseline, silent), compare(candidate, baseline)
        assert (known.lower, known.upper) == (alone.lower, alone.upper)
        assert known.variance_increased
    constant = compare_with_constant(THREE, 0.9, silent)
    assert constant.se == compare_with_constant(THREE, 0.9).se
    looking = compare(THREE, EIGHT, silent, bound=Bound((3, 6), 0.05, 1.9))
    assert looking.critical == compare(THREE, EIGHT, bound=Bound((3, 6), 0.05)).critical


def test_the_variance_is_called_increased_from_the_f_quantile_on() -> None:
    critical = stats.f.ppf(0.975, 2, 20)
    for factor, increased in ((0.99, False), (1.01, True)):
        spread = 0.003 * math.sqrt(critical * factor)
        candidate = [0.9 - spread, 0.9, 0.9 + spread]
        assert compare(candidate, EIGHT, LEDGER).variance_increased is increased


def test_where_lower_is_better_a_drop_is_a_gain() -> None:
    interval = compare([1.0, 1.1, 0.9], [2.0, 2.1, 1.9], sign=-1)
    assert interval.estimate == pytest.approx(1.0)
    assert 0 < interval.lower < 1 < interval.upper


@pytest.mark.parametrize("bad", [[], [0.9, math.nan], [math.inf]])
def test_a_replicate_without_a_number_is_never_dropped(bad: list[float]) -> None:
    for candidate, baseline in ((bad, EIGHT), (EIGHT, bad)):
        with pytest.raises(ValueError, match="finite"):
            compare(candidate, baseline, LEDGER)


def test_p_values_cross_alpha_where_bounds_cross_the_limit() -> None:
    interval = compare(THREE, EIGHT, LEDGER, alpha=0.05)
    assert interval.p_above(interval.lower) == pytest.approx(0.05)
    assert interval.p_below(interval.upper) == pytest.approx(0.05)
    assert interval.p_above(interval.lower - 1e-3) < 0.05 < interval.p_above(interval.lower + 1e-3)


@pytest.mark.parametrize(("gain", "above", "below"), [(0.1, 0.0, 1.0), (-0.1, 1.0, 0.0)])
def test_a_point_shows_what_it_is(gain: float, above: float, below: float) -> None:
    interval = compare([0.5 + gain], [0.5])
    assert (interval.p_above(0), interval.p_below(0)) == (above, below)


def test_pairs_of_seeds_are_compared_by_their_differences() -> None:
    interval = compare_paired(THREE, OTHER_THREE)
    known = stats.ttest_rel(THREE, OTHER_THREE).confidence_interval(0.90)
    assert interval.method is Method.PAIRED_SEEDS
    assert (interval.lower, interval.upper) == pytest.approx((known.low, known.high))


def test_pairs_that_all_differ_alike_are_deterministic() -> None:
    assert compare_paired([0.91, 0.93], [0.90, 0.92]).method is Method.DETERMINISTIC


def test_pairs_need_as_many_seeds_on_both_sides() -> None:
    with pytest.raises(ValueError, match="3 and 8"):
        compare_paired(THREE, EIGHT)


def test_a_constant_has_no_noise_of_its_own() -> None:
    alone, known = compare_with_constant(THREE, 0.9), stats.ttest_1samp(THREE, 0.9).confidence_interval(0.90)
    assert (0.9 + alone.lower, 0.9 + alone.upper) == pytest.approx((known.low, known.high))
    single = compare_with_constant([0.91], 0.9, LEDGER)
    assert (single.method, single.df) == (Method.LEDGER, 20)
    assert single.se == pytest.approx(0.003)
    assert compare_with_constant([0.91], 0.9).method is Method.UNREPLICATED
    assert compare_with_constant([0.91, 0.91], 0.9).method is Method.DETERMINISTIC


def test_a_constant_is_compared_by_the_candidates_own_noise_where_that_increased() -> None:
    interval = compare_with_constant([0.85, 0.91, 0.96], 0.9, LEDGER)
    assert (interval.method, interval.df, interval.variance_increased) == (Method.STUDENT, 2, True)


@pytest.mark.parametrize(
    ("values", "same"), [([1.0, 1.0], True), ([1.0], False), ([1.0, 1.1], False), ([math.nan] * 2, False)]
)
def test_two_equal_values_are_deterministic(values: Sequence[float], same: bool) -> None:
    assert is_deterministic(values) is same


def test_the_ledger_pools_what_varies_within_commits() -> None:
    groups = [[1.0, 3.0], [10.0, 12.0, 14.0], [5.0], [math.nan, 1.0]]
    noise = pool(groups)
    assert noise is not None
    assert noise.sd == pytest.approx(math.sqrt((2 + 8) / 3))
    assert (noise.df, noise.runs) == (3, 2)


def test_the_ledger_holds_the_last_ten_replicated_runs_and_at_most_thirty_degrees_of_freedom() -> None:
    old = [[0.0, 100.0]] * 5
    noise = pool([[1.0, 2.0, 3.0, 4.0, 5.0]] * 10 + old)
    assert noise is not None
    assert noise.sd == pytest.approx(math.sqrt(2.5))
    assert (noise.df, noise.runs) == (30, 10)


def test_there_is_no_ledger_of_single_runs() -> None:
    assert pool([[1.0], [2.0]]) is None
    assert pool([]) is None


def test_any_order_of_values_gives_the_same_interval() -> None:
    first, second = compare(THREE, EIGHT, LEDGER), compare(THREE[::-1], sorted(EIGHT), LEDGER)
    assert _rounded(first) == _rounded(second)


NUMBERS = st.floats(-100, 100, allow_nan=False).map(lambda number: round(number, 3))


@given(
    candidate=st.lists(NUMBERS, min_size=1, max_size=6),
    baseline=st.lists(NUMBERS, min_size=1, max_size=9),
    ledger=st.none() | st.builds(Noise, st.floats(0.1, 10), st.integers(1, 30)),
    unit=st.sampled_from([1e-6, 0.01, 100.0, 1e6]),
)
def test_a_comparison_means_the_same_in_any_unit(
    candidate: list[float], baseline: list[float], ledger: Noise | None, unit: float
) -> None:
    plain = compare(candidate, baseline, ledger)
    scaled = compare(
        [value * unit for value in candidate],
        [value * unit for value in baseline],
        Noise(ledger.sd * unit, ledger.df) if ledger else None,
    )
    assert scaled.method is plain.method
    reach = unit * (abs(plain.estimate) + plain.critical * plain.se)
    assert scaled.lower == pytest.approx(plain.lower * unit, rel=1e-6, abs=1e-9 * reach)
    assert scaled.upper == pytest.approx(plain.upper * unit, rel=1e-6, abs=1e-9 * reach)
    mirrored = compare(candidate, baseline, ledger, sign=-1)
    assert (mirrored.lower, mirrored.upper) == (-plain.upper, -plain.lower)
    assert plain.lower <= plain.estimate <= plain.upper


def _rounded(interval: Interval) -> tuple[float, float]:
    return round(interval.lower, 12), round(interval.upper, 12)
