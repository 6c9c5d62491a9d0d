"""Every pair of states: what the domain's tables allow goes through, all else raises and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from orchestrator.domain.action import ACTION_TRANSITIONS, ActionState
from orchestrator.domain.deployment import DEPLOYMENT_TRANSITIONS, DeploymentState
from orchestrator.domain.errors import IllegalTransition, LeaseLost, StoreError
from orchestrator.domain.run import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, AttemptState, Reason, RunState
from orchestrator.ports.records import AttemptResult, Lease
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database
from orchestrator.store.tables import ActionRow, AttemptRow, DeploymentRow, RunRow
from tests.unit.store.support import (
    AT,
    DEPLOY,
    MAIL,
    SECONDS,
    VERDICT,
    all_rows,
    claimed,
    enqueue,
    force,
    later,
    owed,
    working,
)


def refused(database: Database, act: Callable[[], object], error: type[StoreError]) -> None:
    """The act raises, and not one row differs afterwards."""
    before = all_rows(database)
    with pytest.raises(error):
        act()
    assert all_rows(database) == before


def move_run(store: SqlStore, run_id: int, before: RunState, after: RunState) -> RunState:
    return store.runs.move(run_id, before, after, AT, verdict=VERDICT, actions=[DEPLOY, MAIL]).state


def move_attempt(store: SqlStore, lease: Lease, before: AttemptState, after: AttemptState) -> AttemptState:
    if after.final:
        return store.attempts.finish(lease, before, AttemptResult(after, Reason.INTERNAL), AT).state
    return store.attempts.advance(lease, before, after, AT).state


def move_action(store: SqlStore, lease: Lease, after: ActionState) -> ActionState:
    if after is ActionState.PENDING:
        return store.actions.postpone(lease, later(5), "the server is down", AT).state
    return store.actions.finish(lease, after, "", AT).state


@pytest.mark.parametrize("before", RunState)
def test_a_run_follows_its_table_and_nothing_else(
    store: SqlStore, database: Database, before: RunState
) -> None:
    run = enqueue(store)
    for after in RunState:
        force(database, RunRow, run.id, before)
        move = partial(move_run, store, run.id, before, after)
        if after in RUN_TRANSITIONS[before]:
            assert move() is after
            assert store.runs.get(run.id).state is after
        else:
            refused(database, move, IllegalTransition)


@pytest.mark.parametrize("before", RunState)
def test_a_run_that_is_elsewhere_stays_there(store: SqlStore, database: Database, before: RunState) -> None:
    run = enqueue(store)
    for actual in set(RunState) - {before}:
        force(database, RunRow, run.id, actual)
        for after in RUN_TRANSITIONS[before]:
            refused(database, partial(move_run, store, run.id, before, after), LeaseLost)


@pytest.mark.parametrize("before", AttemptState)
def test_an_attempt_follows_its_table_and_nothing_else(
    store: SqlStore, database: Database, before: AttemptState
) -> None:
    for after in AttemptState:
        lease = claimed(store)
        force(database, AttemptRow, lease.id, before)
        move = partial(move_attempt, store, lease, before, after)
        # QUEUED is left by a claim, or with its run; it never has a lease that could move it.
        if after in ATTEMPT_TRANSITIONS[before] and before is not AttemptState.QUEUED:
            assert move() is after
        else:
            refused(database, move, IllegalTransition)


@pytest.mark.parametrize("actual", AttemptState)
def test_an_attempt_that_is_elsewhere_stays_there(
    store: SqlStore, database: Database, actual: AttemptState
) -> None:
    lease = claimed(store)
    force(database, AttemptRow, lease.id, actual)
    for before in {AttemptState.PREPARING, AttemptState.RUNNING, AttemptState.COLLECTING} - {actual}:
        for after in ATTEMPT_TRANSITIONS[before]:
            refused(database, partial(move_attempt, store, lease, before, after), LeaseLost)


@pytest.mark.parametrize("actual", AttemptState)
def test_only_a_queued_attempt_is_claimed(store: SqlStore, database: Database, actual: AttemptState) -> None:
    attempt = store.attempts.of_run(enqueue(store).id)[0]
    force(database, AttemptRow, attempt.id, actual)
    before = all_rows(database)
    lease = store.attempts.claim(attempt.id, "local", 1, "mlci-1", "one", AT, SECONDS)
    assert (lease is not None) == (actual is AttemptState.QUEUED)
    assert (all_rows(database) != before) == (actual is AttemptState.QUEUED)


@pytest.mark.parametrize("before", ActionState)
def test_an_action_follows_its_table_and_nothing_else(
    store: SqlStore, database: Database, before: ActionState
) -> None:
    for after in ActionState:
        lease = working(store)
        force(database, ActionRow, lease.id, before)
        move = partial(move_action, store, lease, after)
        if after is ActionState.RUNNING:
            refused(database, move, IllegalTransition)
        elif before is ActionState.RUNNING:
            assert after in ACTION_TRANSITIONS[before]
            assert move() is after
        else:
            refused(database, move, LeaseLost)


@pytest.mark.parametrize("actual", ActionState)
def test_only_a_pending_action_is_claimed(store: SqlStore, database: Database, actual: ActionState) -> None:
    action = owed(store)
    working(store, action)
    force(database, ActionRow, action.id, actual)
    before = all_rows(database)
    lease = store.actions.claim(action.id, "two", later(1), SECONDS)
    assert (lease is not None) == (actual is ActionState.PENDING)
    assert (all_rows(database) != before) == (actual is ActionState.PENDING)


@pytest.mark.parametrize("before", DeploymentState)
def test_a_deployment_follows_its_table_and_nothing_else(
    store: SqlStore, database: Database, before: DeploymentState
) -> None:
    action = owed(store)
    lease = working(store, action)
    begun = store.deployments.begin(lease, store.runs.get(action.run_id), "shop", "20261123T054459Z-1", AT)
    for after in DeploymentState:
        force(database, DeploymentRow, begun.id, before)
        (known,) = store.deployments.of_action(action.id)
        move = partial(store.deployments.move, lease, known, after, AT, "because")
        if after in DEPLOYMENT_TRANSITIONS[before]:
            assert move().state is after
            assert store.deployments.of_run(action.run_id)[0].state is after
        else:
            refused(database, move, IllegalTransition)


@pytest.mark.parametrize("actual", DeploymentState)
def test_a_deployment_that_is_elsewhere_stays_there(
    store: SqlStore, database: Database, actual: DeploymentState
) -> None:
    action = owed(store)
    lease = working(store, action)
    begun = store.deployments.begin(lease, store.runs.get(action.run_id), "shop", "20261123T054459Z-1", AT)
    force(database, DeploymentRow, begun.id, actual)
    if actual is not DeploymentState.QUEUED:
        move = partial(store.deployments.move, lease, begun, DeploymentState.UPLOADING, AT)
        refused(database, move, LeaseLost)
