"""Twenty writers on one SQLite file: with our settings nobody fails, without any one of them somebody."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database, open_engine, parse_url
from orchestrator.store.failures import translated
from tests.unit.store.support import at_once, enqueue, file_of

WRITERS, TURNS = 20, 5
READ = text("SELECT last_number FROM pipelines")
WRITE = text("UPDATE pipelines SET last_number = :number")


@pytest.fixture
def counter(url: str, store: SqlStore) -> str:
    """The URL of a database with one counter, which stands at 1."""
    enqueue(store)
    return url


def count(session: Session) -> None:
    """Read, then write what depends on it."""
    number = session.scalars(READ).one()
    session.execute(WRITE, {"number": number + 1})


@contextmanager
def deferred(engine: Engine) -> Iterator[Session]:
    """A transaction as SQLite begins it by default: it becomes a writer when it first writes."""
    with translated(), Session(engine) as session, session.begin():
        yield session


def everybody_counts(url: str, *, immediate: bool = True) -> Counter[str]:
    """What happened to the transactions of all writers, each with a connection of its own."""
    database, engine = Database(parse_url(url)), open_engine(parse_url(url))

    def turns(_: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        for _ in range(TURNS):
            try:
                with database.writing() if immediate else deferred(engine) as session:
                    count(session)
                seen["counted"] += 1
            except StoreUnavailable as error:
                seen[error.message] += 1
        return seen

    try:
        return sum(at_once(WRITERS, turns), Counter())
    finally:
        database.close()
        engine.dispose()


def stands_at(url: str) -> int:
    database = Database(parse_url(url))
    try:
        with database.reading() as session:
            return int(session.scalars(READ).one())
    finally:
        database.close()


def test_with_the_settings_of_the_product_nobody_fails_and_nothing_is_lost(counter: str) -> None:
    assert everybody_counts(counter) == {"counted": WRITERS * TURNS}
    assert stands_at(counter) == 1 + WRITERS * TURNS


def test_without_begin_immediate_writers_fail_whatever_the_timeout(counter: str) -> None:
    seen = everybody_counts(counter, immediate=False)
    assert seen["the database did not answer: database is locked"] > 0
    assert stands_at(counter) == 1 + seen["counted"]


def test_without_a_busy_timeout_writers_fail(counter: str) -> None:
    seen = everybody_counts(f"{counter}?timeout=0")
    assert seen["the database did not answer: database is locked"] > 0
    assert stands_at(counter) == 1 + seen["counted"]


def write_beside_a_reader(path: Path) -> str:
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as reader,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0.1)) as writer,
    ):
        reader.execute("BEGIN")
        reader.execute(str(READ)).fetchone()
        writer.execute("BEGIN IMMEDIATE")
        writer.execute(str(WRITE), {"number": 7})
        try:
            writer.execute("COMMIT")
        except sqlite3.OperationalError as error:
            return str(error)
        return "written"


def test_only_in_wal_mode_do_readers_let_writers_work(counter: str, store: SqlStore) -> None:
    path = file_of(counter)
    assert path is not None
    assert write_beside_a_reader(path) == "written"
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    assert write_beside_a_reader(path) == "database is locked"
