"""What a run does next, given its attempts; seeds and waits."""

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.run import (
    CONSEQUENCES,
    Attempt,
    AttemptState,
    NewTry,
    Progress,
    Reason,
    RunState,
    backoff,
    latest_tries,
    progress,
    seed_for,
)
from tests.unit.domain.examples import attempt

DONE = attempt(AttemptState.SUCCEEDED, Reason.COMPLETED)


def lost(number: int = 1, replicate: int = 0) -> Attempt:
    return attempt(AttemptState.ERRORED, Reason.LOST, number=number, replicate=replicate, message="gone")


def failed(replicate: int = 0) -> Attempt:
    return attempt(AttemptState.FAILED, Reason.EXIT_CODE, replicate=replicate, message="exit code 1")


@pytest.mark.parametrize(
    "state", [AttemptState.QUEUED, AttemptState.PREPARING, AttemptState.RUNNING, AttemptState.COLLECTING]
)
def test_a_run_stays_while_any_replicate_has_not_ended(state: AttemptState) -> None:
    assert progress([DONE, attempt(state, replicate=1)], 2) == Progress()
    assert progress([failed(), attempt(state, replicate=1)], 2) == Progress()


def test_a_run_without_attempts_stays() -> None:
    assert progress([], 2) == Progress()


def test_a_run_is_judged_once_all_replicates_succeeded() -> None:
    second = attempt(AttemptState.SUCCEEDED, Reason.COMPLETED, replicate=1)
    assert progress([DONE, second], 2) == Progress(RunState.EVALUATING)


def test_a_lost_attempt_is_tried_again_after_a_while() -> None:
    assert progress([lost()], 2) == Progress(new_tries=(NewTry(0, 2, timedelta(seconds=5)),))
    assert progress([lost(1), lost(2)], 2) == Progress(new_tries=(NewTry(0, 3, timedelta(seconds=10)),))


def test_a_replicate_is_tried_again_while_another_one_still_executes() -> None:
    going = attempt(AttemptState.RUNNING, replicate=1)
    assert progress([lost(), going], 2).new_tries == (NewTry(0, 2, timedelta(seconds=5)),)


def test_a_try_that_is_enqueued_is_not_asked_for_twice() -> None:
    assert progress([lost(), attempt(AttemptState.QUEUED, number=2)], 2) == Progress()


def test_the_last_retry_decides_when_it_too_is_lost() -> None:
    tries = [lost(1), lost(2), lost(3)]
    assert progress(tries, 2) == Progress(RunState.ERRORED, Reason.LOST, "gone")


def test_a_retry_that_succeeds_makes_good_for_the_lost_try() -> None:
    again = attempt(AttemptState.SUCCEEDED, Reason.COMPLETED, number=2)
    assert progress([lost(), again], 2) == Progress(RunState.EVALUATING)


def test_no_retries_means_none() -> None:
    assert progress([lost()], 0) == Progress(RunState.ERRORED, Reason.LOST, "gone")


def test_tries_are_capped_whatever_is_configured() -> None:
    assert progress([lost(9)], 1000).new_tries == (NewTry(0, 10, timedelta(minutes=5)),)
    assert progress([lost(10)], 1000) == Progress(RunState.ERRORED, Reason.LOST, "gone")


@pytest.mark.parametrize("reason", [r for r in Reason if not CONSEQUENCES[r].retryable])
def test_nothing_else_is_tried_again(reason: Reason) -> None:
    assert progress([attempt(CONSEQUENCES[reason].state, reason)], 2).new_tries == ()


def test_a_crashed_replicate_is_never_dropped() -> None:
    assert progress([DONE, failed(replicate=1)], 2) == Progress(
        RunState.FAILED, Reason.EXIT_CODE, "exit code 1"
    )


def test_the_worst_replicate_decides_in_whatever_order_they_come() -> None:
    cancelled = attempt(AttemptState.CANCELLED, Reason.CANCELLED_BY_PERSON, replicate=3)
    ended = [DONE, failed(replicate=1), lost(3, replicate=2), cancelled]
    for order in itertools.permutations(ended):
        assert progress(order, 2).state is RunState.CANCELLED
    for order in itertools.permutations(ended[:3]):
        assert progress(order, 2) == Progress(RunState.FAILED, Reason.EXIT_CODE, "exit code 1")


def test_among_equals_the_first_replicate_decides() -> None:
    one = attempt(AttemptState.FAILED, Reason.TIMEOUT, replicate=1)
    assert progress([one, failed(replicate=0)], 2).reason is Reason.EXIT_CODE


def test_a_run_that_is_being_cancelled_gets_no_new_tries() -> None:
    assert progress([lost()], 2, cancelling=True) == Progress(RunState.ERRORED, Reason.LOST, "gone")


def test_a_run_that_is_being_cancelled_waits_for_workers_but_not_for_the_queue() -> None:
    stopped = attempt(AttemptState.CANCELLED, Reason.CANCELLED_BY_PERSON, replicate=1)
    queued = attempt(AttemptState.QUEUED)
    going = attempt(AttemptState.RUNNING, replicate=2)
    assert progress([queued, stopped, going], 2, cancelling=True) == Progress()
    assert progress([queued, stopped], 2, cancelling=True) == Progress(
        RunState.CANCELLED, Reason.CANCELLED_BY_PERSON
    )
    assert progress([queued], 2, cancelling=True).state is RunState.CANCELLED


def test_cancelling_comes_too_late_for_a_run_whose_replicates_all_succeeded() -> None:
    assert progress([DONE], 2, cancelling=True) == Progress(RunState.EVALUATING)


def test_only_the_newest_try_of_each_replicate_counts() -> None:
    newest = attempt(AttemptState.RUNNING, number=3)
    other = attempt(AttemptState.QUEUED, replicate=1)
    assert latest_tries([other, newest, lost(1), lost(2)]) == (newest, other)


def test_seeds_are_the_ones_of_the_first_release() -> None:
    assert [seed_for(1, 0), seed_for(1, 1), seed_for(2, 0), seed_for(12345, 7)] == [
        416735690,
        624792847,
        416191666,
        1001403166,
    ]


@given(st.integers(0, 10**9), st.integers(0, 1000))
def test_a_seed_fits_into_what_libraries_take(run_id: int, replicate: int) -> None:
    assert 0 <= seed_for(run_id, replicate) < 2**31


def test_replicates_and_runs_get_different_seeds() -> None:
    assert len({seed_for(run_id, replicate) for run_id in range(100) for replicate in range(10)}) == 1000


def test_waits_double_from_5_seconds_to_5_minutes() -> None:
    waits = [int(backoff(tries).total_seconds()) for tries in range(1, 10)]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


@given(st.integers(-10, 10**12))
def test_a_wait_is_never_shorter_or_longer_than_the_bounds(tries: int) -> None:
    assert timedelta(seconds=5) <= backoff(tries) <= timedelta(minutes=5)
