"""What an idle server asks every second."""

from __future__ import annotations

from orchestrator.domain.action import ActionState, Trigger
from orchestrator.domain.action_spec import EmailAction
from orchestrator.ports.records import NewAction, OutboxMessage
from orchestrator.store import SqlStore
from tests.unit.store.support import AT, enqueue, new_run


def test_the_head_of_the_journal_grows_with_every_change_of_a_state_and_stays_otherwise(
    store: SqlStore,
) -> None:
    before = store.journal.head()
    enqueue(store)
    after = store.journal.head()
    assert after > before
    store.runs.unfinished()
    store.attempts.queued(AT)
    assert store.journal.head() == after


def test_something_is_owed_until_the_action_and_its_mail_have_ended(store: SqlStore) -> None:
    assert not store.actions.any_owed()
    spec = EmailAction(("team@example.org",))
    run = enqueue(store, new_run(start_actions=(NewAction(Trigger.START, 0, spec),)))
    (action,) = store.actions.of_run(run.id)
    assert store.actions.any_owed()
    lease = store.actions.claim(action.id, "me", AT, 60)
    assert lease is not None
    assert store.actions.any_owed()
    mail = OutboxMessage(0, action.id, run.id, "<a@b>", ("team@example.org",), "subject", b"text", "pending")
    assert store.actions.finish_with_mail(lease, mail, "", AT).state is ActionState.DONE
    assert store.actions.any_owed()
    (owed,) = store.actions.outbox_due(AT)
    sending = store.actions.outbox_claim(owed.id, "me", AT, 60)
    assert sending is not None
    store.actions.outbox_delivered(sending, AT)
    assert not store.actions.any_owed()
