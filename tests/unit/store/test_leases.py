"""Who may work on a row: leases, fencing, take-over, and the slots of hosts."""

from __future__ import annotations

import pytest

from orchestrator.domain.action import ActionState
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.errors import LeaseLost, NotFound
from orchestrator.domain.run import AttemptState, Exit, Reason, RunState, StopCause
from orchestrator.ports.records import AttemptResult, Lease
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database
from tests.unit.store.support import (
    AT,
    DEPLOY,
    SECONDS,
    all_rows,
    claim,
    claimed,
    enqueue,
    later,
    new_run,
    owed,
    pipeline,
    succeed,
    working,
)

LOST = AttemptResult(AttemptState.ERRORED, Reason.LOST)


def test_a_claim_writes_the_intent_and_starts_the_run(store: SqlStore) -> None:
    run = enqueue(store)
    attempt = store.attempts.of_run(run.id)[0]
    lease = store.attempts.claim(attempt.id, "local", 1, "mlci-x-1", "one", AT, SECONDS)
    assert lease is not None
    assert (lease.subject, lease.id, lease.owner) == ("attempt", attempt.id, "one")
    assert lease.expires_at == later(SECONDS)
    now = store.attempts.get(attempt.id)
    assert (now.state, now.host, now.container) == (AttemptState.PREPARING, "local", "mlci-x-1")
    assert store.runs.get(run.id).state is RunState.RUNNING
    assert store.runs.get(run.id).started_at == AT


def test_a_full_host_takes_no_further_attempt_until_one_ends(store: SqlStore, database: Database) -> None:
    run = enqueue(store, new_run(pipeline(replicates=3)))
    first, second, third = store.attempts.of_run(run.id)
    lease = claim(store, first, host="local", slots=2)
    assert lease is not None
    assert claim(store, second, host="local", slots=2) is not None
    before = all_rows(database)
    assert claim(store, third, host="local", slots=2) is None
    assert all_rows(database) == before
    assert store.attempts.slots_in_use() == {"local": 2}
    store.attempts.finish(lease, AttemptState.PREPARING, LOST, AT)
    assert store.attempts.slots_in_use() == {"local": 1}
    assert claim(store, third, host="local", slots=2) is not None


def test_an_attempt_of_a_run_that_ended_is_not_claimed(store: SqlStore) -> None:
    run = enqueue(store)
    attempt = store.attempts.of_run(run.id)[0]
    store.runs.move(run.id, RunState.QUEUED, RunState.CANCELLED, AT, Reason.CANCELLED_BY_PERSON)
    assert store.attempts.queued(AT) == []
    assert claim(store, attempt) is None


def test_an_unknown_attempt_is_said_to_be_unknown(store: SqlStore) -> None:
    with pytest.raises(NotFound):
        store.attempts.claim(99, "local", 1, "mlci-99", "one", AT, SECONDS)


def test_a_heartbeat_extends_the_lease_and_keeps_its_token(store: SqlStore) -> None:
    lease = claimed(store)
    longer = store.attempts.heartbeat(lease, later(20), SECONDS)
    assert longer.token == lease.token
    assert longer.expires_at == later(20 + SECONDS)
    assert store.attempts.take_over("two", (), later(SECONDS), SECONDS) == []
    assert store.attempts.take_over("two", (), later(20 + SECONDS), SECONDS) != []


def test_a_lease_that_still_runs_is_not_taken_over(store: SqlStore, database: Database) -> None:
    claimed(store)
    before = all_rows(database)
    assert store.attempts.take_over("two", (), later(SECONDS - 1), SECONDS) == []
    assert all_rows(database) == before


def test_the_lease_of_a_dead_owner_is_taken_over_at_once(store: SqlStore) -> None:
    mine = claimed(store, owner="one")
    claimed(store, owner="three")
    assert store.attempts.lease_owners() == ["one", "three"]
    (taken,) = store.attempts.take_over("two", ["one"], later(1), SECONDS)
    assert (taken.id, taken.owner) == (mine.id, "two")
    assert taken.token != mine.token
    assert store.attempts.lease_owners() == ["three", "two"]


def use_attempt(store: SqlStore, lease: Lease, how: str) -> None:
    match how:
        case "heartbeat":
            store.attempts.heartbeat(lease, later(60), SECONDS)
        case "advance":
            store.attempts.advance(lease, AttemptState.PREPARING, AttemptState.RUNNING, AT, "c1")
        case "note_stop":
            store.attempts.note_stop(lease, StopCause.TIMEOUT, AT)
        case "release":
            store.attempts.release(lease)
        case "finish":
            store.attempts.finish(lease, AttemptState.PREPARING, LOST, AT)


ATTEMPT_USES = ["heartbeat", "advance", "note_stop", "release", "finish"]


@pytest.mark.parametrize("how", ATTEMPT_USES)
def test_an_older_token_changes_nothing_after_a_take_over(
    store: SqlStore, database: Database, how: str
) -> None:
    old = claimed(store, owner="one")
    (new,) = store.attempts.take_over("two", (), later(SECONDS), SECONDS)
    before = all_rows(database)
    with pytest.raises(LeaseLost):
        use_attempt(store, old, how)
    assert all_rows(database) == before
    use_attempt(store, new, how)


@pytest.mark.parametrize("how", ATTEMPT_USES)
def test_a_released_lease_is_worth_nothing(store: SqlStore, database: Database, how: str) -> None:
    lease = claimed(store)
    store.attempts.release(lease)
    before = all_rows(database)
    with pytest.raises(LeaseLost):
        use_attempt(store, lease, how)
    assert all_rows(database) == before


