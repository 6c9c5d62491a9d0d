"""Which run a comparison is made with."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.baseline import BaselineSpec, Candidate, Chosen, Place, choose, parse_selector
from orchestrator.domain.metrics import Direction
from tests.unit.domain.examples import measured


def past(
    run_id: int,
    *values: float,
    branch: str = "main",
    deployed: bool = False,
    evaluation_digest: str = "e1",
) -> Candidate:
    """An eligible run; its position in time is its id."""
    seen = {"accuracy": values} if values else {}
    return Candidate(measured(seen, run_id=run_id, branch=branch), run_id, evaluation_digest, deployed)


def chosen(
    selector: str,
    *history: Candidate,
    direction: Direction = Direction.HIGHER,
    pins: dict[str, int] | None = None,
) -> Chosen:
    spec = BaselineSpec(selector, parse_selector(selector))
    return choose(spec, history, "accuracy", direction, pins or {}, Place("e1"))


def chosen_id(selector: str, *history: Candidate, direction: Direction = Direction.HIGHER) -> int:
    found = chosen(selector, *history, direction=direction).candidate
    assert found is not None
    return found.measured.run_id


@pytest.mark.parametrize(
    "selector", ["best", "previous", "last_deployed", "branch:main", "pinned", "pinned:x", "run:1"]
)
def test_without_any_eligible_run_there_is_no_baseline_yet(selector: str) -> None:
    assert chosen(selector, pins={"": 1, "x": 1}) == Chosen(None, "no eligible baseline yet")


def test_previous_is_the_newest_run() -> None:
    assert chosen_id("previous", past(1, 0.9), past(2, 0.5), past(3, 0.7)) == 3


def test_last_deployed_is_the_newest_deployed_run() -> None:
    assert chosen_id("last_deployed", past(1, 0.9, deployed=True), past(2, 0.5, deployed=True), past(3)) == 2
    assert chosen("last_deployed", past(1, 0.9)) == Chosen(None, "nothing has been deployed yet")


def test_branch_is_the_newest_run_on_exactly_that_branch() -> None:
    history = (past(1), past(2, branch="next"), past(3, branch="next/x"))
    assert chosen_id("branch:next", *history) == 2
    assert chosen("branch:other", *history) == Chosen(None, "no eligible run on branch other yet")


def test_a_pin_chooses_its_run() -> None:
    found = chosen("pinned", past(1), past(2), pins={"": 1})
    assert found.candidate == past(1)
    named = chosen("pinned:paper", past(1), past(2), pins={"": 1, "paper": 2})
    assert named.candidate == past(2)


def test_a_missing_or_ineligible_pin_is_said() -> None:
    assert chosen("pinned", past(1)) == Chosen(None, "no run is pinned")
    assert chosen("pinned:paper", past(1)) == Chosen(None, "no run is pinned as paper")
    assert chosen("pinned", past(1), pins={"": 9}) == Chosen(
        None, "the pinned run 9 is not eligible as a baseline"
    )


def test_a_run_is_chosen_by_its_id_when_it_is_eligible() -> None:
    assert chosen_id("run:2", past(1), past(2), past(12)) == 2
    assert chosen("run:3", past(1)) == Chosen(None, "run 3 is not eligible as a baseline")


def test_best_follows_the_direction_of_the_metric() -> None:
    history = (past(1, 0.7), past(2, 0.9), past(3, 0.8))
    assert chosen_id("best", *history) == 2
    assert chosen_id("best", *history, direction=Direction.LOWER) == 1


def test_best_ranks_means_over_replicates_not_lucky_single_values() -> None:
    assert chosen_id("best", past(1, 0.8, 0.8), past(2, 0.95, 0.5)) == 1


@pytest.mark.parametrize("direction", Direction)
def test_among_equals_the_older_run_is_best(direction: Direction) -> None:
    assert chosen_id("best", past(1, 0.8), past(2, 0.8), past(3, 0.8), direction=direction) == 1


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_never_best(value: float, direction: Direction) -> None:
    history = (past(1, value), past(2, 0.8), past(3, 0.8, value))
    assert chosen_id("best", *history, direction=direction) == 2
    assert chosen("best", past(1, value)) == Chosen(None, "no eligible run has a value of accuracy")


def test_best_skips_runs_that_lack_the_metric() -> None:
    assert chosen_id("best", past(1, 0.1), past(2)) == 1
    assert chosen("best", past(1)) == Chosen(None, "no eligible run has a value of accuracy")


def test_best_prefers_the_same_evaluation_data_to_a_higher_value_on_other_data() -> None:
    other = past(1, 0.99, evaluation_digest="e0")
    assert chosen_id("best", other, past(2, 0.8), past(3, 0.7)) == 2
    assert chosen_id("best", other, past(4, 0.98, evaluation_digest="e0")) == 1


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=8))
def test_nothing_eligible_is_better_than_the_best(values: list[float]) -> None:
    finite = [v for v in values if math.isfinite(v)]
    found = chosen("best", *(past(i, value) for i, value in enumerate(values, start=1))).candidate
    assert (found.measured.mean("accuracy") if found else None) == (max(finite) if finite else None)


def test_a_mean_is_nan_when_any_replicate_is_and_none_without_any() -> None:
    assert measured({"accuracy": (0.5, 1.0)}).mean("accuracy") == 0.75
    assert math.isnan(measured({"accuracy": (0.5, math.nan)}).mean("accuracy") or 0.0)
    assert measured({"accuracy": (math.inf, math.inf)}).mean("accuracy") == math.inf
    assert measured({"accuracy": ()}).mean("accuracy") is None
    assert measured({}).mean("accuracy") is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 9))
def test_the_mean_of_equal_values_is_that_value(value: float, count: int) -> None:
    assert measured({"accuracy": (value,) * count}).mean("accuracy") == value
