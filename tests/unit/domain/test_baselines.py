"""Which run a comparison is made with."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.baseline import (
    MOST_TOGETHER,
    BaselineSpec,
    Candidate,
    Chosen,
    Place,
    choose,
    parse_selector,
    pooled,
    since_rebase,
    together,
)
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
        None, "the pinned run 9 is not eligible as a baseline", lost=True
    )


def test_a_run_is_chosen_by_its_id_when_it_is_eligible() -> None:
    assert chosen_id("run:2", past(1), past(2), past(12)) == 2
    assert chosen("run:3", past(1)) == Chosen(None, "run 3 is not eligible as a baseline", lost=True)


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


def made(run_id: int, recipe: str, *values: float, again: bool = False, commit: str = "") -> Candidate:
    """A run of a recipe."""
    candidate = past(run_id, *values)
    found = replace(candidate.measured, commit=commit or recipe)
    return replace(candidate, measured=found, recipe=recipe, again=again)


BEST = BaselineSpec("best", parse_selector("best"))
CONFIRMED = BaselineSpec("best", parse_selector("best"), confirm=2)


def ids(candidates: Sequence[Candidate]) -> list[int]:
    return [c.measured.run_id for c in candidates]


def best_id(spec: BaselineSpec, *history: Candidate) -> int:
    found = choose(spec, history, "accuracy", Direction.HIGHER, {}, Place("e1")).candidate
    assert found is not None
    return found.measured.run_id


def test_runs_of_one_recipe_are_taken_together_and_others_are_not() -> None:
    history = (made(1, "x", 0.8), made(2, "y", 0.1), made(3, "x", 0.9, again=True))
    assert ids(together(history[0], history, BEST)) == [1, 3]
    assert pooled(together(history[0], history, BEST), history[0].measured).values == {"accuracy": (0.8, 0.9)}


def test_runs_of_which_the_recipe_is_not_known_stand_alone() -> None:
    history = (past(1, 0.8), past(2, 0.9))
    assert ids(together(history[0], history, BEST)) == [1]


def test_a_run_that_lacks_what_others_of_its_recipe_have_counts_as_nan() -> None:
    both = measured({"accuracy": (0.8, 0.9), "loss": (0.1, 0.2)}, run_id=1)
    one = replace(past(2), measured=measured({"loss": (0.3, 0.4, 0.5)}, run_id=2), recipe="x")
    values = pooled([replace(past(1), measured=both, recipe="x"), one], both).values
    assert values["loss"] == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert values["accuracy"][:2] == (0.8, 0.9)
    assert len(values["accuracy"]) == 5
    assert all(math.isnan(value) for value in values["accuracy"][2:])


def test_of_very_many_runs_of_one_recipe_the_chosen_and_the_last_ones_count() -> None:
    history = [made(n, "x", 0.8) for n in range(1, MOST_TOGETHER + 10)]
    assert ids(together(history[0], history, BEST)) == [1, *range(10, MOST_TOGETHER + 10)]


def test_one_lucky_run_is_not_better_than_many_that_are_nearly_as_good() -> None:
    many = made(2, "y", 0.89, 0.9, 0.91, 0.9, 0.88, 0.92, 0.9, 0.9)
    assert best_id(BEST, made(1, "x", 0.905), many) == 2


def test_what_confirms_the_best_has_no_part_in_its_choice() -> None:
    lucky, steady = made(1, "x", 0.95), made(2, "y", 0.9, 0.9, 0.9, 0.9)
    fresh = made(3, "x", 0.1, 0.1, again=True)
    assert best_id(CONFIRMED, lucky, steady, fresh) == 1
    assert best_id(BEST, lucky, steady, fresh) == 2
    assert ids(together(lucky, (lucky, steady, fresh), CONFIRMED)) == [3]
    assert together(lucky, (lucky, steady), CONFIRMED) == ()


def test_where_all_measured_again_the_first_ranks_and_the_others_confirm() -> None:
    first, second = made(3, "x", 0.9, again=True), made(4, "x", 0.1, again=True)
    assert best_id(CONFIRMED, made(1, "y", 0.5), first, second) == 3
    assert ids(together(first, (first, second), CONFIRMED)) == [4]


def test_of_runs_with_the_same_seeds_one_counts() -> None:
    first, longer, own = made(1, "x", 0.9, 0.8), made(2, "x", 0.9, 0.8, 0.7), made(3, "x", 0.5)
    paired = [replace(first, seeds=0), replace(longer, seeds=0), own]
    assert ids(together(paired[0], paired, BEST)) == [2, 3]
    as_long = [replace(c, seeds=0) for c in (first, made(4, "x", 0.9, 0.8))]
    assert ids(together(as_long[1], as_long, BEST)) == [4]
    assert ids(together(first, (first, longer, own), BEST)) == [1, 2, 3]


def test_a_run_that_was_repeated_with_its_seeds_does_not_rank_higher_for_it() -> None:
    steady = made(9, "y", 0.89, 0.9, 0.91, 0.9, 0.88, 0.92, 0.9, 0.9)
    repeated = [replace(made(n, "x", 0.905), seeds=0) for n in range(1, 9)]
    assert best_id(BEST, *repeated, steady) == 9
    assert best_id(BEST, *(replace(c, seeds=None) for c in repeated), steady) == 1


def test_a_rebaseline_leaves_what_measures_a_later_commit_again() -> None:
    history = (
        made(1, "x", 0.9),
        made(2, "y", 0.8),
        made(3, "x", 0.9, again=True),
        made(4, "y", 0.8, again=True),
    )
    assert ids(since_rebase(history, 2)) == [2, 4]
    assert since_rebase(history, 0) == list(history)


@pytest.mark.parametrize("selector", ["last_deployed", "merge_base"])
def test_the_run_that_baselines_begin_with_stands_in_where_there_is_none(selector: str) -> None:
    history = (replace(made(1, "x", 0.9), deployed=True), made(2, "y", 0.8), made(3, "z", 0.8))
    spec, place = BaselineSpec(selector, parse_selector(selector)), Place("e1", "x", "main")

    def chosen_since(since: int) -> int:
        found = choose(spec, history, "accuracy", Direction.HIGHER, {}, place, since).candidate
        assert found is not None
        return found.measured.run_id

    assert (chosen_since(0), chosen_since(2)) == (1, 2)


def test_a_merge_base_is_the_newest_run_of_that_commit_trained_before_measured_again() -> None:
    spec, place = BaselineSpec("m", parse_selector("merge_base")), Place("e1", "c", "main")

    def base_of(*history: Candidate) -> Chosen:
        return choose(spec, history, "accuracy", Direction.HIGHER, {}, place)

    trained, repeated = made(1, "x", 0.9, commit="c"), made(2, "y", 0.9, again=True, commit="c")
    assert base_of(trained, repeated, made(3, "z", 0.9)) == Chosen(trained)
    assert base_of(repeated, made(3, "z", 0.9)) == Chosen(repeated)
    assert base_of(made(3, "z", 0.9)).why_none == "the commit c, where the branch left, has no eligible run"


def test_an_unknown_default_branch_has_no_merge_base() -> None:
    spec = BaselineSpec("m", parse_selector("merge_base"))
    found = choose(spec, [past(1, 0.9)], "accuracy", Direction.HIGHER, {}, Place("e1"))
    assert found == Chosen(None, "it is not known at which commit the branch left the default branch")
