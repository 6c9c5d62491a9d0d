"""Many checks at once, and what a sealed test set can bear."""

import math

import pytest

from orchestrator.domain.statistics.holdout import (
    Release,
    Wear,
    alpha_of_use,
    is_below,
    rows_for_difference,
    rows_for_value,
    wear,
)
from orchestrator.domain.statistics.holm import holm, holm_level


def test_holm_adjusts_as_known() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_holm_leaves_one_p_value_as_it_is_and_none_alone() -> None:
    assert holm([0.2]) == (0.2,)
    assert holm([]) == ()


def test_holm_never_exceeds_one() -> None:
    assert holm([0.9, 0.8, 0.7]) == (1.0, 1.0, 1.0)


def test_the_level_of_a_check_is_that_at_which_holm_judged_it() -> None:
    pvalues = [0.001, 0.5, 0.02, 0.7]
    levels = [holm_level(0.05, pvalues, index) for index in range(4)]
    # The first is rejected at a quarter; the second smallest is not at a third, and there it ends for all.
    assert levels == pytest.approx([0.05 / 4, 0.05 / 3, 0.05 / 3, 0.05 / 3])
    rejected = [p < level for p, level in zip(pvalues, levels, strict=True)]
    assert rejected == [p <= 0.05 for p in holm(pvalues)] == [True, False, False, False]


@pytest.mark.parametrize(
    ("confidence", "tolerance", "difference_full", "value_none"),
    [(0.99, 0.1, 5496, 404)],
)
def test_sizes_of_test_sets_are_those_of_ease_ml_ci(
    confidence: float, tolerance: float, difference_full: int, value_none: int
) -> None:
    delta = 1 - confidence
    assert rows_for_difference(tolerance, delta, 32, Release.FULL) == difference_full
    assert rows_for_value(tolerance, delta, 32, Release.NONE) == value_none


def test_sizes_of_test_sets_for_four_nines_are_those_of_ease_ml_ci() -> None:
    assert rows_for_value(0.05, 1e-4, 32, Release.FULL) == 6279
    assert rows_for_value(0.05, 1e-4, 32, Release.NONE) == 2536
    assert rows_for_value(0.05, 1e-4, 32, Release.FIRST_CHANGE) == 2536
    assert rows_for_difference(0.05, 1e-4, 32, Release.NONE) == 10_696


@pytest.mark.parametrize(("value", "below"), [(0.111, False), (0.089, True), (0.100, None)])
def test_what_is_known_to_a_tolerance_is_below_a_limit_or_not_or_nobody_knows(
    value: float, below: bool | None
) -> None:
    assert is_below(value, 0.1, 0.01) is below


def test_each_use_of_a_sealed_test_set_takes_its_share() -> None:
    assert alpha_of_use(0.05, 0.05, 100, Release.NONE) == pytest.approx(0.0005)
    assert alpha_of_use(0.05, 0.05, 100, Release.FIRST_CHANGE) == pytest.approx(0.0005)
    assert alpha_of_use(0.05, 0.05, 10, Release.FULL) == pytest.approx(0.05 / 1024)
    assert alpha_of_use(0.01, 0.05, 1, Release.NONE) == 0.01


@pytest.mark.parametrize(("uses", "release"), [(0, Release.NONE), (11, Release.FULL)])
def test_a_budget_that_nothing_could_be_shown_with_is_refused(uses: int, release: Release) -> None:
    with pytest.raises(ValueError, match=f"max_uses is {uses}"):
        alpha_of_use(0.05, 0.05, uses, release)


def test_at_a_hundred_uses_a_gain_of_two_sds_is_seldom_seen() -> None:
    from orchestrator.domain.statistics.planning import power

    assert power(2, 3, 8, 20, alpha_of_use(0.05, 0.05, 100, Release.NONE)) == pytest.approx(0.27, abs=0.02)


@pytest.mark.parametrize(
    ("used", "worn"), [(0, Wear.FRESH), (79, Wear.FRESH), (80, Wear.WEARING), (100, Wear.EXHAUSTED)]
)
def test_a_test_set_wears_out(used: int, worn: Wear) -> None:
    assert wear(used, 100) is worn


def test_a_full_budget_is_counted_without_overflow() -> None:
    assert rows_for_value(0.05, 0.01, 5000, Release.FULL) == math.ceil(
        (5000 * math.log(2) - math.log(0.01)) / 0.005
    )
