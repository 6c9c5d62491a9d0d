"""The database as a thing: opening, migrating, surviving, copying, being out of reach."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from orchestrator.domain.errors import InvalidInput, StoreError, StoreUnavailable
from orchestrator.store import SqlStore, migrations, open_store
from orchestrator.store.engine import Database, parse_url
from orchestrator.store.failures import translated
from orchestrator.store.tables import Base
from tests.unit.store.conftest import SERVER
from tests.unit.store.support import AT, enqueue, passed

only_sqlite = pytest.mark.skipif(SERVER is not None, reason="is about SQLite's file")


def file_of(url: str) -> Path:
    return Path(parse_url(url).database or "")


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


@only_sqlite
def test_opening_a_database_of_this_version_imports_nothing_of_alembic(url: str, store: SqlStore) -> None:
    program = (
        "import sys; from orchestrator.store import open_store\n"
        "open_store(sys.argv[1]).runs.listing()\n"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, url], check=False).returncode == 0


def test_a_table_that_no_migration_makes_is_noticed(url: str, store: SqlStore) -> None:
    with migrations.connected(url) as connection:
        connection.execute(text("DROP TABLE pins"))
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) != []


def test_an_upgrade_of_what_is_current_keeps_the_rows(url: str, store: SqlStore) -> None:
    run = enqueue(store)
    migrations.upgrade(url)
    assert store.runs.get(run.id) == run


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


@only_sqlite
def test_without_create_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        open_store(f"sqlite:///{tmp_path}/none.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_without_create_an_empty_database_is_left_empty(empty_url: str) -> None:
    if SERVER is None:
        file_of(empty_url).parent.mkdir()
        file_of(empty_url).touch()
    with pytest.raises(StoreError, match="orchestrator db upgrade"):
        open_store(empty_url, create=False)
    assert migrations.current(empty_url) is None


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://u:s3cret@h/d", "no url: s3cret", ""]
)
def test_a_url_that_is_none_of_ours_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        open_store(url)
    assert "s3cret" not in str(refusal.value)


@only_sqlite
def test_the_file_is_for_our_user_alone(empty_url: str) -> None:
    open_store(empty_url).close()
    assert stat.S_IMODE(file_of(empty_url).stat().st_mode) == 0o600
    assert stat.S_IMODE(file_of(empty_url).parent.stat().st_mode) == 0o700


@only_sqlite
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match=r"file/x\.db cannot be created"):
        open_store(f"sqlite:///{tmp_path}/file/x.db")


@contextmanager
def write_lock(url: str) -> Iterator[None]:
    """Hold SQLite's write lock from another connection."""
    with closing(sqlite3.connect(file_of(url), isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")


@only_sqlite
def test_a_database_that_stays_busy_is_unavailable_to_writers_only(url: str) -> None:
    with closing(open_store(f"{url}?timeout=0.05")) as store:
        run = enqueue(store)
        with write_lock(url):
            with pytest.raises(StoreUnavailable):
                store.journal.note("ann", "run 1", "", AT)
            assert store.runs.get(run.id) == run
        store.journal.note("ann", "run 1", "now it goes", AT)


@only_sqlite
def test_a_writer_waits_for_the_lock(url: str, store: SqlStore) -> None:
    enqueue(store)
    with write_lock(url):
        writer = threading.Thread(target=store.journal.note, args=("ann", "run 1", "waited", AT))
        writer.start()
        assert "waited" not in [entry.reason for entry in store.journal.latest()]
    writer.join()
    assert store.journal.latest(1)[0].reason == "waited"


@only_sqlite
def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"something else, long enough to be looked at" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store(f"sqlite:///{tmp_path}/x.db")


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


@only_sqlite
def test_a_backup_taken_while_others_write_is_whole(store: SqlStore, tmp_path: Path) -> None:
    passed(store)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            enqueue(store)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for number in range(5):
            store.backup(tmp_path / f"{number}.db")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    counts = []
    for number in range(5):
        path = tmp_path / f"{number}.db"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with closing(open_store(f"sqlite:///{path}", create=False)) as copy:
            runs = copy.runs.listing(limit=100_000)
            assert copy.instance == store.instance
            assert [run.number for run in runs] == list(range(len(runs), 0, -1))
            assert len(copy.attempts.queued(AT)) == len(runs) - 1
            counts.append(len(runs))
    assert counts == sorted(counts)


@only_sqlite
def test_a_backup_overwrites_nothing_and_leaves_no_part_behind(store: SqlStore, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        store.backup(tmp_path / "precious")
    with pytest.raises(StoreError, match="could not be written"):
        store.backup(tmp_path / "precious" / "x.db")
    assert (tmp_path / "precious").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir() if p.name != "store"] == ["precious"]


def test_the_database_says_how_large_it_is(store: SqlStore, url: str) -> None:
    size = store.database_size()
    assert size > 10_000
    if SERVER is None:
        assert size >= file_of(url).stat().st_size


def test_ids_are_never_given_out_twice(store: SqlStore, database: Database) -> None:
    gone = enqueue(store)
    with database.writing() as session:
        for table in ("attempts", "runs", "changes"):
            session.execute(text(f"DELETE FROM {table}"))  # noqa: S608
    again = enqueue(store)
    assert again.id > gone.id
    assert again.change.id > gone.change.id


def test_a_full_database_is_unavailable_and_says_what_to_do() -> None:
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE a (b)")
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            with pytest.raises(StoreUnavailable, match=r"full; free space on the disk"), translated():
                connection.exec_driver_sql("CREATE TABLE c (d)")
    finally:
        engine.dispose()
