"""A database that somebody else holds for ten seconds under twenty runs (fault 15)."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import docker

from tests.support.installation import Installation
from tests.support.waiting import wait_until

RUNS = 20
HELD = 10.0


def test_twenty_runs_outlive_a_database_that_is_held_for_ten_seconds(
    plain: Installation, docker_engine: docker.DockerClient
) -> None:
    plain.environment = {"LINES": "10", "PAUSE": "0.05"}
    plain.checks = ("accuracy >= 0.5",)
    plain.main = {"hosts": {"local": {"engine": plain.engine, "slots": 6, "min_free": "0"}}}
    plain.pipeline = {
        "source": {"git": plain.repository.url, "branches": ["*"], "poll": "1s", "settle": "0s"}
    }
    plain.write()
    plain.commit(0.8)
    server = plain.serve()
    plain.smtp.wait_for(1, 90)
    for number in range(1, RUNS):
        plain.repository.switch(f"try-{number}")
        plain.commit(0.8, {"name.txt": str(number)})
    database = plain.folder / "var" / "orchestrator.db"
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as holder:

        def states() -> dict[str, int]:
            found = holder.execute("SELECT state, count(*) FROM attempts GROUP BY state")
            return {str(state): int(count) for state, count in found}

        wait_until(lambda: states().get("running"), "runs to be under way", 90)
        holder.execute("BEGIN EXCLUSIVE")
        before = states()
        time.sleep(HELD)
        assert states() == before, "somebody wrote although the database was held"
        holder.execute("COMMIT")
        plain.smtp.wait_for(RUNS, 180)

        def unfinished() -> int:
            open_actions = "SELECT count(*) FROM actions WHERE state IN ('pending', 'running')"
            return int(holder.execute(open_actions).fetchone()[0])

        wait_until(lambda: not unfinished(), "all actions to end", 60)
        assert states() == {"succeeded": RUNS}, "one try of each"
    runs = plain.json("runs", "list", "--limit", "100")
    assert [run["state"] for run in runs] == ["passed"] * RUNS
    assert len({run["commit"] for run in runs}) == RUNS
    messages = [mail.message["Message-ID"] for mail in plain.smtp.messages]
    assert len(set(messages)) == len(messages) == RUNS
    assert "Traceback" not in server.log.read_text()
