"""What a gate can show, and what a wanted margin needs."""

import math

import pytest

from orchestrator.domain.statistics.best import rank_by_lower_bound
from orchestrator.domain.statistics.noise import Noise
from orchestrator.domain.statistics.planning import (
    detectable,
    noether,
    power,
    prediction_limit,
    replicates_needed,
    rows_needed,
)
from orchestrator.domain.statistics.scale import log_gain, log_margin, logarithms, relative_change


@pytest.mark.parametrize(("change", "seeds"), [(1, 14), (1.5, 7), (2, 4), (3, 3)])
def test_seeds_that_each_side_needs(change: float, seeds: int) -> None:
    assert replicates_needed(change) == seeds


@pytest.mark.parametrize(
    ("candidate_n", "baseline_n", "ledger_df", "known"),
    [
        (3, 3, 0, 2.48),
        (3, 3, 20, 2.09),
        (3, 8, 20, 1.72),
        (5, 8, 20, 1.45),
        (8, 8, 20, 1.27),
        (1, 8, 20, 2.7),
    ],
)
def test_smallest_change_that_is_seen(
    candidate_n: int, baseline_n: int, ledger_df: int, known: float
) -> None:
    assert detectable(candidate_n, baseline_n, ledger_df) == pytest.approx(known, abs=0.0075)


def test_what_is_detectable_is_seen_as_often_as_was_asked_for() -> None:
    for wanted in (0.5, 0.8, 0.95):
        assert power(detectable(3, 8, 20, 0.01, wanted), 3, 8, 20, 0.01) == pytest.approx(wanted, abs=1e-4)


def test_without_any_noise_to_judge_by_nothing_is_detectable() -> None:
    assert detectable(1, 1) == math.inf
    assert power(100, 1, 1) == 0


def test_a_change_far_below_the_noise_needs_more_replicates_than_anybody_trains() -> None:
    assert replicates_needed(0.001) is None
    assert replicates_needed(0.5, baseline_n=8) is None


def test_a_baseline_of_many_runs_saves_replicates() -> None:
    against_eight = replicates_needed(1.72, baseline_n=8, ledger_df=20)
    assert against_eight is not None
    assert against_eight <= 4
    assert power(1.72, against_eight, 8, 20) >= 0.8 > power(1.72, against_eight - 1, 8, 20)


def test_rows_that_show_a_difference_of_accuracy() -> None:
    rows = rows_needed(change=0.01, changed=0.05)
    assert rows == math.ceil((1.6448536 + 0.8416212) ** 2 * (0.05 - 0.0001) / 0.0001)
    assert rows_needed(0.01, 0.10) > rows > rows_needed(0.02, 0.05)


@pytest.mark.parametrize(("change", "changed"), [(0, 0.1), (0.2, 0.1), (0.1, 1.1)])
def test_rows_for_what_cannot_be_are_refused(change: float, changed: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < change"):
        rows_needed(change, changed)


def test_noethers_count_of_pairs() -> None:
    assert noether(0.75) == 29


def test_prediction_limits_are_those_of_bencher() -> None:
    assert prediction_limit(0.85, 6) == pytest.approx(1.2483714, abs=1e-7)
    assert prediction_limit(0.85, None) == pytest.approx(1.0364334, abs=1e-7)


def test_few_lucky_runs_rank_below_many_good_ones() -> None:
    lucky, proven, poor = [0.923], [0.92, 0.921, 0.919, 0.92], [0.90, 0.91, 0.89]
    assert rank_by_lower_bound([lucky, proven, poor], Noise(0.004, 20)) == (1, 0, 2)
    assert rank_by_lower_bound([lucky, proven, poor], Noise(0.004, 20), sign=-1)[0] == 2


def test_without_any_noise_the_highest_value_is_first_and_the_earlier_wins_a_tie() -> None:
    assert rank_by_lower_bound([[0.8], [0.9], [0.9]], None) == (1, 2, 0)


def test_nothing_is_ranked_by_a_value_that_is_no_number() -> None:
    with pytest.raises(ValueError, match="finite"):
        rank_by_lower_bound([[0.9], [math.nan]], None)


def test_a_latency_that_grew_by_its_margin_is_exactly_at_the_limit() -> None:
    before, after = logarithms([100.0]), logarithms([105.0])
    assert before is not None
    assert after is not None
    assert -(after[0] - before[0]) == pytest.approx(-log_margin(0.05, -1))


def test_a_loss_and_a_gain_by_a_share_are_told_back_as_that_share() -> None:
    for sign in (1, -1):
        loss, gain = -log_margin(0.05, sign), log_gain(0.05, sign)
        assert relative_change(loss, sign) == pytest.approx(-0.05 * sign)
        assert relative_change(gain, sign) == pytest.approx(0.05 * sign)


def test_nothing_can_lose_more_than_all() -> None:
    assert log_margin(1.0, 1) == math.inf


@pytest.mark.parametrize("bad", [[1.0, 0.0], [-1.0], [math.nan], [math.inf]])
def test_only_positive_numbers_have_ratios(bad: list[float]) -> None:
    assert logarithms(bad) is None
