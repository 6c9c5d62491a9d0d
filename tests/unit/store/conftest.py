"""A SQLite file for each test. The same tests run on PostgreSQL from tests/integration/store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator.ports import store as ports
from orchestrator.store import SqlStore, open_store
from orchestrator.store.engine import Database, parse_url
from tests.unit.store.support import file_of


@pytest.fixture
def empty_url(tmp_path: Path) -> str:
    """The URL of a database that has no tables yet."""
    return f"sqlite:///{tmp_path}/store/orchestrator.db"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and without rows, not even an id: made once for all tests."""
    path = tmp_path_factory.mktemp("template") / "orchestrator.db"
    open_store(f"sqlite:///{path}").close()
    database = Database(parse_url(f"sqlite:///{path}"))
    with database.writing() as session:
        session.execute(text("DELETE FROM meta"))
    database.close()
    return path


@pytest.fixture
def url(empty_url: str, template: Path) -> str:
    """The URL of a database with tables."""
    path = file_of(empty_url)
    assert path is not None
    path.parent.mkdir(parents=True)
    shutil.copy(template, path)
    return empty_url


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    opened = open_store(url)
    contract: ports.Store = opened  # what the type checker has to prove
    yield opened
    contract.close()


@pytest.fixture
def database(store: SqlStore, url: str) -> Iterator[Database]:
    """A way around the store: into states that no caller can bring about, and to see all rows."""
    around = Database(parse_url(url))
    yield around
    around.close()
