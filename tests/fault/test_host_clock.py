"""A host whose clock is an hour off loses no line of a log: its times are compared only with its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.adapters.files.logs import FolderLogs
from tests.support.hosts import Host, trust
from tests.support.installation import Installation

LINES = 25
# From the host's side ours is the clock that is wrong, which comes to the same.
_WITH_ANOTHER_CLOCK = """
import sys
from datetime import timedelta
from orchestrator.adapters.process import SystemClock
right, off = SystemClock.now, timedelta(hours=float(sys.argv[1]))
SystemClock.now = lambda self: right(self) + off
from orchestrator.cli.main import execute
sys.exit(execute(sys.argv[2:]))
"""


@pytest.mark.parametrize("hours", [1, -1])
def test_a_run_on_a_host_an_hour_off_keeps_each_line_once_though_its_link_breaks(
    hosts: tuple[Host, Host], plain: Installation, hours: int
) -> None:
    host, _ = hosts
    plain.main = {"hosts": {"lab1": {"ssh": host.ssh, "min_free": "0"}}}
    plain.environment = {"LINES": str(LINES), "PAUSE": "0.2"}
    plain.write()
    plain.commit(0.8)
    trust(plain.folder / "var", host)
    command = [sys.executable, "-c", _WITH_ANOTHER_CLOCK, str(hours), "--config", str(plain.config)]
    with subprocess.Popen(
        [*command, "run", "line", "--wait"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        try:
            plain.wait_for_line("line 5")
            host.drop_logins()
            said, _ = running.communicate(timeout=90)
        finally:
            running.kill()
    assert running.returncode == 0, said
    written = [line.text.decode() for _, line in FolderLogs(plain.folder / "var" / "logs").lines(1)]
    assert [line for line in written if line.startswith("line ")] == [f"line {n}" for n in range(LINES)]
    (attempt,) = plain.json("runs", "show", "1")["attempts"]
    assert (attempt["state"], attempt["host"]) == ("succeeded", "lab1")
