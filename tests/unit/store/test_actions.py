"""Actions, mails and deployments: owed with the verdict, and carried out at least once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.action import ActionState, Trigger
from orchestrator.domain.action_spec import DeployAction, EmailAction
from orchestrator.domain.deployment import Deployment, DeploymentState
from orchestrator.domain.errors import LeaseLost, NotFound
from orchestrator.domain.run import Run, RunState
from orchestrator.ports.records import Lease, NewAction, OutboxMessage
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database
from tests.unit.store.support import (
    AT,
    DEPLOY,
    MAIL,
    SECONDS,
    VERDICT,
    all_rows,
    at_once,
    claim,
    enqueue,
    later,
    new_run,
    owed,
    passed,
    pipeline,
    succeed,
    working,
)


def mail(lease: Lease, run_id: int, key: str = "<run-1@mlci>") -> OutboxMessage:
    return OutboxMessage(
        0,
        lease.id,
        run_id,
        key,
        ("dev@example.org", "ops@example.org"),
        "passed",
        b"Subject: \xff\r\n\r\n",
        "pending",
    )


def mailed(store: SqlStore) -> OutboxMessage:
    """A mail that is in the outbox."""
    action = owed(store, MAIL)
    lease = working(store, action)
    store.actions.finish_with_mail(lease, mail(lease, action.run_id), "", AT)
    return store.actions.outbox_of_run(action.run_id)[0]


def sending(store: SqlStore, message: OutboxMessage, owner: str = "one", seconds: float = 0) -> Lease:
    lease = store.actions.outbox_claim(message.id, owner, later(seconds), SECONDS)
    assert lease is not None
    return lease


def deployed(store: SqlStore, run: Run, server: str = "shop", seconds: float = 0) -> Deployment:
    """A deployment that went all the way."""
    action = next(a for a in store.actions.of_run(run.id) if a.state is ActionState.PENDING)
    lease = working(store, action)
    deployment = store.deployments.begin(lease, run, server, f"r{run.id}", AT)
    for state in (
        DeploymentState.UPLOADING,
        DeploymentState.VERIFYING,
        DeploymentState.ACTIVATING,
        DeploymentState.BAKING,
        DeploymentState.ACTIVE,
    ):
        deployment = store.deployments.move(lease, deployment, state, later(seconds))
    store.actions.finish(lease, ActionState.DONE, "", AT)
    return deployment


def test_a_verdict_comes_with_everything_that_it_owes(store: SqlStore) -> None:
    run = passed(store, None, DEPLOY, MAIL)
    assert (run.state, run.verdict, run.finished_at) == (RunState.PASSED, VERDICT, AT)
    first, second = store.actions.of_run(run.id)
    assert (first.spec, first.key, first.state) == (DEPLOY.spec, f"run-{run.id}-pass-0", ActionState.PENDING)
    assert (second.spec, second.key) == (MAIL.spec, f"run-{run.id}-pass-1")
    assert [action.id for action in store.actions.pending(AT)] == [first.id, second.id]


def test_a_verdict_without_a_row_for_each_action_is_no_verdict(store: SqlStore, database: Database) -> None:
    run = enqueue(store)
    lease = claim(store, store.attempts.of_run(run.id)[0])
    assert lease is not None
    succeed(store, lease)
    store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, AT)
    unheard_of = NewAction(Trigger.PASS, 1, DeployAction("shop", files=(object(),)))  # type: ignore[arg-type]
    before = all_rows(database)
    with pytest.raises(TypeError):
        store.runs.move(
            run.id, RunState.EVALUATING, RunState.PASSED, AT, verdict=VERDICT, actions=[DEPLOY, unheard_of]
        )
    assert all_rows(database) == before


def test_an_action_is_owed_once_however_often_it_is_named(store: SqlStore) -> None:
    start = NewAction(Trigger.PASS, 0, EmailAction(("dev@example.org",)))
    run = passed(store, new_run(start_actions=(start,)), DEPLOY)
    assert [action.spec for action in store.actions.of_run(run.id)] == [start.spec]


def test_of_twenty_who_claim_an_action_one_has_it(store: SqlStore) -> None:
    action = owed(store)
    leases = at_once(20, lambda n: store.actions.claim(action.id, f"owner-{n}", AT, SECONDS))
    (winner,) = [lease for lease in leases if lease is not None]
    assert store.actions.get(action.id).tries == 1
    store.actions.finish(winner, ActionState.DONE, "deployed", later(2))
    ended = store.actions.get(action.id)
    assert (ended.state, ended.message, ended.finished_at) == (ActionState.DONE, "deployed", later(2))


def test_an_unknown_action_is_said_to_be_unknown(store: SqlStore) -> None:
    with pytest.raises(NotFound):
        store.actions.get(99)
    with pytest.raises(NotFound):
        store.actions.claim(99, "one", AT, SECONDS)


def test_a_mail_is_owed_from_the_moment_its_action_is_done(store: SqlStore) -> None:
    action = owed(store, MAIL)
    lease = working(store, action)
    wanted = mail(lease, action.run_id)
    assert store.actions.finish_with_mail(lease, wanted, "owed", AT).state is ActionState.DONE
    (message,) = store.actions.outbox_due(AT)
    assert message == replace(wanted, id=message.id)


def test_an_action_may_be_done_without_a_mail(store: SqlStore) -> None:
    lease = working(store, owed(store, MAIL))
    assert store.actions.finish_with_mail(lease, None, "nobody wants it", AT).state is ActionState.DONE
    assert store.actions.outbox_due(AT) == []


def test_a_known_message_id_adds_no_mail(store: SqlStore) -> None:
    for action in (owed(store, MAIL), owed(store, MAIL)):
        lease = working(store, action)
        store.actions.finish_with_mail(lease, mail(lease, action.run_id), "", AT)
    assert len(store.actions.outbox_due(AT)) == 1


def test_a_mail_whose_action_was_taken_over_is_not_owed_twice(store: SqlStore, database: Database) -> None:
    action = owed(store, MAIL)
    old = working(store, action)
    working(store, action, "two", later(SECONDS))
    before = all_rows(database)
    with pytest.raises(LeaseLost):
        store.actions.finish_with_mail(old, mail(old, action.run_id), "", AT)
    assert all_rows(database) == before


def test_a_delivered_mail_is_never_due_again(store: SqlStore) -> None:
    message = mailed(store)
    store.actions.outbox_delivered(sending(store, message), later(1))
    assert store.actions.outbox_due(later(10_000)) == []
    assert store.actions.outbox_claim(message.id, "two", later(10_000), SECONDS) is None
    (kept,) = store.actions.outbox_of_run(message.run_id or 0)
    assert (kept.state, kept.delivered_at, kept.tries) == ("delivered", later(1), 1)


def test_a_mail_whose_sender_died_is_due_again_under_the_same_key(store: SqlStore) -> None:
    message = mailed(store)
    old = sending(store, message)
    assert store.actions.outbox_due(later(SECONDS - 1)) == []
    (due,) = store.actions.outbox_due(later(SECONDS))
    assert (due.key, due.message, due.tries) == (message.key, message.message, 1)
    new = sending(store, message, "two", SECONDS)
    with pytest.raises(LeaseLost):
        store.actions.outbox_delivered(old, later(SECONDS))
    store.actions.outbox_delivered(new, later(SECONDS))
    assert store.actions.outbox_of_run(message.run_id or 0)[0].tries == 2


def test_the_mails_of_a_dead_owner_are_due_at_once(store: SqlStore) -> None:
    message = mailed(store)
    sending(store, message, "one")
    store.actions.release_dead(["one"], later(1))
    assert [due.id for due in store.actions.outbox_due(later(1))] == [message.id]


def test_a_mail_that_is_being_sent_keeps_its_lease_by_heartbeats(store: SqlStore) -> None:
    message = mailed(store)
    lease = sending(store, message)
    store.actions.heartbeat(lease, later(20), SECONDS)
    assert store.actions.outbox_due(later(SECONDS + 1)) == []


def test_a_mail_that_could_not_be_sent_waits(store: SqlStore) -> None:
    message = mailed(store)
    store.actions.outbox_postpone(sending(store, message), later(60), "451 greylisted", AT)
    assert store.actions.outbox_due(later(59)) == []
    assert store.actions.outbox_claim(message.id, "one", later(59), SECONDS) is None
    (due,) = store.actions.outbox_due(later(60))
    assert (due.last_error, due.state) == ("451 greylisted", "pending")


def test_a_mail_that_is_given_up_is_never_due_again(store: SqlStore) -> None:
    message = mailed(store)
    store.actions.outbox_give_up(sending(store, message), "550 no such user", AT)
    assert store.actions.outbox_due(later(10_000)) == []
    (kept,) = store.actions.outbox_of_run(message.run_id or 0)
    assert (kept.state, kept.last_error) == ("given_up", "550 no such user")


def test_of_twenty_who_would_send_a_mail_one_does(store: SqlStore) -> None:
    message = mailed(store)
    leases = at_once(20, lambda n: store.actions.outbox_claim(message.id, f"owner-{n}", AT, SECONDS))
    assert len([lease for lease in leases if lease is not None]) == 1


def test_the_newer_release_retires_the_older_on_its_server_only(store: SqlStore) -> None:
    one = deployed(store, passed(store, None, DEPLOY))
    elsewhere = deployed(store, passed(store, None, DEPLOY), "other")
    assert store.deployments.live("wine", "shop") == one
    two = deployed(store, passed(store, None, DEPLOY), seconds=9)
    assert store.deployments.live("wine", "shop") == two
    assert two.activated_at == later(9)
    (retired,) = store.deployments.of_run(one.run_id)
    assert retired.state is DeploymentState.RETIRED
    assert retired.message.startswith("was live until ")
    assert retired.message.endswith(" took its place")
    assert store.deployments.live("wine", "other") == elsewhere
    assert [d.id for d in store.deployments.listing("shop")] == [two.id, one.id]
    assert [d.id for d in store.deployments.listing(limit=1)] == [two.id]


def test_the_release_of_another_pipeline_retires_the_older_one_too(store: SqlStore) -> None:
    one = deployed(store, passed(store, None, DEPLOY))
    foreign = deployed(store, passed(store, new_run(pipeline("tea")), DEPLOY))
    assert store.deployments.live("wine", "shop") is None
    assert store.deployments.live("tea", "shop") == foreign
    assert store.deployments.of_run(one.run_id)[0].state is DeploymentState.RETIRED


def test_a_run_was_deployed_also_when_its_release_is_retired(store: SqlStore) -> None:
    one, two, never = (passed(store, None, DEPLOY) for _ in range(3))
    deployed(store, two, seconds=1)
    deployed(store, one, seconds=2)
    working(store, store.actions.of_run(never.id)[0])
    assert store.runs.deployed_ids("wine") == [two.id, one.id]
    assert store.deployments.live("wine", "nowhere") is None
    assert store.deployments.of_action(99) == []
