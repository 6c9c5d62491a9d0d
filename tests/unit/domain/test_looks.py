"""How many replicates are trained before the gate looks, and whether more follow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.looks import Step, look_reached, looks_of, step_after
from orchestrator.domain.pipeline import Looks
from orchestrator.domain.run import Attempt, AttemptState, Purpose
from tests.unit.services.worlds import pipeline

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = pipeline(replicates=8, looks=Looks((2, 4, 8)))


def tries(replicates: int, seconds: float = 60, extra: Sequence[int] = ()) -> list[Attempt]:
    """Attempts that took so long each; ``extra`` are replicates that were tried twice."""
    end = BEGUN + timedelta(seconds=seconds)
    numbered = [(r, 1) for r in range(replicates)] + [(r, 2) for r in extra]
    return [
        Attempt(r, 1, r, number, 7, AttemptState.SUCCEEDED, started_at=BEGUN, finished_at=end)
        for r, number in numbered
    ]


def test_a_change_is_looked_at_as_planned() -> None:
    assert looks_of(PLAN, Purpose.TRAIN, 8) == (2, 4, 8)


@pytest.mark.parametrize(
    ("purpose", "replicates"), [(Purpose.TRAIN, 5), (Purpose.BASELINE, 8), (Purpose.REPRODUCE, 8)]
)
def test_what_was_asked_for_otherwise_is_trained_at_once(purpose: Purpose, replicates: int) -> None:
    assert looks_of(PLAN, purpose, replicates) == (replicates,)


def test_a_pipeline_without_looks_trains_at_once() -> None:
    assert looks_of(pipeline(replicates=3), Purpose.TRAIN, 3) == (3,)


@pytest.mark.parametrize(("there", "further"), [(2, 4), (4, 8), (8, None)])
def test_an_unsettled_verdict_gets_the_next_look_until_the_last(there: int, further: int | None) -> None:
    assert step_after((2, 4, 8), tries(there), settled=False, budget=None) == Step(further)


def test_a_settled_verdict_gets_no_further_look() -> None:
    assert step_after((2, 4, 8), tries(2), settled=True, budget=None) == Step(None)


def test_a_budget_ends_the_looks_before_it_would_be_exceeded_and_says_so() -> None:
    assert step_after((2, 4, 8), tries(2), settled=False, budget=240) == Step(4)
    step = step_after((2, 4, 8), tries(4), settled=False, budget=479)
    assert step.replicates is None
    assert step.why == "4 of 8 replicates were trained in 4 m 0 s: 8 would exceed the budget of 7 m 59 s"


def test_tries_that_were_repeated_count_against_the_budget_and_not_as_replicates() -> None:
    again = tries(2, extra=[1])
    assert step_after((2, 4), again, settled=False, budget=360) == Step(4)
    assert step_after((2, 4), again, settled=False, budget=359).replicates is None


@pytest.mark.parametrize(("there", "look"), [(2, 1), (3, 1), (4, 2), (8, 3)])
def test_looks_are_counted_by_the_replicates_that_there_are(there: int, look: int) -> None:
    assert look_reached((2, 4, 8), tries(there, extra=[0])) == look


def test_what_never_began_costs_nothing() -> None:
    waited = [Attempt(1, 1, 0, 1, 7, AttemptState.ERRORED)]
    assert step_after((1, 2), waited, settled=False, budget=0.1) == Step(2)
