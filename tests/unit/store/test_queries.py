"""What is read back: runs, metrics, pins, datasets, servers, the journal."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta, timezone

import pytest
from sqlalchemy import event

from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import NotFound
from orchestrator.domain.gate import CheckResult, Outcome, Verdict
from orchestrator.domain.metrics import Metric
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.run import AttemptState, Purpose, Reason, RunState
from orchestrator.ports.records import (
    AttemptResult,
    DatasetWatch,
    JournalEntry,
    ServerRow,
    StagedVolume,
    Standing,
    StoredArtifact,
)
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database
from orchestrator.store.tables import RunRow
from tests.unit.store.support import (
    AT,
    DEPLOY,
    SECONDS,
    at_once,
    claim,
    claimed,
    enqueue,
    force,
    head,
    later,
    new_run,
    passed,
    pipeline,
    succeed,
    working,
)

WINE = DatasetSpec("wine", "/data/wine")
FILES = (FileEntry("a.csv", 3, "1" * 64), FileEntry("ü b.csv", 5_000_000_000, "2" * 64))


def test_runs_are_found_by_id_and_by_name(store: SqlStore) -> None:
    enqueue(store, new_run(pipeline("tea")))
    run = enqueue(store)
    for reference in (str(run.id), "wine#1", run.title, f" {run.id} "):
        assert store.runs.find(reference) == run


@pytest.mark.parametrize("reference", ["", "99", "wine#2", "tea#1", "wine", "#1", "1; drop table runs", "-1"])
def test_a_reference_to_nothing_is_said_to_be_one(store: SqlStore, reference: str) -> None:
    enqueue(store)
    with pytest.raises(NotFound):
        store.runs.find(reference)


def test_runs_are_listed_newest_first_by_what_was_asked(store: SqlStore) -> None:
    one = enqueue(store)
    two = passed(store)
    three = enqueue(store, new_run(branch="dev"))
    tea = enqueue(store, new_run(pipeline("tea")))

    def ids(**wanted: object) -> list[int]:
        return [run.id for run in store.runs.listing(**wanted)]  # type: ignore[arg-type]

    assert ids() == [tea.id, three.id, two.id, one.id]
    assert ids(pipeline="wine") == [three.id, two.id, one.id]
    assert ids(states=(RunState.PASSED,)) == [two.id]
    assert ids(branch="dev") == [three.id]
    assert ids(limit=2, before=tea.id) == [three.id, two.id]


def test_a_run_is_unfinished_until_its_state_is_final(store: SqlStore, database: Database) -> None:
    run = enqueue(store)
    for state in RunState:
        force(database, RunRow, run.id, state)
        assert [unfinished.id for unfinished in store.runs.unfinished()] == ([] if state.final else [run.id])


def test_the_previous_outcome_is_that_of_the_branchs_last_judged_training(
    store: SqlStore, database: Database
) -> None:
    def ended(state: RunState, branch: str = "main", purpose: Purpose = Purpose.TRAIN) -> None:
        run = enqueue(store, new_run(branch=branch, purpose=purpose))
        force(database, RunRow, run.id, state)

    assert store.runs.previous_state(enqueue(store)) is None
    ended(RunState.REJECTED)
    ended(RunState.PASSED, branch="dev")
    ended(RunState.PASSED, purpose=Purpose.BASELINE)
    for silent in (RunState.CANCELLED, RunState.ERRORED, RunState.INCONCLUSIVE):
        ended(silent)
    run = enqueue(store)
    ended(RunState.PASSED)
    assert store.runs.previous_state(run) is RunState.REJECTED
    assert store.runs.previous_state(enqueue(store)) is RunState.PASSED


def test_the_pass_before_a_run_is_a_training_of_its_own_branch_and_pipeline(store: SqlStore) -> None:
    first = passed(store)
    assert store.runs.passed_before(first) is None
    second = passed(store)
    passed(store, new_run(pipeline("tea")))
    passed(store, new_run(branch="topic"))
    passed(store, new_run(purpose=Purpose.BASELINE))
    run = enqueue(store)
    before = store.runs.passed_before(run)
    assert before is not None
    assert before.id == second.id
    assert store.runs.passed_before(second) == store.runs.get(first.id)


def test_metrics_are_those_of_each_replicates_latest_try(store: SqlStore) -> None:
    run = enqueue(store, new_run(pipeline(replicates=2)))
    first, second = store.attempts.of_run(run.id)
    lease = claim(store, first)
    assert lease is not None
    partial = AttemptResult(AttemptState.ERRORED, Reason.LOST, metrics=(Metric("accuracy", 0.1),))
    store.attempts.finish(lease, AttemptState.PREPARING, partial, AT)
    store.runs.add_try(run.id, 0, 2, AT, AT)
    lease = claim(store, store.attempts.of_run(run.id)[1])
    assert lease is not None
    values = (Metric("accuracy", 0.9, "m.json", "json"), Metric("loss", math.inf), Metric("f1", -math.inf))
    succeed(store, lease, AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=values))
    assert store.runs.metrics(run.id) == {0: list(values), 1: []}
    assert store.attempts.get(second.id).state is AttemptState.QUEUED


def test_nan_stays_nan(store: SqlStore) -> None:
    lease = claimed(store)
    broken = AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=(Metric("loss", math.nan),))
    attempt = succeed(store, lease, broken)
    (metric,) = store.runs.metrics(attempt.run_id)[0]
    assert math.isnan(metric.value)


def test_a_verdict_keeps_its_evidence(store: SqlStore) -> None:
    run = enqueue(store)
    succeed(store, claimed(store, run))
    store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, AT)
    check = CheckResult(
        "accuracy >= 0.9", "accuracy", Outcome.FAIL, "0.1 is below 0.9", 0.1, difference=math.nan
    )
    verdict = Verdict(Outcome.FAIL, "accuracy failed", (replace(check, difference=-0.8), check))
    store.runs.move(run.id, RunState.EVALUATING, RunState.REJECTED, AT, verdict=verdict)
    kept = store.runs.get(run.id).verdict
    assert kept is not None
    assert kept.checks[0] == verdict.checks[0]
    assert math.isnan(kept.checks[1].difference or 0)


def test_artifacts_come_by_path(store: SqlStore) -> None:
    big = StoredArtifact("model.pkl", 5_000_000_000, "3" * 64)
    kept = (StoredArtifact("z.json", 1, "1" * 64, "metrics"), big, StoredArtifact("z.json", 1, "1" * 64))
    lease = claimed(store)
    succeed(store, lease, AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, artifacts=kept))
    assert store.attempts.artifacts(lease.id) == [big, kept[2], kept[0]]


def test_a_pin_is_replaced_by_a_newer_one_of_its_name(store: SqlStore) -> None:
    one, two = passed(store), passed(store)
    store.runs.pin("wine", "", one.id, "ann", "known to be good", AT)
    store.runs.pin("wine", "paper", one.id, "ann", "", AT)
    store.runs.pin("wine", "", two.id, "ann", "better", AT)
    assert store.runs.pins("wine") == {"": two.id, "paper": one.id}
    assert store.runs.pins("tea") == {}
    assert JournalEntry(AT, "ann", f"run {two.id}", "", "", "pinned: better") in store.journal.of_run(two.id)


def test_only_a_run_of_the_pipeline_is_pinned(store: SqlStore) -> None:
    run = passed(store)
    for name, run_id in (("tea", run.id), ("wine", 99)):
        with pytest.raises(NotFound):
            store.runs.pin(name, "", run_id, "ann", "", AT)


def test_the_first_who_asks_a_run_to_end_is_remembered(store: SqlStore) -> None:
    run = enqueue(store)
    assert store.runs.cancel_reason(run.id) is None
    assert store.runs.request_cancel(run.id, "ann", Reason.CANCELLED_BY_PERSON, AT)
    assert store.runs.request_cancel(run.id, "", Reason.SUPERSEDED, AT)
    assert store.runs.cancel_reason(run.id) is Reason.CANCELLED_BY_PERSON
    assert store.runs.get(run.id).cancel_requested_by == "ann"
    assert store.runs.get(run.id).state is RunState.QUEUED


def test_a_run_that_ended_cannot_be_asked_to_end(store: SqlStore) -> None:
    run = passed(store)
    assert not store.runs.request_cancel(run.id, "ann", Reason.CANCELLED_BY_PERSON, AT)
    assert store.runs.cancel_reason(run.id) is None
    with pytest.raises(NotFound):
        store.runs.request_cancel(99, "ann", Reason.CANCELLED_BY_PERSON, AT)


def test_a_dataset_version_keeps_its_number(store: SqlStore) -> None:
    one = store.detection.record_version(WINE, "f1", FILES, AT)
    two = store.detection.record_version(WINE, "f2", FILES[:1], AT)
    assert (one.number, one.files, one.size, one.label) == (1, 2, 5_000_000_003, "wine v1")
    assert store.detection.record_version(WINE, "f1", FILES, later(9)) == one
    assert store.detection.versions(WINE) == [one, two]
    assert store.detection.version(WINE, "f2") == two
    assert store.detection.version(WINE, "f3") is None
    assert store.detection.manifest(WINE, "f1") == FILES
    with pytest.raises(NotFound):
        store.detection.manifest(WINE, "f3")


def test_datasets_are_told_apart_by_what_they_are_not_by_name(store: SqlStore) -> None:
    store.detection.record_version(WINE, "f1", FILES, AT)
    assert store.detection.version(DatasetSpec("other name", "/data/wine"), "f1") is not None
    assert store.detection.version(DatasetSpec("wine", "/elsewhere"), "f1") is None


def test_versions_recorded_at_once_are_numbered_without_gap_or_double(store: SqlStore) -> None:
    versions = at_once(10, lambda n: store.detection.record_version(WINE, f"f{n % 5}", FILES, AT))
    assert {version.number for version in versions} == {1, 2, 3, 4, 5}


def test_a_dataset_watch_is_remembered(store: SqlStore) -> None:
    assert store.detection.dataset_watch(WINE) is None
    for watch in (DatasetWatch("s1", None, "s2", AT), DatasetWatch("s2", "f2")):
        store.detection.save_dataset_watch(WINE, watch)
        assert store.detection.dataset_watch(WINE) == watch


def test_a_staged_volume_is_remembered_by_host(store: SqlStore) -> None:
    store.attempts.mark_staged("local", "v1", AT)
    store.attempts.mark_staged("local", "v1", later(1))
    assert store.attempts.is_staged("local", "v1")
    assert not store.attempts.is_staged("other", "v1")
    assert not store.attempts.is_staged("local", "v2")
    store.attempts.forget_staged("local", "v1")
    store.attempts.forget_staged("local", "v1")
    assert not store.attempts.is_staged("local", "v1")


def test_what_is_staged_on_a_host_tells_version_size_and_when(store: SqlStore) -> None:
    store.attempts.mark_staged("local", "v1", AT, "f1", 5 << 40)
    store.attempts.mark_staged("local", "v2", later(1))
    store.attempts.mark_staged("other", "v3", AT)
    assert store.attempts.staged_on("local") == [
        StagedVolume("v1", "f1", 5 << 40, AT),
        StagedVolume("v2", "", None, later(1)),
    ]


def test_servers_are_known_while_they_serve(store: SqlStore) -> None:
    store.servers.register("one", "http://a", AT)
    store.servers.register("two", "http://b", later(1))
    store.servers.register("one", "http://c", later(2))
    store.servers.seen("two", later(9))
    assert store.servers.all() == [
        ServerRow("two", "http://b", later(1), later(9)),
        ServerRow("one", "http://c", later(2), later(2)),
    ]
    store.servers.unregister("two")
    assert [server.owner for server in store.servers.all()] == ["one"]


def test_times_come_back_in_utc_to_the_microsecond(store: SqlStore) -> None:
    local = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    run = enqueue(store, None, head(None, "a" * 40), at=local)
    assert run.created_at == AT
    assert run.created_at.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(store: SqlStore, database: Database) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        store.journal.note("ann", "run 1", "", AT.replace(tzinfo=None))
    assert store.journal.latest() == []


def test_every_change_of_a_state_is_in_the_journal(store: SqlStore) -> None:
    run = passed(store, None, DEPLOY)
    (attempt,) = store.attempts.of_run(run.id)
    (action,) = store.actions.of_run(run.id)
    lease = working(store, action, "two", later(1))
    store.deployments.begin(lease, run, "shop", "r1", later(2))
    store.journal.note("ann", f"attempt {attempt.id}", "looked at it", later(3))
    store.journal.note("ann", "the house", "is warm", later(4))
    history = [(e.who, e.subject, e.before, e.after) for e in store.journal.of_run(run.id)]
    one, step = f"attempt {attempt.id}", f"run {run.id}"
    assert history == [
        ("orchestrator", step, "", "queued"),
        ("orchestrator", one, "", "queued"),
        ("one", one, "queued", "preparing"),
        ("one", step, "queued", "running"),
        ("one", one, "preparing", "running"),
        ("one", one, "running", "collecting"),
        ("one", one, "collecting", "succeeded"),
        ("orchestrator", step, "running", "evaluating"),
        ("orchestrator", step, "evaluating", "passed"),
        ("orchestrator", f"action {action.id}", "", "pending"),
        ("two", f"action {action.id}", "pending", "running"),
        ("two", "deployment 1", "", "queued"),
        ("ann", one, "", ""),
    ]
    latest = store.journal.latest(1)
    assert latest == [JournalEntry(later(4), "ann", "the house", "", "", "is warm")]


def test_a_take_over_is_in_the_journal(store: SqlStore) -> None:
    lease = claimed(store)
    store.attempts.take_over("two", ["one"], later(1), SECONDS)
    entry = store.journal.latest(1)[0]
    assert entry == JournalEntry(
        later(1), "two", f"attempt {lease.id}", "preparing", "preparing", "taken over from one"
    )


def test_lists_of_runs_and_ticks_load_no_frozen_pipeline(store: SqlStore) -> None:
    passed(store)
    enqueue(store)
    statements: list[str] = []
    engine = store._database._engine
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    store.runs.listing()
    store.runs.unfinished()
    store.attempts.queued(AT)
    store.actions.pending(AT)
    store.actions.outbox_due(AT)
    assert len(statements) >= 5
    assert not [s for s in statements if "definition" in s or "manifests" in s or "left_out" in s]


def test_moving_are_the_runs_that_have_begun_or_are_to_end(store: SqlStore) -> None:
    waiting, begun = enqueue(store), enqueue(store)
    lease = claimed(store, begun)
    assert store.runs.moving() == [Standing(begun.id, RunState.RUNNING, False, 0)]
    store.runs.request_cancel(waiting.id, "ann", Reason.CANCELLED_BY_PERSON, AT)
    lost = AttemptResult(AttemptState.ERRORED, Reason.LOST)
    store.attempts.finish(lease, AttemptState.PREPARING, lost, AT)
    assert store.runs.moving() == [
        Standing(waiting.id, RunState.QUEUED, True, 0),
        Standing(begun.id, RunState.RUNNING, False, 1),
    ]
