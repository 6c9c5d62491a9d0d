"""kill -9 of retention in each of its phases, and what the next pass makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from orchestrator.store import open_store
from orchestrator.store.engine import Database, parse_url
from tests.support.history import History, configure, inconsistencies, leftovers

PHASES = ("removing runs", "giving up artifacts", "giving up logs", "removing files")
PROGRAM = "from orchestrator.cli.main import main; main()"
COMMAND = (sys.executable, "-c", PROGRAM, "retention", "apply", "--json")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """The database of an installation with a year behind it."""
    state = tmp_path / "var"
    state.mkdir()
    url = f"sqlite:///{state / 'orchestrator.db'}"
    open_store(url).close()
    configure(tmp_path / "config", state, url)
    with closing(Database(parse_url(url))) as made:
        History(made, state, datetime.now(UTC), 500, log_lines=2, model_size=64).write()
        yield made


def command(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--config", str(tmp_path / "config")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def applied(tmp_path: Path) -> Any:  # noqa: ANN401 - JSON
    """What a pass that nobody disturbs says."""
    with command(tmp_path) as process:
        told, complained = process.communicate(timeout=60)
    assert process.returncode == 0, complained
    return json.loads(told)


def killed(tmp_path: Path, phase: str) -> bool:
    """Kill a pass as soon as it says that it is in a phase; False when it had nothing to do there."""
    with command(tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip() == phase:
                process.kill()
                return True
    assert process.returncode == 0
    return False


def broken(database: Database) -> list[object]:
    """Rows that refer to what is not there."""
    with database.reading() as session:
        return list(session.execute(text("PRAGMA foreign_key_check")).all())


def test_retention_that_is_killed_anywhere_is_finished_by_the_next_pass(
    tmp_path: Path, database: Database
) -> None:
    state = tmp_path / "var"
    for phase in PHASES:
        assert killed(tmp_path, phase), f"nothing was left for {phase}"
        assert inconsistencies(database, state) == []
        assert broken(database) == []
    assert leftovers(database, state) != []
    applied(tmp_path)
    assert leftovers(database, state) == []
    assert inconsistencies(database, state) == []
    assert broken(database) == []
    last = applied(tmp_path)
    assert (last["going"], last["removed"], last["freed_bytes"]) == ([], {}, 0)
