"""What is kept of webhooks, decisions and marks: guarded, and at the same moment as what it is about."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import event

from orchestrator.domain.change import PullRequest
from orchestrator.domain.errors import NotFound
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.domain.run import AttemptState, Reason, RunState, seed_for
from orchestrator.ports.hooks import CommentSeen, Ruling
from orchestrator.ports.records import CommentMove, NewRun
from orchestrator.store import SqlStore
from tests.unit.store.support import AT, DEPLOY, MAIL, at_once, enqueue, head, later, new_run, pipeline

WATCHED = SourceSpec("code", "https://github.com/acme/wine.git", github="acme/wine")
PULL = PullRequest(7, "main", "b" * 40, "topic", "evil/wine", True, "evil", 666)


def waiting(replicates: int = 2) -> NewRun:
    made = new_run(replace(pipeline(replicates=replicates), sources=(WATCHED,)), PULL.ref, PULL.commit)
    return replace(
        made,
        revision=replace(made.revision, pull=PULL),
        needs_approval=True,
        start_actions=(MAIL,),
    )


def test_a_run_that_waits_for_approval_has_nothing_that_anybody_could_carry_out(store: SqlStore) -> None:
    run = enqueue(store, waiting())
    assert run.state is RunState.AWAITING_APPROVAL
    assert run.change.revision.pull == PULL
    assert store.attempts.of_run(run.id) == []
    assert store.actions.of_run(run.id) == []
    assert store.attempts.queued(AT) == []


def test_approving_makes_attempts_actions_and_the_decision_at_once(store: SqlStore) -> None:
    run = enqueue(store, waiting())
    approved = store.approvals.approve(run.id, "ana", "read it", later(5), (MAIL,))
    assert approved is not None
    assert approved.state is RunState.QUEUED
    attempts = store.attempts.of_run(run.id)
    assert [(a.replicate, a.number, a.seed) for a in attempts] == [
        (n, 1, seed_for(run.id, n)) for n in range(2)
    ]
    assert [action.spec for action in store.actions.of_run(run.id)] == [MAIL.spec]
    (decision,) = store.approvals.decisions(run.id)
    assert (decision.ruling, decision.who, decision.reason, decision.at) == (
        Ruling.APPROVED,
        "ana",
        "read it",
        later(5),
    )
    entry = next(e for e in store.journal.of_run(run.id) if e.before == "awaiting_approval")
    assert (entry.who, entry.after, entry.reason) == ("ana", "queued", "approved by ana: read it")


def test_rejecting_ends_the_run_with_the_actions_then_owed(store: SqlStore) -> None:
    run = enqueue(store, waiting())
    rejected = store.approvals.reject(run.id, "ana", "no", later(5), (MAIL,))
    assert rejected is not None
    assert (rejected.state, rejected.reason) == (RunState.CANCELLED, Reason.CANCELLED_BY_PERSON)
    assert (rejected.message, rejected.finished_at) == ("rejected by ana: no", later(5))
    assert store.attempts.of_run(run.id) == []
    assert len(store.actions.of_run(run.id)) == 1


def test_only_a_run_that_waits_can_be_decided_and_only_once(store: SqlStore) -> None:
    queued = enqueue(store)
    assert store.approvals.approve(queued.id, "ana", "", AT) is None
    run = enqueue(store, waiting())
    assert store.approvals.reject(run.id, "ana", "", AT) is not None
    assert store.approvals.approve(run.id, "bob", "", AT) is None
    assert [each.who for each in store.approvals.decisions(run.id)] == ["ana"]
    with pytest.raises(NotFound):
        store.approvals.approve(999, "ana", "", AT)


def test_of_people_who_decide_at_the_same_moment_one_has_decided(store: SqlStore) -> None:
    run = enqueue(store, waiting())

    def decide(index: int) -> bool:
        act = store.approvals.approve if index % 2 else store.approvals.reject
        return act(run.id, f"person {index}", "", AT) is not None

    assert at_once(4, decide).count(True) == 1
    assert len(store.approvals.decisions(run.id)) == 1
    state = store.runs.get(run.id).state
    assert (state is RunState.QUEUED) == bool(store.attempts.of_run(run.id))


def test_what_is_asked_to_end_cannot_be_approved(store: SqlStore) -> None:
    run = enqueue(store, waiting())
    store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, AT)
    assert store.approvals.approve(run.id, "bob", "", AT) is None
    assert store.approvals.reject(run.id, "bob", "", AT) is not None


def test_a_newer_commit_ends_what_waited_for_approval(store: SqlStore) -> None:
    old = enqueue(store, waiting())
    newer = waiting()
    enqueue(store, replace(newer, revision=replace(newer.revision, commit="c" * 40)))
    ended = store.runs.get(old.id)
    assert (ended.state, ended.reason) == (RunState.CANCELLED, Reason.SUPERSEDED)


def test_a_run_owes_a_mark_from_the_moment_it_is_there(store: SqlStore) -> None:
    run = enqueue(store, waiting(), head(None, "b" * 40))
    (owed,) = store.statuses.due(AT)
    assert (owed.run_id, owed.context, owed.sent) == (run.id, "mlci/wine", "")
    assert store.statuses.any_owed()


def test_a_mark_is_due_again_with_each_state_that_people_should_know(store: SqlStore) -> None:
    run = enqueue(store, waiting(1))
    for state in ("awaiting_approval", "queued", "running"):
        (owed,) = store.statuses.due(AT)
        claimed = store.statuses.claim(owed, AT, later(60))
        assert claimed is not None
        store.statuses.told(claimed, state, "41")
        assert store.statuses.due(AT) == []
        assert not store.statuses.any_owed()
        if state == "awaiting_approval":
            store.approvals.approve(run.id, "ana", "", AT)
        elif state == "queued":
            store.runs.move(run.id, RunState.QUEUED, RunState.RUNNING, AT)
    store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, AT)
    assert store.statuses.due(AT) == []
    store.runs.move(run.id, RunState.EVALUATING, RunState.PASSED, AT)
    (owed,) = store.statuses.due(AT)
    assert (owed.sent, owed.external_id, owed.tries) == ("running", "41", 0)


def test_one_of_several_servers_may_tell(store: SqlStore) -> None:
    enqueue(store, waiting())
    (owed,) = store.statuses.due(AT)
    claims = at_once(4, lambda _: store.statuses.claim(owed, AT, later(60)))
    assert len([claim for claim in claims if claim]) == 1
    assert store.statuses.due(later(59)) == []
    (again,) = store.statuses.due(later(60))
    assert again.tries == 1


def test_who_lost_the_claim_writes_nothing(store: SqlStore) -> None:
    enqueue(store, waiting())
    (owed,) = store.statuses.due(AT)
    late = store.statuses.claim(owed, AT, later(60))
    (owed,) = store.statuses.due(later(61))
    mine = store.statuses.claim(owed, later(61), later(120))
    assert late is not None
    assert mine is not None
    store.statuses.told(late, "awaiting_approval", "1")
    store.statuses.postpone(late, later(999), "late")
    store.statuses.give_up(late, "awaiting_approval", "late")
    assert store.statuses.of_run(owed.run_id) == [mine]


def test_only_a_later_run_of_the_same_pipeline_and_commit_speaks_in_its_place(store: SqlStore) -> None:
    first = enqueue(store, waiting())
    enqueue(store, replace(waiting(), pipeline=replace(waiting().pipeline, name="beer")))
    another = waiting()
    enqueue(store, replace(another, revision=replace(another.revision, commit="c" * 40)))
    assert store.statuses.newest(first)
    second = enqueue(store, waiting())
    assert not store.statuses.newest(first)
    assert store.statuses.newest(second)


def test_a_delivery_is_taken_once_under_each_of_its_ids(store: SqlStore) -> None:
    take = store.deliveries.take
    assert take(("delivery:1", "body:a"), "push", "acme/wine", AT)
    assert not take(("delivery:1", "body:b"), "push", "acme/wine", AT)
    assert not take(("delivery:2", "body:a"), "push", "acme/wine", AT)
    assert take(("delivery:2", "body:b"), "push", "acme/wine", AT), "what was refused left nothing behind"


def test_of_servers_that_get_the_same_delivery_one_has_taken_it(store: SqlStore) -> None:
    took = at_once(4, lambda _: store.deliveries.take(("delivery:1", "body:a"), "push", "acme/wine", AT))
    assert took.count(True) == 1


def test_a_comment_that_was_told_of_twice_waits_once_and_is_dealt_with_once(store: SqlStore) -> None:
    store.deliveries.take(("delivery:1",), "issue_comment", "acme/wine", AT, 99)
    store.deliveries.take(("delivery:2",), "issue_comment", "acme/wine", later(5), 99)
    assert store.deliveries.comments(later(5)) == [CommentSeen(99, "acme/wine", AT)]
    store.deliveries.dealt_with(99)
    store.deliveries.take(("delivery:3",), "issue_comment", "acme/wine", later(6), 99)
    assert store.deliveries.comments(later(6)) == []


def test_of_servers_that_see_a_comment_one_deals_with_it(store: SqlStore) -> None:
    store.deliveries.take(("delivery:1",), "issue_comment", "acme/wine", AT, 99)
    (seen,) = store.deliveries.comments(AT)
    claims = at_once(4, lambda _: store.deliveries.claim(seen, later(300)))
    assert len([claim for claim in claims if claim]) == 1
    assert store.deliveries.comments(later(299)) == []
    assert [each.id for each in store.deliveries.comments(later(300))] == [99]


def test_a_comment_makes_one_run_of_each_pipeline(store: SqlStore) -> None:
    asked = CommentMove(99)
    approved = replace(waiting(), needs_approval=False)
    beer = replace(approved, pipeline=replace(approved.pipeline, name="beer"))
    made = [store.runs.enqueue(new, (asked,), new.pipeline.name, AT) for new in (approved, beer, approved)]
    assert [run.pipeline if run else None for run in made] == ["wine", "beer", None]
    assert store.runs.enqueue(approved, (CommentMove(9),), "wine", AT) is not None
    both = (asked, head(None, "d" * 40))
    assert store.runs.enqueue(approved, both, "wine", AT) is None
    assert store.detection.heads("wine", "code") == {}
    assert store.runs.enqueue(approved, (CommentMove(98), head(None, "e" * 40)), "wine", AT) is not None
    assert store.runs.enqueue(approved, (CommentMove(98),), "wine", AT) is None, "with whatever it was seen"


def test_whether_a_comment_was_heeded_is_asked_of_an_index(store: SqlStore) -> None:
    statements: list[str] = []
    engine = store._database._engine
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    made = store.runs.enqueue(replace(waiting(), needs_approval=False), (CommentMove(99),), "wine", AT)
    assert made is not None
    assert [statement for statement in statements if "LIKE" in statement] == []


def test_an_attempt_of_a_run_that_was_approved_can_be_claimed(store: SqlStore) -> None:
    run = enqueue(store, waiting(1))
    store.approvals.approve(run.id, "ana", "", AT, (DEPLOY,))
    (queued,) = store.attempts.queued(AT)
    lease = store.attempts.claim(queued.id, "local", 1, "mlci-1", "one", AT, 30.0)
    assert lease is not None
    assert store.attempts.get(queued.id).state is AttemptState.PREPARING
