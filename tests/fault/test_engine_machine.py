"""An engine of its own that is stopped (fault 8), and whose disk runs full (fault 14)."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import pytest

from tests.support.enginehost import DATA_ROOT, EngineHost
from tests.support.installation import Installation
from tests.support.waiting import wait_until

PATIENCE = 120.0
MIB = 1 << 20


def attempts(installation: Installation) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = installation.json("runs", "show", "1")["attempts"]
    return shown


def trains(machine: EngineHost) -> bool:
    return "train.py" in machine.run("ps", "-eo", "args")


def assert_sound(installation: Installation) -> None:
    """The database has no corrupt row, and no attempt is left half done."""
    with sqlite3.connect(installation.folder / "var" / "orchestrator.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize(
    ("code", "state"), [pytest.param(0, "passed", id="well"), pytest.param(7, "failed", id="badly")]
)
def test_a_run_that_ends_while_its_engine_is_stopped_keeps_its_exit_code_and_its_files(
    elsewhere: Installation, engine_machine: EngineHost, code: int, state: str
) -> None:
    elsewhere.environment = {"LINES": "25", "PAUSE": "0.1"}
    elsewhere.command = f"sh -c 'python3 train.py; exit {code}'"
    elsewhere.write()
    elsewhere.commit(0.8)
    elsewhere.serve()
    elsewhere.wait_for_line("line 3")
    engine_machine.stop()
    wait_until(lambda: not trains(engine_machine), "the training to end without an engine", 60)
    engine_machine.start()
    elsewhere.wait_for_mails(1)
    run = elsewhere.json("runs", "show", "1")
    assert run["state"] == state
    (attempt,) = run["attempts"]
    assert attempt["exit"]["code"] == code
    assert [m["value"] for m in run["metrics"] if m["name"] == "accuracy"] == ["0.8"]
    lines = elsewhere.orchestrator("runs", "logs", "1").splitlines()
    assert lines[:4] == [f"line {n}" for n in range(4)]
    assert lines == [f"line {n}" for n in range(25) if f"line {n}" in lines], "a line out of order, or twice"


def test_a_disk_that_runs_full_under_a_training_is_not_the_projects_fault_and_the_next_try_waits_for_room(
    elsewhere: Installation, engine_machine: EngineHost
) -> None:
    elsewhere.environment = {"LINES": "40", "PAUSE": "0.1"}
    elsewhere.engine_free = "50m"
    elsewhere.write()
    elsewhere.commit(0.8)
    server = elsewhere.serve()
    elsewhere.wait_for_line("line 5")
    engine_machine.fill()
    first = wait_until(
        lambda: attempts(elsewhere)[0]["reason"] and attempts(elsewhere)[0], "the first try", 60
    )
    assert (first["state"], first["reason"]) == ("errored", "disk_full")
    assert DATA_ROOT in first["message"]
    assert "of the engine local" in first["message"]
    assert "free some there" in first["message"]
    (why,) = wait_until(
        lambda: [w for w in elsewhere.json("runs", "show", "1")["waiting"] if "waits for room" in w],
        "the next try to wait for room",
        60,
    )
    assert f"free at {DATA_ROOT} of the engine local" in why
    assert "50.0 MiB are to stay free (hosts.local.min_free)" in why
    wait_until(lambda: why.partition("waits for room")[2] in server.get("/runs/1"), "the page to say so", 60)
    assert "50.0 MiB are to stay free" in server.log.read_text()
    assert "50.0 MiB are to stay free" in elsewhere.orchestrator("hosts", "check", expect=3)
    engine_machine.empty()
    elsewhere.wait_for_mails(1, PATIENCE)
    run = elsewhere.json("runs", "show", "1")
    assert (run["state"], [a["reason"] for a in run["attempts"]]) == ("passed", ["disk_full", "completed"])
    assert elsewhere.orchestrator("runs", "logs", "1").splitlines() == [f"line {n}" for n in range(40)]
    assert server.log.read_text().count("runs wait for room") == 1
    assert_sound(elsewhere)


@pytest.mark.parametrize("full_while", ["data are staged", "an image is built"])
def test_a_disk_that_runs_full_while_a_run_is_prepared_is_named_and_the_next_try_waits_for_room(
    elsewhere: Installation, engine_machine: EngineHost, full_while: str
) -> None:
    large = os.urandom(12 * MIB).hex().encode()
    if full_while == "data are staged":
        elsewhere.data.mkdir(parents=True, exist_ok=True)
        (elsewhere.data / "large.csv").write_bytes(large)
    else:
        folder = elsewhere.folder / "image"
        folder.mkdir()
        (folder / "large.bin").write_bytes(large)
        (folder / "Dockerfile").write_text(f"FROM {elsewhere.image}\nCOPY large.bin /\n")
        elsewhere.runner_image = {"build": str(folder)}
    elsewhere.engine_free = "5m"
    elsewhere.write()
    engine_machine.fill(leave=12 * MIB)
    elsewhere.commit(0.8)
    elsewhere.serve()
    wait_until(lambda: elsewhere.json("runs", "list"), "the push to be seen", 60)
    first = wait_until(
        lambda: attempts(elsewhere)[0]["reason"] and attempts(elsewhere)[0], "the first try to end", 60
    )
    assert (first["state"], first["reason"]) == ("errored", "disk_full")
    assert "no space left on the host" in first["message"]
    assert f"free at {DATA_ROOT} of the engine local" in first["message"]
    engine_machine.empty()
    elsewhere.wait_for_mails(1, PATIENCE)
    run = elsewhere.json("runs", "show", "1")
    assert run["state"] == "passed"
    assert [a["reason"] for a in run["attempts"]][-1] == "completed"
    assert_sound(elsewhere)
