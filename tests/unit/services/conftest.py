from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator.store import open_store
from orchestrator.store.engine import Database, parse_url
from tests.unit.services.worlds import World


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and no rows, not even an id; to make one takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "db.sqlite"
    open_store(f"sqlite:///{path}").close()
    database = Database(parse_url(f"sqlite:///{path}"))
    with database.writing() as session:
        session.execute(text("DELETE FROM meta"))
    database.close()
    return path


@pytest.fixture
def world(tmp_path: Path, template: Path) -> Iterator[World]:
    shutil.copy(template, tmp_path / "db.sqlite")
    made = World(tmp_path)
    yield made
    made.close()
