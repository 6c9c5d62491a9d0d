"""A database for each test: a SQLite file, or one on the PostgreSQL server ORCHESTRATOR_TEST_DATABASE."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from orchestrator.ports import store as ports
from orchestrator.store import SqlStore, open_store
from orchestrator.store.engine import Database, parse_url

SERVER = os.environ.get("ORCHESTRATOR_TEST_DATABASE")


@pytest.fixture
def empty_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a database that has no tables yet."""
    if SERVER is None:
        yield f"sqlite:///{tmp_path}/store/orchestrator.db"
        return
    name = f"test_{uuid4().hex}"
    server = create_engine(parse_url(SERVER), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield parse_url(SERVER).set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with tables and without rows, not even an id: made once for all tests."""
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
    if SERVER is None:
        path = Path(parse_url(empty_url).database or "")
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
