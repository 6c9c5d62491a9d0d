"""The database as a thing: opening, migrating, surviving, copying, being out of reach."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, insert, inspect, text

from orchestrator.domain.codec import to_plain
from orchestrator.domain.errors import InvalidInput, StoreError
from orchestrator.domain.run import AttemptState
from orchestrator.ports.baselines import Uses
from orchestrator.ports.records import StoredArtifact
from orchestrator.store import SqlStore, migrations, open_store
from orchestrator.store.engine import Database
from orchestrator.store.tables import Base
from tests.unit.store.support import AT, enqueue, file_of, new_run, pipeline

FIRST_ROWS: tuple[tuple[str, dict[str, object]], ...] = (
    ("pipelines", {"name": "wine", "last_number": 7}),
    (
        "changes",
        {
            "id": 4,
            "pipeline": "wine",
            "key": "head code:main@1",
            "cause": "push",
            "branch": "main",
            "revision": to_plain(new_run().revision),
            "datasets": [],
            "note": "",
            "requested_by": "",
            "rank": 4,
        },
    ),
    (
        "runs",
        {
            "id": 5,
            "number": 7,
            "pipeline": "wine",
            "project": "shop",
            "purpose": "train",
            "state": "queued",
            "change_id": 4,
            "created_at": AT,
            "replicates": 1,
            "seed_run_id": 5,
            "message": "",
            "definition": to_plain(pipeline()),
        },
    ),
    (
        "attempts",
        {
            "id": 6,
            "run_id": 5,
            "replicate": 0,
            "number": 1,
            "seed": 42,
            "state": "queued",
            "container": "",
            "container_id": "",
            "image_digest": "",
            "message": "",
            "warnings": [],
            "left_out": [],
            "created_at": AT,
        },
    ),
    (
        "artifacts",
        {"attempt_id": 6, "kind": "artifact", "path": "model.txt", "size": 3, "sha256": "b" * 64},
    ),
)
"""Rows as the first revision had them, parents before their children."""


def test_migrations_make_from_nothing_what_the_tables_say(empty_url: str) -> None:
    assert migrations.current(empty_url) is None
    assert not migrations.is_current(empty_url)
    migrations.upgrade(empty_url)
    assert migrations.current(empty_url) == migrations.HEAD
    assert migrations.is_current(empty_url)
    with migrations.connected(empty_url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert {index["name"] for index in inspect(connection).get_indexes("runs")} >= {"ix_runs_state"}


def test_the_revision_that_this_version_needs_is_the_newest_there_is() -> None:
    folder = Path(migrations.__file__).parent
    assert ScriptDirectory(str(folder)).get_current_head() == migrations.HEAD


def test_a_table_that_no_migration_makes_is_noticed(url: str, store: SqlStore) -> None:
    with migrations.connected(url) as connection:
        connection.execute(text("DROP TABLE pins"))
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) != []


def test_an_upgrade_of_what_is_current_keeps_the_rows(url: str, store: SqlStore) -> None:
    run = enqueue(store)
    migrations.upgrade(url)
    assert store.runs.get(run.id) == run


def test_a_database_of_the_first_revision_is_upgraded_with_its_rows(empty_url: str) -> None:
    migrations.upgrade(empty_url, "0001")
    first = MetaData()
    with migrations.connected(empty_url) as connection:
        first.reflect(connection)
        for name, row in FIRST_ROWS:
            connection.execute(insert(first.tables[name]), row)
    assert migrations.current(empty_url) == "0001"
    with pytest.raises(StoreError, match="at revision 0001"):
        open_store(empty_url)
    migrations.upgrade(empty_url)
    assert migrations.is_current(empty_url)
    with closing(open_store(empty_url)) as store:
        (run,) = store.runs.listing()
        assert (run.id, run.number, run.change.revision.commit) == (5, 7, "a" * 40)
        (attempt,) = store.attempts.of_run(5)
        assert (attempt.state, attempt.created_at) == (AttemptState.QUEUED, AT)
        assert store.attempts.artifacts(attempt.id) == [StoredArtifact("model.txt", 3, "b" * 64, "artifact")]
        assert enqueue(store).number == 8


def test_volumes_filled_before_they_were_compared_no_longer_count_as_filled(empty_url: str) -> None:
    migrations.upgrade(empty_url, "0003")
    former = MetaData()
    with migrations.connected(empty_url) as connection:
        former.reflect(connection)
        row = {"host": "local", "volume": "mlci-data", "staged_at": AT}
        connection.execute(insert(former.tables["staged_volumes"]), row)
    migrations.upgrade(empty_url)
    with closing(open_store(empty_url)) as store:
        assert not store.attempts.is_staged("local", "mlci-data")
        assert store.attempts.staged_on("local") == []


def test_a_database_keeps_its_id_and_has_its_own(url: str, store: SqlStore, tmp_path: Path) -> None:
    assert len(store.instance) == 32
    assert int(store.instance, 16) >= 0
    with closing(open_store(url)) as again, closing(open_store(f"sqlite:///{tmp_path}/other.db")) as other:
        assert again.instance == store.instance
        assert other.instance != store.instance


def test_a_database_of_another_version_is_left_alone(url: str, store: SqlStore) -> None:
    with migrations.connected(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'newer'"))
    with pytest.raises(StoreError, match="is at revision newer"):
        open_store(url)
    with pytest.raises(StoreError, match="revision newer, which this version does not know"):
        migrations.upgrade(url)


def test_without_create_an_empty_database_is_left_empty(empty_url: str) -> None:
    if (file := file_of(empty_url)) is not None:
        file.parent.mkdir()
        file.touch()
    with pytest.raises(StoreError, match="orchestrator db upgrade"):
        open_store(empty_url, create=False)
    assert migrations.current(empty_url) is None


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://u:s3cret@h/d",
        "postgresql://u:p@s3cret@h/d",
        "no url: s3cret",
        "",
    ],
)
def test_a_url_that_is_none_of_ours_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        open_store(url)
    assert "s3cret" not in str(refusal.value)


def test_a_parameter_of_the_url_that_there_is_none_of_is_named_with_what_to_do() -> None:
    with pytest.raises(
        InvalidInput, match='address is wrong: invalid connection option "sslmood"'
    ) as refusal:
        open_store("postgresql://u:s3cret@127.0.0.1:1/d?sslmood=require")
    assert "behind ? in storage.database" in refusal.value.remedy
    assert "s3cret" not in str(refusal.value)


def test_an_error_inside_a_transaction_leaves_nothing(store: SqlStore, database: Database) -> None:
    twice = text("INSERT INTO pipelines (name, last_number) VALUES ('tea', :number)")
    with pytest.raises(StoreError, match="refused"), database.writing() as session:
        [session.execute(twice, {"number": number}) for number in (1, 2)]
    assert enqueue(store).number == 1
    with database.reading() as session:
        assert session.scalars(text("SELECT name FROM pipelines")).all() == ["wine"]


def test_a_row_without_its_parent_is_refused(database: Database) -> None:
    with pytest.raises(StoreError, match="refused"), database.writing() as session:
        session.execute(text("INSERT INTO slots (host, \"index\", attempt_id) VALUES ('local', 0, 99)"))


WRITER = """
import sys
from orchestrator.store.engine import Database, parse_url
from orchestrator.store.enqueue import add_run
from tests.unit.store.support import AT, new_run

