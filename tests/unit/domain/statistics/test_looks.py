"""One bound for several looks."""

import math
import time

import pytest

from orchestrator.domain.statistics.bounds import Method, compare
from orchestrator.domain.statistics.looks import Bound, bound, critical
from orchestrator.domain.statistics.noise import Noise
from orchestrator.domain.statistics.quantiles import t_probability, t_quantile

LEDGER = Noise(1.0, 20, 10)
EIGHT = [0.1, -0.9, 1.2, 0.4, -1.1, 0.8, -0.3, 0.2]


@pytest.mark.parametrize(("looks", "pocock"), [(2, 1.875), (3, 1.992), (4, 2.067), (5, 2.122)])
def test_with_known_noise_and_even_looks_the_bound_is_pococks(looks: int, pocock: float) -> None:
    found = critical(range(1, looks + 1), math.inf, math.inf, 0.05, trials=400_000)
    assert found == pytest.approx(pocock, abs=0.005)


def test_a_fixed_limit_has_a_bound_that_falls_to_that_of_known_noise_as_the_ledger_grows() -> None:
    few, many = (bound((2, 4), 0, df).critical for df in (5, 1000))
    assert few is not None
    assert many is not None
    assert few > many
    assert many == pytest.approx(1.875, abs=0.03)


def test_the_bound_for_looks_at_two_four_and_eight() -> None:
    assert bound([2, 4, 8], 8, 20, 0.05).critical == pytest.approx(2.057, abs=0.006)


def test_the_bound_lies_between_one_look_and_as_many_independent_tests() -> None:
    for looks, baseline_n, df in (([2, 4, 8], 8, 20), ([1, 3], 16, 30), ([3, 6, 12, 24], 5, 4)):
        found = bound(looks, baseline_n, df)
        assert found.critical is not None
        last = df + looks[-1] + baseline_n - 2
        first = df + looks[0] + baseline_n - 2
        assert t_quantile(0.95, last) < found.critical < t_quantile(1 - found.each, first)


def test_a_bound_is_the_same_every_time() -> None:
    again = critical([2, 4, 8], 8, 20, 0.05, 400_000)
    assert bound([2, 4, 8], 8, 20).critical == again == critical([2, 4, 8], 8, 20, 0.05, 400_000)


@pytest.mark.parametrize("looks", [[2, 4, 8], list(range(1, 25))])
def test_a_bound_never_keeps_a_gate_waiting(looks: list[int]) -> None:
    bound([2, 3], 8, 20)  # the library is loaded once in a server's life
    begin = time.process_time()
    bound(looks, 7, 19, 0.04)
    first = time.process_time()
    bound(looks, 7, 19, 0.04)
    assert first - begin < 2
    assert time.process_time() - first < 0.01


@pytest.mark.parametrize(
    ("looks", "df", "alpha"),
    [
        pytest.param([2, 4, 8], 0, 0.05, id="no ledger"),
        pytest.param([2, 4, 8], 20, 1e-4, id="too rare to be simulated"),
        pytest.param([8], 20, 0.05, id="a single look"),
    ],
)
def test_without_a_common_bound_each_look_takes_its_share_of_alpha(
    looks: list[int], df: int, alpha: float
) -> None:
    found = bound(looks, 8, df, alpha)
    assert found.critical is None
    assert found.each == alpha / len(looks)


@pytest.mark.parametrize("looks", [[], [0, 2], [2, 2], [4, 2]])
def test_looks_grow(looks: list[int]) -> None:
    with pytest.raises(ValueError, match="growing"):
        bound(looks, 8, 20)


def test_a_comparison_at_a_look_uses_the_common_bound() -> None:
    common = Bound((2, 4, 8), 0.05, 2.057)
    interval = compare([0.0, 1.0], EIGHT, LEDGER, bound=common)
    assert (interval.critical, interval.looks, interval.alpha) == (2.057, 3, 0.05)
    assert interval.lower == pytest.approx(interval.estimate - 2.057 * interval.se)


def test_a_comparison_without_a_ledger_uses_its_share_of_alpha() -> None:
    interval = compare([0.0, 1.0], EIGHT[:2], bound=Bound((2, 4, 8), 0.05))
    assert interval.critical == pytest.approx(t_quantile(1 - 0.05 / 3, 2))


def test_a_noisier_candidate_is_held_to_the_same_level_at_each_look() -> None:
    interval = compare([-9.0, 9.0], EIGHT, LEDGER, bound=Bound((2, 4, 8), 0.05, 2.057))
    assert interval.method is Method.WELCH
    level = 1 - t_probability(2.057, 28)
    assert 0.02 < level < 0.05
    assert interval.critical == pytest.approx(t_quantile(1 - level, interval.df))
