"""Many runs on many hosts: how they are asked for, and what became of their attempts."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

from orchestrator.adapters.files.logs import FolderLogs
from tests.support.hosts import Host
from tests.support.installation import Installation

_RUN_MANY = """
import sys
from orchestrator.cli.main import execute
config, *pipelines = sys.argv[1:]
sys.exit(max(execute(["--config", config, "run", name, "--no-wait"]) for name in pipelines))
"""


@dataclass(frozen=True)
class Try:
    """An attempt as the database has it."""

    id: int
    pipeline: str
    run: int
    host: str
    state: str
    reason: str
    container: str
    began: str
    ended: str


class Fleet:
    """What is known of all attempts, read past the product."""

    def __init__(self, installation: Installation) -> None:
        self._state = installation.folder / "var"
        self._logs = FolderLogs(self._state / "logs")
        self._database = sqlite3.connect(f"file:{self._state}/orchestrator.db?mode=ro", uri=True)

    def close(self) -> None:
        self._database.close()

    def tries(self, **wanted: str) -> list[Try]:
        """Those attempts that are as wanted."""
        rows = self._database.execute(
            "SELECT a.id, r.pipeline, a.run_id, coalesce(a.host, ''), a.state, coalesce(a.reason, ''),"
            " coalesce(a.container, ''), coalesce(a.started_at, ''), coalesce(a.finished_at, '')"
            " FROM attempts a JOIN runs r ON r.id = a.run_id ORDER BY a.id"
        )
        return [t for t in (Try(*row) for row in rows) if all(getattr(t, k) == v for k, v in wanted.items())]

    def states(self) -> Counter[str]:
        """How many runs are in each state."""
        return Counter(state for (state,) in self._database.execute("SELECT state FROM runs"))

    def unreachable(self) -> list[str]:
        """The hosts that are marked so."""
        marked = self._database.execute("SELECT name FROM hosts WHERE unreachable_since IS NOT NULL")
        return sorted(name for (name,) in marked)

    def lines(self, attempt: Try) -> list[str]:
        """What it wrote, as our log has it, without what the orchestrator says there itself."""
        written = (line.text.decode() for _, line in self._logs.lines(attempt.id))
        return [line for line in written if not line.startswith("[orchestrator] ")]

    def most_at_once(self, host: str) -> int:
        """How many attempts a host had at the same time, at most."""
        taken = [(t.began, t.ended or "z") for t in self.tries(host=host) if t.began]
        return max((sum(b <= began < e for b, e in taken) for began, _ in taken), default=0)


def run_many(installation: Installation, *pipelines: str) -> None:
    """Ask for one run of each, without waiting for any."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN_MANY, str(installation.config), *pipelines],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def over_ssh(host: Host, **more: object) -> dict[str, object]:
    """The host's entry in orchestrator.yaml: four slots, in the lab, unless ``more`` says otherwise."""
    return {"ssh": host.ssh, "slots": 4, "min_free": "0", "labels": {"zone": "lab"}, **more}
