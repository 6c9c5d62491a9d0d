"""Change points of a history."""

import math

import numpy as np
import pytest

from orchestrator.domain.statistics.drift import MAX_HISTORY, MIN_SEGMENT, change_points


def noisy(*levels: tuple[float, int], seed: int = 1, sd: float = 1.0) -> list[float]:
    """Values around each level, as many as it says."""
    random = np.random.default_rng(seed)
    return [float(value) for level, count in levels for value in random.normal(level, sd, count)]


def test_a_level_that_changed_is_found_where_it_did() -> None:
    (point,) = change_points(noisy((0, 40), (3, 30)), seed=1)
    assert abs(point.index - 40) <= 2
    assert point.before == pytest.approx(0, abs=0.5)
    assert point.after == pytest.approx(3, abs=0.5)
    assert point.pvalue < 0.001


def test_several_changes_are_found_in_their_order() -> None:
    points = change_points(noisy((0, 30), (4, 30), (-2, 30)), seed=1)
    assert [round(point.index, -1) for point in points] == [30, 60]


def test_unchanged_histories_seldom_show_a_change() -> None:
    found = [change_points(noisy((0, 40), seed=seed), seed=seed) for seed in range(60)]
    assert sum(map(bool, found)) <= 1


def test_a_change_of_little_magnitude_is_not_told() -> None:
    history = noisy((0, 40), (3, 30))
    assert change_points(history, seed=1, min_magnitude=10) == ()
    assert change_points(history, seed=1, min_magnitude=2) != ()


def test_the_newest_commit_is_never_judged() -> None:
    steady = noisy((0, 60), sd=0.01)
    for odd in range(1, MIN_SEGMENT):
        assert change_points(steady + [50.0] * odd, seed=1) == ()


def test_a_slow_drift_without_any_step_is_found() -> None:
    assert change_points([0.05 * i + noise for i, noise in enumerate(noisy((0, 80)))], seed=1)


def test_an_old_change_is_forgotten() -> None:
    assert change_points([9.0] * 20 + noisy((0, MAX_HISTORY)), seed=1) == ()
    (point,) = change_points([9.0] * 100 + noisy((0, MAX_HISTORY - 40)), seed=1)
    assert point.index == 100


@pytest.mark.parametrize("history", [[], [1.0], [1.0] * 50, [1.0, 2.0] * 2])
def test_short_and_constant_histories_have_no_change(history: list[float]) -> None:
    assert change_points(history, seed=1) == ()


def test_a_history_with_a_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        change_points([1.0, math.nan] * 5, seed=1)
