from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store import open_store
from tests.unit.services.worlds import World


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "db.sqlite"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def world(tmp_path: Path, template: Path) -> Iterator[World]:
    shutil.copy(template, tmp_path / "db.sqlite")
    made = World(tmp_path)
    yield made
    made.close()