with Database(parse_url(sys.argv[1])).writing() as session:
    add_run(session, new_run(), "never committed", AT)
    session.flush()
    print("in the middle", flush=True)
    sys.stdin.read()
"""


def test_a_writer_killed_in_mid_transaction_leaves_nothing_and_blocks_nobody(
    url: str, store: SqlStore
) -> None:
    before = enqueue(store)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "in the middle\n"
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    assert store.runs.listing() == [before]
    assert enqueue(store).number == 2
    with closing(open_store(url)) as again:
        assert len(again.runs.listing()) == 2


def test_the_database_says_how_large_it_is(store: SqlStore, url: str) -> None:
    size = store.database_size()
    assert size > 10_000
    if (file := file_of(url)) is not None:
        assert size >= file.stat().st_size


def test_ids_are_never_given_out_twice(store: SqlStore, database: Database) -> None:
    gone = enqueue(store)
    with database.writing() as session:
        for table in ("attempts", "runs", "changes"):
            session.execute(text(f"DELETE FROM {table}"))  # noqa: S608
    again = enqueue(store)
    assert again.id > gone.id
    assert again.change.id > gone.change.id


def test_verdicts_from_before_uses_were_counted_count(empty_url: str) -> None:
    migrations.upgrade(empty_url, "0009")
    former = MetaData()
    sealed = {"dataset": "test", "fingerprint": "sealed", "role": "evaluation"}
    data = [{"dataset": "rows", "fingerprint": "rows", "role": "train"}, sealed]
    verdict = {"outcome": "fail", "checks": [{}]}
    with migrations.connected(empty_url) as connection:
        former.reflect(connection)
        for name, row in FIRST_ROWS:
            told: dict[str, dict[str, object]] = {
                "changes": {"datasets": data},
                "runs": {"state": "rejected", "verdict": verdict, "finished_at": AT},
            }
            connection.execute(insert(former.tables[name]), row | told.get(name, {}))
    migrations.upgrade(empty_url)
    with closing(open_store(empty_url)) as store:
        assert store.baselines.uses("sealed") == Uses(1, "wine #7")
        assert store.baselines.uses("rows") == Uses(0)
