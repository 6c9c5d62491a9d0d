"""Copies of databases of one kind that go on as databases of the other."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator.domain.action import ActionState
from orchestrator.domain.change import Cause
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.errors import StoreError
from orchestrator.domain.metrics import Metric
from orchestrator.domain.run import AttemptState, Purpose, Reason
from orchestrator.ports.progress import ProgressEvent
from orchestrator.ports.records import AttemptResult, OutboxMessage, StoredArtifact
from orchestrator.store import SqlStore, migrations, open_store
from orchestrator.store.engine import Database, parse_url
from orchestrator.store.snapshot import SqlSnapshots
from tests.unit.store.support import (
    AT,
    DEPLOY,
    MAIL,
    all_rows,
    claim,
    claimed,
    enqueue,
    later,
    new_run,
    passed,
    succeed,
    working,
)

FORGOTTEN = {"servers", "staged_volumes", "meta", "journal"}


def nothing(event: ProgressEvent) -> None:
    pass


def fill(store: SqlStore) -> None:
    """Rows of every table that has any, with what is hard to carry: NaN, bytes, times, references."""
    run = passed(store, None, DEPLOY, MAIL)
    deploy, mail = store.actions.of_run(run.id)
    lease = working(store, deploy)
    deployment = store.deployments.begin(lease, run, "shop", "release-1", AT)
    for state in (DeploymentState.UPLOADING, DeploymentState.VERIFYING):
        deployment = store.deployments.move(lease, deployment, state, AT)
    message = OutboxMessage(
        0, mail.id, run.id, "<a@b>", ("dev@example.org",), "Grüße", b"\0\xff raw", "pending"
    )
    store.actions.finish_with_mail(working(store, mail), message, "", AT)
    again = enqueue(store, new_run(cause=Cause.RERUN, purpose=Purpose.REPRODUCE, rerun_of=run.id))
    (attempt,) = store.attempts.of_run(again.id)
    ending = claim(store, attempt)
    assert ending is not None
    metrics = (Metric("loss", float("nan"), "metrics.json", "json"), Metric("accuracy", 0.9, "a", "b"))
    artifacts = (StoredArtifact("model.txt", 1 << 40, "a" * 64),)
    succeed(
        store,
        ending,
        AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=metrics, artifacts=artifacts),
    )
    store.runs.pin("wine", "", run.id, "ann", "good", AT)
    store.secrets.put("TOKEN", "ciphertext", "ann", AT)
    claimed(store)


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    database = Database(parse_url(url))
    try:
        found = all_rows(database)
    finally:
        database.close()
    return {name: repr_of(table) for name, table in found.items() if name not in FORGOTTEN}


def repr_of(table: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    # NaN equals nothing, not even itself.
    return [tuple(repr(value) for value in row) for row in table]


def carried(source: str, target: str, folder: Path) -> None:
    """Take a copy of one database and load it into another."""
    folder.mkdir()
    file = folder / "copy.sqlite"
    SqlSnapshots(source).take(file, nothing)
    SqlSnapshots(source).look(file)
    SqlSnapshots(target).renew(file, later(60), without=())
    SqlSnapshots(target).load(file, "aside")


def test_rows_go_from_one_kind_of_database_to_the_other_and_back(empty_url: str, tmp_path: Path) -> None:
    first, last = f"sqlite:///{tmp_path}/first.db", f"sqlite:///{tmp_path}/last.db"
    with closing(open_store(first)) as store:
        fill(store)
        key = store.actions.of_run(1)[0].key
    before = rows(first)
    assert all(before[name] for name in ("runs", "deployments", "outbox", "metrics", "secrets", "pins"))
    carried(first, empty_url, tmp_path / "there")
    with closing(open_store(empty_url, create=False)) as store:
        # A lease that was held is over, and everything else is as it was.
        (lease,) = store.attempts.take_over("new", (), later(61), 60)
        taken = store.attempts.get(lease.id)
        (deploy,) = (a for a in store.actions.pending(later(61)) if a.state is ActionState.RUNNING)
        assert deploy.key == key
        run = enqueue(store)
        assert run.id == run.change.id > 100_000
        assert run.number == 4
    carried(empty_url, last, tmp_path / "back")
    with closing(open_store(last, create=False)) as store:
        assert store.attempts.get(taken.id) == taken
        assert enqueue(store).id > run.id + 90_000
    after = rows(last)
    unchanged = ("changes", "metrics", "artifacts", "pins", "deployments", "heads", "secrets", "slots")
    for name in unchanged:
        assert [row for row in after[name] if int_of(row) < 100_000] == before[name], name


def test_a_run_after_the_restore_ends_with_its_metrics(empty_url: str, tmp_path: Path) -> None:
    first = f"sqlite:///{tmp_path}/first.db"
    with closing(open_store(first)) as store:
        fill(store)
    carried(first, empty_url, tmp_path / "there")
    with closing(open_store(empty_url, create=False)) as store:
        run = enqueue(store)
        (attempt,) = store.attempts.of_run(run.id)
        lease = claim(store, attempt)
        assert lease is not None
        metrics = (Metric("accuracy", 0.9, "a", "b"),)
        succeed(store, lease, AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=metrics))
        assert tuple(store.runs.metrics(run.id)[0]) == metrics


def int_of(row: tuple[object, ...]) -> int:
    return int(str(row[0])) if str(row[0]).isdecimal() else 0


def test_a_database_of_an_older_revision_is_copied_as_it_is_and_upgraded_by_the_restore(
    empty_url: str, tmp_path: Path
) -> None:
    migrations.upgrade(empty_url, "0001")
    with migrations.connected(empty_url) as connection:
        connection.execute(text("INSERT INTO meta (name, value) VALUES ('instance', 'abc')"))
        connection.execute(text("INSERT INTO pipelines (name, last_number) VALUES ('wine', 7)"))
    file = tmp_path / "copy.sqlite"
    SqlSnapshots(empty_url).take(file, nothing)
    seen = SqlSnapshots(empty_url).look(file)
    assert (seen.revision, seen.instance) == ("0001", "abc")
    SqlSnapshots(empty_url).renew(file, AT, without=())
    SqlSnapshots(empty_url).load(file, "aside")
    assert migrations.is_current(empty_url)
    with closing(open_store(empty_url)) as store:
        assert store.instance == "abc"
        assert enqueue(store).number == 8


def test_another_programs_tables_are_never_replaced(empty_url: str, tmp_path: Path) -> None:
    with migrations.connected(empty_url) as connection:
        connection.execute(text("CREATE TABLE runs (precious TEXT)"))
    with pytest.raises(StoreError, match="another program's tables"):
        SqlSnapshots(empty_url).standing()


def test_a_load_that_fails_leaves_the_database_as_it_was(url: str, store: SqlStore, tmp_path: Path) -> None:
    run = enqueue(store)
    store.close()
    other = f"sqlite:///{tmp_path}/other.db"
    with closing(open_store(other)) as opened:
        passed(opened)
    file = tmp_path / "copy.sqlite"
    SqlSnapshots(other).take(file, nothing)
    SqlSnapshots(other).renew(file, AT, without=())
    with migrations.connected(f"sqlite:///{file}") as connection:
        # No row is its parent: PostgreSQL refuses it at the end of a long copy.
        connection.execute(text("UPDATE attempts SET run_id = 4711"))
    with pytest.raises(StoreError, match="refused"):
        SqlSnapshots(url).load(file, "aside")
    with closing(open_store(url)) as again:
        assert again.runs.listing() == [run]


def test_a_copy_is_of_one_moment_while_others_write(url: str, store: SqlStore, tmp_path: Path) -> None:
    enqueue(store)
    told = iter(range(1000))

    def write_meanwhile(event: ProgressEvent) -> None:
        if event.done and next(told) < 5:
            enqueue(store)

    file = tmp_path / "copy.sqlite"
    SqlSnapshots(url).take(file, write_meanwhile)
    assert len(store.runs.listing()) > 1
    with closing(open_store(f"sqlite:///{file}", create=False)) as copy:
        (run,) = copy.runs.listing()
        assert len(copy.attempts.of_run(run.id)) == 1