def test_a_released_attempt_keeps_its_slot_and_is_taken_over_at_once(store: SqlStore) -> None:
    lease = claimed(store)
    store.attempts.release(lease)
    assert store.attempts.lease_owners() == []
    assert list(store.attempts.slots_in_use().values()) == [1]
    (taken,) = store.attempts.take_over("two", (), AT, SECONDS)
    succeed(store, taken)
    assert store.attempts.slots_in_use() == {}


def test_a_finished_attempt_is_nobodys(store: SqlStore) -> None:
    lease = claimed(store)
    succeed(store, lease)
    assert store.attempts.lease_owners() == []
    assert store.attempts.take_over("two", ["one"], later(100), SECONDS) == []
    with pytest.raises(LeaseLost):
        store.attempts.heartbeat(lease, later(1), SECONDS)


def test_the_first_cause_of_a_stop_stays(store: SqlStore) -> None:
    lease = claimed(store)
    store.attempts.note_stop(lease, StopCause.TIMEOUT, AT)
    store.attempts.note_stop(lease, StopCause.CANCELLED, later(1))
    assert store.attempts.get(lease.id).stop_cause is StopCause.TIMEOUT


def test_empty_facts_leave_what_is_stored(store: SqlStore) -> None:
    lease = claimed(store)
    store.attempts.advance(lease, AttemptState.PREPARING, AttemptState.RUNNING, later(3), "c1", "sha256:1")
    attempt = store.attempts.advance(lease, AttemptState.RUNNING, AttemptState.COLLECTING, later(9))
    assert (attempt.container_id, attempt.image_digest) == ("c1", "sha256:1")
    assert attempt.started_at == later(3)


def test_an_attempt_keeps_how_it_ended(store: SqlStore) -> None:
    lease = claimed(store)
    ended = Exit(3, oom_killed=True, error="", started_at=AT, finished_at=later(5))
    result = AttemptResult(
        AttemptState.FAILED,
        Reason.EXIT_CODE,
        "exit code 3",
        ended,
        warnings=("w",),
        left_out=("core: 9 GiB",),
    )
    attempt = succeed(store, lease, result)
    assert attempt == store.attempts.get(lease.id)
    assert (attempt.exit, attempt.warnings, attempt.finished_at) == (ended, ("w",), AT)
    assert store.attempts.left_out(lease.id) == ("core: 9 GiB",)


def test_an_attempt_waits_for_its_time(store: SqlStore) -> None:
    run = enqueue(store)
    store.attempts.finish(claimed(store, run), AttemptState.PREPARING, LOST, AT)
    store.runs.add_try(run.id, 0, 2, later(5), AT)
    assert store.attempts.queued(later(4.9)) == []
    (attempt,) = store.attempts.queued(later(5))
    assert store.attempts.get(attempt.id).number == 2


def test_an_action_whose_lease_ran_out_is_claimed_again_and_counts_a_try(store: SqlStore) -> None:
    action = owed(store)
    old = working(store, action)
    assert store.actions.claim(action.id, "two", later(SECONDS - 1), SECONDS) is None
    assert store.actions.pending(later(SECONDS - 1)) == []
    assert [a.id for a in store.actions.pending(later(SECONDS))] == [action.id]
    new = working(store, action, "two", later(SECONDS))
    assert store.actions.get(action.id).tries == 2
    with pytest.raises(LeaseLost):
        store.actions.finish(old, ActionState.DONE, "", AT)
    assert store.actions.finish(new, ActionState.DONE, "deployed", AT).state is ActionState.DONE


def test_a_heartbeat_keeps_an_action(store: SqlStore) -> None:
    lease = working(store)
    store.actions.heartbeat(lease, later(20), SECONDS)
    assert store.actions.claim(lease.id, "two", later(SECONDS + 1), SECONDS) is None


def test_the_actions_of_a_dead_owner_are_free_at_once(store: SqlStore) -> None:
    lease = working(store, owner="one")
    store.actions.release_dead(["two"], later(1))
    assert store.actions.pending(later(1)) == []
    store.actions.release_dead(["one"], later(1))
    assert [action.id for action in store.actions.pending(later(1))] == [lease.id]


def test_a_postponed_action_waits(store: SqlStore) -> None:
    lease = working(store)
    store.actions.postpone(lease, later(60), "the server is down", later(1))
    assert store.actions.pending(later(59)) == []
    assert store.actions.claim(lease.id, "two", later(59), SECONDS) is None
    (action,) = store.actions.pending(later(60))
    assert (action.state, action.message) == (ActionState.PENDING, "the server is down")


def test_a_deployment_obeys_its_actions_newest_lease_only(store: SqlStore, database: Database) -> None:
    action = owed(store)
    old = working(store, action)
    run = store.runs.get(action.run_id)
    begun = store.deployments.begin(old, run, "shop", "r1", AT)
    new = working(store, action, "two", later(SECONDS))
    before = all_rows(database)
    with pytest.raises(LeaseLost):
        store.deployments.move(old, begun, DeploymentState.UPLOADING, AT)
    with pytest.raises(LeaseLost):
        store.deployments.begin(old, run, "shop", "r2", AT)
    assert all_rows(database) == before
    assert store.deployments.begin(new, run, "shop", "r2", AT) == begun
    assert store.deployments.move(new, begun, DeploymentState.UPLOADING, AT).release == "r1"


def test_a_lease_moves_no_deployment_of_another_action(store: SqlStore) -> None:
    action, other = owed(store), owed(store, DEPLOY)
    lease, foreign = working(store, action), working(store, other)
    begun = store.deployments.begin(lease, store.runs.get(action.run_id), "shop", "r1", AT)
    with pytest.raises(LeaseLost):
        store.deployments.move(foreign, begun, DeploymentState.UPLOADING, AT)
