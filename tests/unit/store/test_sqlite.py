"""SQLite's file: made for one user, locked by one writer at a time, copied while others write."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import create_engine, text

from orchestrator.domain.errors import StoreError, StoreUnavailable
from orchestrator.store import SqlStore, baselines, open_store
from orchestrator.store.engine import Database, parse_url
from orchestrator.store.failures import translated
from tests.unit.store.support import AT, at_once, enqueue, file_of
from tests.unit.store.test_baselines import replicated


def path_of(url: str) -> Path:
    path = file_of(url)
    assert path is not None
    return path


def test_opening_a_database_of_this_version_imports_nothing_of_alembic(url: str, store: SqlStore) -> None:
    program = (
        "import sys; from orchestrator.store import open_store\n"
        "open_store(sys.argv[1]).runs.listing()\n"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, url], check=False).returncode == 0


def test_without_create_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        open_store(f"sqlite:///{tmp_path}/none.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_for_our_user_alone(empty_url: str) -> None:
    open_store(empty_url).close()
    assert stat.S_IMODE(path_of(empty_url).stat().st_mode) == 0o600
    assert stat.S_IMODE(path_of(empty_url).parent.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match=r"file/x\.db cannot be created"):
        open_store(f"sqlite:///{tmp_path}/file/x.db")


@contextmanager
def write_lock(url: str) -> Iterator[None]:
    """Hold SQLite's write lock from another connection."""
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")


def test_a_database_that_stays_busy_is_unavailable_to_writers_only(url: str) -> None:
    with closing(open_store(f"{url}?timeout=0.05")) as store:
        run = enqueue(store)
        with write_lock(url):
            with pytest.raises(StoreUnavailable):
                store.journal.note("ann", "run 1", "", AT)
            assert store.runs.get(run.id) == run
        store.journal.note("ann", "run 1", "now it goes", AT)


def test_a_writer_waits_for_the_lock(url: str, store: SqlStore) -> None:
    enqueue(store)
    with write_lock(url):
        writer = threading.Thread(target=store.journal.note, args=("ann", "run 1", "waited", AT))
        writer.start()
        assert "waited" not in [entry.reason for entry in store.journal.latest()]
    writer.join()
    assert store.journal.latest(1)[0].reason == "waited"


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"something else, long enough to be looked at" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store(f"sqlite:///{tmp_path}/x.db")


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


def open_files(path: Path) -> int:
    """How many files this process has open of a database."""
    here = Path("/proc/self/fd")
    return sum(os.path.realpath(number) == str(path) for number in here.iterdir())


def test_a_closed_database_leaves_no_file_open(url: str) -> None:
    database = Database(parse_url(url))
    together = threading.Barrier(4)

    def use(_: int) -> None:
        with database.connected():
            together.wait(10)

    at_once(4, use)
    with database.writing():
        pass
    assert open_files(path_of(url)) > 0
    with database.connected():
        database.close()
    assert open_files(path_of(url)) == 0


def test_reading_within_a_transaction_has_one_of_its_own(url: str, store: SqlStore) -> None:
    with closing(Database(parse_url(url))) as database:
        with database.connected() as outer:
            assert outer.scalar(text("SELECT count(*) FROM runs")) == 0
            enqueue(store)
            with database.connected() as inner:
                assert inner is not outer
                assert inner.scalar(text("SELECT count(*) FROM runs")) == 1
            assert outer.scalar(text("SELECT count(*) FROM runs")) == 0
        with database.connected() as later:
            assert later.scalar(text("SELECT count(*) FROM runs")) == 1


def test_options_of_a_connection_end_with_its_transaction(url: str) -> None:
    with closing(Database(parse_url(url))) as database:
        with database.connected() as connection:
            connection.execution_options(yield_per=7)
        for _ in range(2):
            with database.connected() as connection:
                assert "yield_per" not in connection.get_execution_options()


def test_a_connection_that_broke_is_not_used_again(url: str) -> None:
    with closing(Database(parse_url(url))) as database:
        with database.connected() as connection:
            driver = cast(sqlite3.Connection, connection.connection.dbapi_connection)
        driver.close()
        with pytest.raises(StoreError, match="closed"), database.connected():
            pass
        for _ in range(2):
            with database.writing() as session:
                assert session.scalar(text("SELECT 1")) == 1


def test_every_test_of_the_store_that_is_not_about_its_file_runs_on_postgresql_too() -> None:
    here = Path(__file__).parent
    suite = {path.name for path in here.glob("test_*.py")} - {
        path.name for path in here.glob("test_sqlite*.py")
    }
    twins = here.parents[1] / "integration" / "store"
    for name in sorted(suite):
        module = f"tests.unit.store.{name.removesuffix('.py')}"
        assert f"from {module} import *" in (twins / name).read_text(encoding="utf-8")


def test_the_noise_is_found_without_looking_at_all_runs_or_attempts(store: SqlStore) -> None:
    run = replicated(store)
    values = {"run_id": run, "limit": 40, "below": run, "until": AT}
    with store.baselines._database.connected() as connection:
        baselines._REPLICATED.rows(connection, values)
        text = baselines._REPLICATED._text
        assert text is not None
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text.sql}", tuple(text.bound(values))).all()
    told = [str(step[-1]) for step in steps]
    (attempts,) = [step for step in told if "attempts" in step]
    assert "(run_id=?)" in attempts
    assert not [step for step in told if "SCAN" in step or "ORDER BY" in step]
