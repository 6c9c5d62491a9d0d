"""A change that was seen becomes a run exactly once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.action import ActionState, Trigger
from orchestrator.domain.action_spec import EmailAction
from orchestrator.domain.change import Cause
from orchestrator.domain.errors import LeaseLost, NotFound
from orchestrator.domain.run import AttemptState, Purpose, Reason, RunState, seed_for
from orchestrator.ports.records import AttemptResult, DataMove, HeadMove, Move, NewAction, Told
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database
from tests.unit.store.support import (
    AT,
    all_rows,
    at_once,
    claim,
    claimed,
    enqueue,
    head,
    later,
    new_run,
    passed,
    pipeline,
)

A, B, C = "a" * 40, "b" * 40, "c" * 40


def test_a_run_is_stored_as_it_was_made(store: SqlStore) -> None:
    new = new_run(pipeline(replicates=2))
    run = enqueue(store, new, head(None, A))
    assert run == store.runs.get(run.id)
    assert (run.number, run.title, run.state) == (1, "wine #1", RunState.QUEUED)
    assert run.change.revision == new.revision
    assert run.change.datasets == new.datasets
    assert store.runs.definition(run.id) == new.pipeline
    assert [attempt.replicate for attempt in store.attempts.of_run(run.id)] == [0, 1]
    assert store.detection.heads("wine", "code") == {"main": A}


def test_runs_of_a_pipeline_that_stayed_the_same_share_what_was_read_of_it(store: SqlStore) -> None:
    first, second = enqueue(store), enqueue(store)
    changed = enqueue(store, new_run(pipeline(replicates=2)))
    assert store.runs.definition(second.id) is store.runs.definition(first.id)
    assert store.runs.definition(changed.id) == pipeline(replicates=2)


def test_a_move_that_somebody_else_saw_first_makes_nothing(store: SqlStore, database: Database) -> None:
    enqueue(store, new_run(), head(None, A))
    before = all_rows(database)
    moves: list[list[HeadMove | DataMove]] = [
        [head(None, A)],
        [head(B, C)],
        [head(A, B), DataMove("wine", "f1", "f2")],
        [DataMove("wine", None, "f1"), head(None, B)],
    ]
    for stale in moves:
        assert store.runs.enqueue(new_run(), stale, "wine", AT) is None
        assert all_rows(database) == before


def test_moves_without_a_run_are_remembered(store: SqlStore) -> None:
    assert store.runs.enqueue(None, [head(None, A), DataMove("wine", None, "f1")], "wine", AT) is None
    assert store.detection.heads("wine", "code") == {"main": A}
    assert store.detection.data_heads("wine") == {"wine": "f1"}
    assert store.runs.listing() == []


def test_a_commit_that_comes_back_is_a_change_of_its_own(store: SqlStore) -> None:
    runs = [enqueue(store, new_run(commit=new), head(old, new)) for old, new in ((None, A), (A, B), (B, A))]
    assert [run.change.revision.commit for run in runs] == [A, B, A]
    assert len({run.change.key for run in runs}) == 3
    assert [run.change.id for run in runs] == sorted(run.change.id for run in runs)


def test_data_that_come_back_are_a_change_of_their_own(store: SqlStore) -> None:
    moves = [DataMove("wine", old, new) for old, new in ((None, "f1"), ("f1", "f2"), ("f2", "f1"))]
    keys = {enqueue(store, new_run(cause=Cause.DATA), move).change.key for move in moves}
    assert len(keys) == 3
    assert store.detection.data_heads("wine") == {"wine": "f1"}


def test_a_branch_that_is_made_again_is_new(store: SqlStore) -> None:
    first = enqueue(store, new_run(branch="b"), head(None, A, "b"))
    assert store.runs.enqueue(None, [head(A, None, "b")], "wine", AT) is None
    assert store.detection.heads("wine", "code") == {}
    assert store.runs.enqueue(None, [head(A, None, "b")], "wine", AT) is None
    again = enqueue(store, new_run(branch="b"), head(None, A, "b"))
    assert again.change.key != first.change.key


def test_names_that_look_alike_keep_their_changes_apart(store: SqlStore) -> None:
    keys = {
        enqueue(store, new_run(), HeadMove(source, branch, None, A)).change.key
        for source, branch in (("a", "b/c"), ("a/b", "c"), ("data", "main"))
    }
    assert len(keys) == 3


def test_pipelines_see_the_same_move_each_for_itself(store: SqlStore) -> None:
    one = enqueue(store, new_run(pipeline("one")), head(None, A))
    two = enqueue(store, new_run(pipeline("two")), head(None, A))
    assert (one.number, two.number) == (1, 1)
    assert one.change.key == two.change.key


def test_a_person_may_ask_for_the_same_again(store: SqlStore) -> None:
    first, second = (enqueue(store, new_run(cause=Cause.MANUAL)) for _ in range(2))
    assert first.change.key != second.change.key
    assert (first.number, second.number) == (1, 2)


def test_moves_of_one_pipeline_make_no_run_of_another(store: SqlStore) -> None:
    with pytest.raises(ValueError, match="pipeline other"):
        store.runs.enqueue(new_run(), [head(None, A)], "other", AT)


def test_twenty_who_see_the_same_push_make_one_run(store: SqlStore) -> None:
    enqueue(store, new_run(), head(None, A))
    runs = at_once(20, lambda _: store.runs.enqueue(new_run(commit=B), [head(A, B)], "wine", AT))
    made = [run for run in runs if run is not None]
    assert len(made) == 1
    assert [run.number for run in store.runs.listing()] == [2, 1]
    assert len(store.attempts.queued(AT)) == 2


def test_twenty_who_see_a_branch_for_the_first_time_make_one_run(store: SqlStore) -> None:
    runs = at_once(20, lambda _: store.runs.enqueue(new_run(), [head(None, A)], "wine", AT))
    assert len([run for run in runs if run is not None]) == 1


def test_runs_of_a_pipeline_are_numbered_without_gap_or_double(store: SqlStore) -> None:
    at_once(20, lambda _: enqueue(store, new_run(cause=Cause.MANUAL)))
    assert sorted(run.number for run in store.runs.listing()) == list(range(1, 21))


def test_seeds_differ_by_run_and_replicate(store: SqlStore) -> None:
    one, two = (enqueue(store, new_run(pipeline(replicates=2))) for _ in range(2))
    seeds = [attempt.seed for run in (one, two) for attempt in store.attempts.of_run(run.id)]
    assert seeds == [seed_for(run.id, replicate) for run in (one, two) for replicate in (0, 1)]
    assert len(set(seeds)) == 4


def test_a_reproduction_has_the_seeds_of_what_it_reproduces(store: SqlStore) -> None:
    original = enqueue(store)
    again = enqueue(store, new_run(cause=Cause.RERUN, purpose=Purpose.REPRODUCE, rerun_of=original.id))
    once_more = enqueue(store, new_run(cause=Cause.RERUN, purpose=Purpose.REPRODUCE, rerun_of=again.id))
    rerun = enqueue(store, new_run(cause=Cause.RERUN, rerun_of=original.id))
    seeds = [store.attempts.of_run(run.id)[0].seed for run in (original, again, once_more, rerun)]
    assert seeds[0] == seeds[1] == seeds[2]
    assert seeds[3] == seed_for(rerun.id, 0) != seeds[0]
    assert rerun.rerun_of == original.id


@pytest.mark.parametrize("purpose", [Purpose.TRAIN, Purpose.REPRODUCE])
def test_a_rerun_of_nothing_makes_nothing(store: SqlStore, database: Database, purpose: Purpose) -> None:
    before = all_rows(database)
    with pytest.raises(NotFound):
        store.runs.enqueue(new_run(purpose=purpose, rerun_of=99), [head(None, A)], "wine", AT)
    assert all_rows(database) == before


def test_a_new_try_keeps_the_seed_and_comes_once(store: SqlStore) -> None:
    run = enqueue(store)
    lease = claimed(store, run)
    store.attempts.finish(lease, AttemptState.PREPARING, AttemptResult(AttemptState.ERRORED, Reason.LOST), AT)
    at_once(5, lambda _: store.runs.add_try(run.id, 0, 2, later(5), AT))
    first, second = store.attempts.of_run(run.id)
    assert second.seed == first.seed
    assert (second.number, second.not_before, second.state) == (2, later(5), AttemptState.QUEUED)


def test_a_run_that_ended_gets_no_new_try(store: SqlStore) -> None:
    run = passed(store)
    with pytest.raises(LeaseLost):
        store.runs.add_try(run.id, 0, 2, AT, AT)
    with pytest.raises(NotFound):
        store.runs.add_try(99, 0, 2, AT, AT)


def test_start_actions_are_owed_with_the_run(store: SqlStore) -> None:
    start = NewAction(Trigger.START, 0, EmailAction(("dev@example.org",)))
    run = enqueue(store, new_run(start_actions=(start,)))
    (action,) = store.actions.of_run(run.id)
    assert (action.key, action.spec, action.state) == (
        f"run-{run.id}-start-0",
        start.spec,
        ActionState.PENDING,
    )


def test_a_run_that_ends_takes_its_queued_attempts_along(store: SqlStore) -> None:
    run = enqueue(store, new_run(pipeline(replicates=3)))
    first, *_ = store.attempts.of_run(run.id)
    assert claim(store, first) is not None
    store.runs.move(run.id, RunState.RUNNING, RunState.CANCELLED, later(9), Reason.SUPERSEDED, who="ann")
    active, *rest = store.attempts.of_run(run.id)
    assert active.state is AttemptState.PREPARING
    for attempt in rest:
        assert (attempt.state, attempt.reason) == (AttemptState.CANCELLED, Reason.SUPERSEDED)
        assert attempt.finished_at == later(9)


def test_an_attempt_that_never_began_is_not_blamed_for_its_run(store: SqlStore) -> None:
    run = enqueue(store, new_run(pipeline(replicates=2)))
    claimed(store, run)
    store.runs.move(run.id, RunState.RUNNING, RunState.FAILED, AT, Reason.OUT_OF_MEMORY)
    assert store.attempts.of_run(run.id)[1].reason is None


def lines(store: SqlStore) -> list[str]:
    return [line.reason for line in store.journal.latest() if line.subject == "source wine/code"]


def test_what_is_told_of_a_move_is_written_with_it_or_not_at_all(store: SqlStore) -> None:
    told = [Told("source wine/code", "main: no run")]
    assert store.runs.enqueue(None, [head(None, A)], "wine", AT, told) is None
    assert lines(store) == ["main: no run"]
    assert store.runs.enqueue(None, [head(None, B)], "wine", AT, told) is None
    assert lines(store) == ["main: no run"]


def test_a_run_that_needs_approval_has_no_attempts_and_owes_nothing(store: SqlStore) -> None:
    mail = NewAction(Trigger.START, 0, EmailAction(("team@example.org",)))
    waiting = replace(new_run(), needs_approval=True, start_actions=(mail,))
    run = enqueue(store, waiting, head(None, A))
    assert run.state is RunState.AWAITING_APPROVAL
    assert store.attempts.of_run(run.id) == []
    assert store.actions.of_run(run.id) == []


def test_older_runs_are_asked_to_end_with_the_move_that_supersedes_them(store: SqlStore) -> None:
    old = enqueue(store, new_run(), head(None, A))
    stale = replace(new_run(commit=C), supersede=True)
    assert store.runs.enqueue(stale, [head(B, C)], "wine", AT) is None
    assert store.runs.cancel_reason(old.id) is None
    other = enqueue(store, new_run(branch="side"), head(None, A, "side"))
    newer = enqueue(store, replace(new_run(commit=B), supersede=True), head(A, B))
    assert store.runs.cancel_reason(old.id) is Reason.SUPERSEDED
    assert store.runs.cancel_reason(other.id) is None
    assert store.runs.cancel_reason(newer.id) is None
    assert store.runs.get(old.id).cancel_requested_by == newer.title


def test_what_a_run_relies_on_must_still_be_so_and_is_not_moved(store: SqlStore) -> None:
    enqueue(store, new_run(), head(None, A), DataMove("wine", None, "f1"))
    relied = enqueue(store, new_run(commit=B), head(A, B), DataMove("wine", "f1", "f1"))
    assert relied.change.key == "head code:main@2"
    lost: tuple[list[Move], ...] = (
        [head(B, C), DataMove("wine", "f0", "f0")],
        [head(A, A), DataMove("wine", "f1", "f2")],
    )
    for stale in lost:
        assert store.runs.enqueue(new_run(commit=C), stale, "wine", AT) is None
    assert store.detection.heads("wine", "code") == {"main": B}
    assert store.detection.data_heads("wine") == {"wine": "f1"}
