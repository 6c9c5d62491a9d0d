"""What retention reads of a database and removes from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.action import ActionState
from orchestrator.domain.baseline import Measured
from orchestrator.domain.change import Cause
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.errors import NotFound
from orchestrator.domain.gate import CheckResult, Outcome, Verdict
from orchestrator.domain.metrics import Metric
from orchestrator.domain.retention import Going, Kind
from orchestrator.domain.run import AttemptState, Purpose, Reason, Run, RunState
from orchestrator.ports.records import AttemptResult, OutboxMessage, StoredArtifact
from orchestrator.services.measuring import measured, measured_as
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database
from orchestrator.store.journal import LATE
from orchestrator.store.transitions import record
from tests.unit.store.support import (
    AT,
    DATA,
    DEPLOY,
    MAIL,
    SECONDS,
    VERDICT,
    all_rows,
    claim,
    enqueue,
    head,
    later,
    new_run,
    passed,
    pipeline,
    succeed,
    working,
)

MODEL = StoredArtifact("model.pkl", 10, "a" * 64)
NOTES = StoredArtifact("notes.txt", 5, "b" * 64, "output")
METRIC = Metric("accuracy", 0.9, "metrics.json", "json")
WHO = "retention"
EMPTIED = ("runs", "changes", "attempts", "metrics", "artifacts", "actions", "outbox", "deployments")


def trained(store: SqlStore, *artifacts: StoredArtifact, rerun_of: int | None = None) -> Run:
    """A run that passed and left these files."""
    cause = Cause.PUSH if rerun_of is None else Cause.RERUN
    run = enqueue(store, replace(new_run(cause=cause), rerun_of=rerun_of))
    attempt = store.attempts.of_run(run.id)[0]
    lease = claim(store, attempt)
    assert lease is not None
    store.attempts.advance(lease, AttemptState.PREPARING, AttemptState.RUNNING, AT, image_digest="sha256:1")
    store.attempts.advance(lease, AttemptState.RUNNING, AttemptState.COLLECTING, AT)
    left = AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=(METRIC,), artifacts=artifacts)
    store.attempts.finish(lease, AttemptState.COLLECTING, left, AT)
    store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, AT)
    return store.runs.move(run.id, RunState.EVALUATING, RunState.PASSED, AT, verdict=VERDICT)


def done(store: SqlStore, run: Run) -> Run:
    """A run that was deployed, retired and reported."""
    for action in store.actions.of_run(run.id):
        lease = working(store, action)
        if action.spec.kind == "deploy":
            deployment = store.deployments.begin(lease, run, "shop", f"release-{run.id}", AT)
            store.deployments.move(lease, deployment, DeploymentState.FAILED, AT)
            store.actions.finish(lease, ActionState.FAILED, "", AT)
        else:
            mail = OutboxMessage(0, action.id, run.id, f"<{run.id}@x>", ("a@x",), "News", b"", "pending")
            store.actions.finish_with_mail(lease, mail, "", AT)
            for owed in store.actions.outbox_of_run(run.id):
                sending = store.actions.outbox_claim(owed.id, "one", AT, SECONDS)
                assert sending is not None
                store.actions.outbox_delivered(sending, AT)
    return store.runs.get(run.id)


def activated(store: SqlStore) -> Run:
    """A run that is live, and owes nothing any more."""
    run = passed(store, None, DEPLOY)
    lease = working(store, store.actions.of_run(run.id)[0])
    deployment = store.deployments.begin(lease, run, "shop", "release", AT)
    for state in ("uploading", "verifying", "activating", "baking", "active"):
        deployment = store.deployments.move(lease, deployment, DeploymentState(state), AT)
    store.actions.finish(lease, ActionState.DONE, "", AT)
    return run


def going(run: Run, kind: Kind = Kind.RUNS, why: str = "older than 30d") -> Going:
    return Going(kind, run.id, f"{run.pipeline}#{run.number}", why, 15)


def test_the_facts_of_runs_tell_what_is_still_there(store: SqlStore) -> None:
    check = CheckResult("a check", "accuracy", Outcome.PASS, "fine", baseline_run=1)
    first = trained(store, MODEL, NOTES)
    second = enqueue(store, new_run(branch="dev"))
    third = enqueue(store)
    store.runs.move(third.id, RunState.QUEUED, RunState.CANCELLED, later(9), verdict=None)
    lease = claim(store, store.attempts.of_run(second.id)[0])
    assert lease is not None
    succeed(store, lease)
    store.runs.move(second.id, RunState.RUNNING, RunState.EVALUATING, AT)
    verdict = Verdict(Outcome.FAIL, "worse", (check, check))
    store.runs.move(second.id, RunState.EVALUATING, RunState.REJECTED, later(5), verdict=verdict)
    one, two, three = store.retention.runs()
    assert (one.id, one.title, one.branch, one.at) == (first.id, "wine#1", "main", AT)
    assert (one.ended, one.passed, one.files, one.size) == (True, True, 2, 15)
    assert (two.branch, two.passed, two.compared_with, two.at) == ("dev", False, (1,), later(5))
    assert (three.ended, three.passed, three.files) == (True, False, 0)


def test_what_must_stay_is_known_with_the_reason(store: SqlStore) -> None:
    first, second = passed(store), passed(store)
    store.runs.pin("wine", "gold", first.id, "ann", "", AT)
    store.retention.keep(second.id, "ann", "for the paper", AT)
    owing = passed(store, None, MAIL)
    live = activated(store)
    assert store.retention.needed() == {
        first.id: "pinned as gold",
        second.id: "kept by ann: for the paper",
        owing.id: "it owes an action or a mail",
        live.id: "it is live on shop",
    }
    assert set(store.retention.live_releases()) == {("shop", "release")}


def test_a_removed_run_leaves_no_row_but_its_journal(store: SqlStore, database: Database) -> None:
    run = done(store, passed(store, None, DEPLOY, MAIL))
    journal = len(store.journal.of_run(run.id))
    assert store.retention.remove_runs([going(run)], WHO, later(1)) == 1
    rows = all_rows(database)
    assert {name: rows[name] for name in EMPTIED} == {name: [] for name in EMPTIED}
    entries = store.journal.of_run(run.id)
    assert len(entries) == journal + 1
    assert (entries[-1].before, entries[-1].after, entries[-1].who) == ("passed", "removed", WHO)
    assert entries[-1].reason == "wine#1 removed by retention (older than 30d), 15 B"


def test_neither_an_id_nor_a_number_is_given_out_again(store: SqlStore) -> None:
    run = done(store, passed(store, None, DEPLOY, MAIL))
    attempt, actions = store.attempts.of_run(run.id)[0], store.actions.of_run(run.id)
    mail, release = store.actions.outbox_of_run(run.id)[0], store.deployments.of_run(run.id)[0]
    store.retention.remove_runs([going(run)], WHO, AT)
    again = done(store, passed(store, None, DEPLOY, MAIL))
    assert (again.id, again.number, again.change.id) > (run.id, run.number, run.change.id)
    assert again.number == run.number + 1
    assert store.attempts.of_run(again.id)[0].id > attempt.id
    assert store.actions.of_run(again.id)[0].id > actions[-1].id
    assert store.actions.outbox_of_run(again.id)[0].id > mail.id
    assert store.deployments.of_run(again.id)[0].id > release.id


def test_a_branch_that_moves_on_after_its_run_was_removed_makes_a_new_change(store: SqlStore) -> None:
    run = enqueue(store, new_run(), head(None, "a" * 40))
    store.runs.move(run.id, RunState.QUEUED, RunState.CANCELLED, AT)
    assert store.retention.remove_runs([going(run)], WHO, AT) == 1
    assert store.runs.enqueue(new_run(), (head(None, "a" * 40),), "wine", AT) is None
    assert enqueue(store, new_run(commit="b" * 40), head("a" * 40, "b" * 40)).number == 2


def test_a_branch_that_is_gone_is_forgotten_with_its_last_change(store: SqlStore) -> None:
    runs = []
    for before, commit in ((None, "a" * 40), ("a" * 40, "b" * 40)):
        runs.append(enqueue(store, new_run(commit=commit), head(before, commit)))
        store.runs.move(runs[-1].id, RunState.QUEUED, RunState.CANCELLED, AT)
    store.runs.enqueue(None, (head("b" * 40, None),), "wine", AT)
    source = head(None, None).source
    first, second = (going(run) for run in runs)
    assert store.retention.remove_runs([second], WHO, AT) == 1
    assert store.detection.head_counts("wine", source) == {"main": (None, 3)}, "its count is needed yet"
    assert store.retention.remove_runs([first], WHO, AT) == 1
    assert store.detection.head_counts("wine", source) == {}
    back = enqueue(store, new_run(commit="a" * 40), head(None, "a" * 40))
    assert back.change.revision.commit == "a" * 40


def test_a_branch_that_is_there_outlives_its_changes(store: SqlStore) -> None:
    run = enqueue(store, new_run(), head(None, "a" * 40))
    store.runs.move(run.id, RunState.QUEUED, RunState.CANCELLED, AT)
    assert store.retention.remove_runs([going(run)], WHO, AT) == 1
    assert store.detection.heads("wine", head(None, None).source) == {"main": "a" * 40}


def test_who_asks_for_a_removed_run_learns_when_and_why_it_went(store: SqlStore) -> None:
    run = trained(store)
    store.retention.remove_runs([going(run)], WHO, AT)
    told = r"any more: wine#1 was removed by retention \(older than 30d\), 15 B, on 2026-11-23"
    with pytest.raises(NotFound, match=told):
        store.runs.get(run.id)
    with pytest.raises(NotFound, match=told):
        store.runs.find("wine#1")
    with pytest.raises(NotFound, match=r"there is no run win%#1$"):
        store.runs.find("win%#1")


@pytest.mark.parametrize("kind", [Kind.RUNS, Kind.ARTIFACTS, Kind.LOGS])
@pytest.mark.parametrize("need", ["pinned", "kept", "owing", "sending", "live", "unfinished"])
def test_what_came_to_be_needed_since_the_plan_was_made_stays(store: SqlStore, need: str, kind: Kind) -> None:
    run = trained(store, MODEL) if need in ("pinned", "kept") else passed(store, None, MAIL)
    match need:
        case "live":
            run = activated(store)
        case "pinned":
            store.runs.pin("wine", "", run.id, "ann", "", AT)
        case "kept":
            store.retention.keep(run.id, "ann", "why not", AT)
        case "sending":
            action = store.actions.of_run(run.id)[0]
            mail = OutboxMessage(0, action.id, run.id, "<1@x>", ("a@x",), "News", b"", "pending")
            store.actions.finish_with_mail(working(store, action), mail, "", AT)
        case "unfinished":
            run = enqueue(store)
        case _:
            pass
    things, attempts = [going(run, kind)], {run.id: [store.attempts.of_run(run.id)[0].id]}
    match kind:
        case Kind.RUNS:
            assert store.retention.remove_runs(things, WHO, AT) == 0
        case Kind.ARTIFACTS:
            assert store.retention.remove_artifacts(things, WHO, AT) == 0
        case _:
            assert store.retention.remove_logs(things, attempts, WHO, AT) == 0
    attempt = store.attempts.of_run(store.runs.get(run.id).id)[0]
    assert attempt.log_removed == ""
    assert all(not file.removed for file in store.attempts.artifacts(attempt.id))


def test_a_run_that_others_repeat_goes_with_them_or_not_at_all(store: SqlStore) -> None:
    first = trained(store)
    second = trained(store, rerun_of=first.id)
    third = trained(store, rerun_of=second.id)
    both = [going(first), going(second)]
    assert store.retention.remove_runs(both, WHO, AT) == 0
    assert store.retention.remove_runs([*both, going(third)], WHO, AT) == 3


def test_a_replacement_for_a_given_up_artifact_says_when_and_why(store: SqlStore) -> None:
    run, other = trained(store, MODEL, NOTES), trained(store, MODEL)
    thing = Going(Kind.ARTIFACTS, run.id, "wine#1", "older than 90d", 15, 2)
    assert store.retention.remove_artifacts([thing], WHO, later(3)) == 1
    attempt, kept = (store.attempts.of_run(each.id)[0] for each in (run, other))
    assert {file.removed for file in store.attempts.artifacts(attempt.id)} == {
        "removed by retention on 2026-11-23 (older than 90d)"
    }
    assert [file.removed for file in store.attempts.artifacts(kept.id)] == [""]
    assert (
        store.journal.of_run(run.id)[-1].reason == "2 artifacts removed by retention (older than 90d), 15 B"
    )
    assert [(r.files, r.size) for r in store.retention.runs()] == [(0, 0), (1, 10)]
    assert store.retention.contents() == {other.id: [("a" * 64, 10)]}
    assert store.retention.hashes("00", "g") == {"a" * 64}
    assert store.retention.hashes("ab", "g") == set()


def test_an_attempt_whose_log_was_given_up_says_so_and_owns_it_no_more(store: SqlStore) -> None:
    run, other = trained(store), trained(store)
    attempt, kept = (store.attempts.of_run(each.id)[0] for each in (run, other))
    thing = Going(Kind.LOGS, run.id, "wine#1", "older than 180d", 7)
    assert store.retention.remove_logs([thing], {run.id: [attempt.id]}, WHO, AT) == 1
    told = "removed by retention on 2026-11-23 (older than 180d)"
    assert store.attempts.get(attempt.id).log_removed == told
    assert store.attempts.get(kept.id).log_removed == ""
    assert store.retention.log_owners() == {kept.id: other.id}
    assert store.retention.without_owner([attempt.id, kept.id, 77]) == {attempt.id, 77}


def test_only_old_entries_about_what_is_gone_leave_the_journal(store: SqlStore, database: Database) -> None:
    gone, kept = trained(store), trained(store)
    store.journal.note("watcher", "source wine", "does not answer", AT)
    store.retention.remove_runs([going(gone)], WHO, AT)
    with database.writing() as session:
        for _ in range(LATE):
            record(session, later(10), "watcher", "source wine", None, "", "", "answers again")
    head_before, total = store.journal.head(), store.retention.count_journal(later(5))
    entries = len(store.journal.of_run(kept.id))
    assert store.retention.remove_journal(later(5), 3) == 3
    assert store.retention.remove_journal(later(5), 1000) == total - 3
    assert store.retention.remove_journal(later(5), 1000) == 0
    assert store.journal.of_run(gone.id) == []
    assert len(store.journal.of_run(kept.id)) == entries
    assert store.journal.head() == head_before


def test_the_newest_entries_stay_because_every_look_begins_with_them(store: SqlStore) -> None:
    store.journal.note("watcher", "source wine", "does not answer", AT)
    assert store.retention.remove_journal(later(5), 10) == 0


def test_people_keep_runs_and_leave_them_to_the_rules_again(store: SqlStore) -> None:
    run = trained(store)
    store.retention.keep(run.id, "ann", "for the paper", AT)
    store.retention.keep(run.id, "bob", "still", later(1))
    assert [(k.run_id, k.who, k.reason, k.at) for k in store.retention.keeps()] == [
        (run.id, "bob", "still", later(1))
    ]
    assert store.retention.unkeep(run.id, "bob", AT) is True
    assert store.retention.unkeep(run.id, "bob", AT) is False
    assert [entry.reason for entry in store.journal.of_run(run.id)][-3:] == [
        "kept: for the paper",
        "kept: still",
        "no longer kept",
    ]
    with pytest.raises(NotFound):
        store.retention.keep(77, "ann", "", AT)


def test_the_history_is_measured_as_judging_measures_it(store: SqlStore) -> None:
    run = trained(store)
    replicated = passed(store, new_run(pipeline(replicates=2)))
    enqueue(store)
    past = store.baselines.history("wine", {"accuracy"})
    assert [(p.id, p.title, p.branch, p.purpose) for p in past] == [
        (run.id, "wine #1", "main", Purpose.TRAIN),
        (replicated.id, "wine #2", "main", Purpose.TRAIN),
    ]

    def anew(index: int) -> Measured:
        found = past[index]
        return measured_as(found.id, found.title, found.commit, found.branch, found.metrics)

    assert anew(0) == measured(run, store.runs.metrics(run.id))
    assert anew(0).values == {"accuracy": (0.9,)}
    assert list(past[1].metrics) == [0, 1]
    assert past[0].datasets == (DATA,)
    assert store.baselines.history("wine", {"loss"})[0].metrics == {0: []}


def test_the_last_use_of_images_and_data_is_known_by_host(store: SqlStore) -> None:
    run = trained(store)
    host = store.attempts.of_run(run.id)[0].host or ""
    store.attempts.mark_staged(host, "a-volume", AT - timedelta(days=1))
    assert store.retention.image_uses() == {(host, "sha256:1"): AT}
    assert store.retention.data_uses() == {(host, DATA.fingerprint): AT}
    assert store.retention.staged() == {(host, "a-volume"): AT - timedelta(days=1)}
