"""What `hosts check` says of a host: each finding in one line, with what to do about it."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.cli.hostcheck import PartResult, clock_of, conclusion
from orchestrator.ports.engine import EngineInfo
from tests.unit.cli.conftest import Command

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def engine(clock: datetime | None) -> EngineInfo:
    return EngineInfo("id", "20.10", 2, 1 << 30, "Debian", clock=clock)


@pytest.mark.parametrize(
    ("clock", "result", "told"),
    [
        (NOON, "ok", "as here"),
        (NOON + timedelta(seconds=29), "ok", "within 29 s"),
        (NOON + HOUR, "warn", "1 h 0 m ahead of the one here"),
        (NOON - HOUR, "warn", "1 h 0 m behind the one here"),
        (None, "warn", "does not tell the time"),
    ],
)
def test_a_clock_that_is_off_is_told_with_its_direction(
    clock: datetime | None, result: str, told: str
) -> None:
    found = clock_of(engine(clock), NOON, NOON)
    assert found.result == result
    assert told in found.told
    assert ("timedatectl" in found.remedy) == ("here" in told and result == "warn")


def test_a_slow_answer_is_no_clock_that_is_off() -> None:
    assert clock_of(engine(NOON + timedelta(seconds=50)), NOON, NOON + timedelta(seconds=60)).result == "ok"


def test_the_conclusion_on_a_host_is_its_first_failure_in_one_line() -> None:
    parts = [
        PartResult("lab1", "connect", "ok", 0.1, "Docker 20.10"),
        PartResult("lab1", "clock", "warn", 0.1, "its clock is off", "set it"),
        PartResult("lab1", "room", "fail", 0.1, "0 B free", "free some there"),
    ]
    assert conclusion("lab1", parts) == "lab1: no run can execute here: 0 B free; free some there"
    assert conclusion("lab1", parts[:2]) == "lab1: ready; clock: its clock is off; set it"
    assert conclusion("lab1", parts[:1]) == "lab1: ready"


def test_a_host_without_docker_is_told_in_one_line_with_a_remedy(command: Command, folder: Path) -> None:
    checked = command("hosts", "check")
    assert checked.code == 3
    line = checked.out.splitlines()[-1]
    assert line.startswith("desk: no run can execute here: ")
    assert "there is no socket" in line
    assert "install Docker" in line


def test_a_socket_at_which_nobody_listens_is_told_apart(command: Command, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder.parent / "no.sock"))
    checked = command("hosts", "check", "--json")
    (connect,) = json.loads(checked.out)
    assert "nobody listens" in connect["told"]
    assert connect["remedy"] == "start it: `sudo systemctl start docker`"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
def test_a_socket_that_this_user_may_not_use_is_told_apart(command: Command, folder: Path) -> None:
    path = folder.parent / "no.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        path.chmod(0)
        (connect,) = json.loads(command("hosts", "check", "--json").out)
    assert "this user may not use its socket" in connect["told"]
