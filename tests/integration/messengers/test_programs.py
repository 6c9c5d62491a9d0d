"""Programs are started as they are, end in time, and show no secrets."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrator.adapters.programs import KEPT, Executable, LocalPrograms
from orchestrator.domain.errors import ActionRejected, NotFound
from orchestrator.ports.messengers import Ended
from tests.support.waiting import wait_until


def run(folder: Path, script: str, timeout: float = 10, body: bytes = b"{}", **variables: str) -> Ended:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    programs = LocalPrograms(
        {"notify": lambda: Executable(str(path), timeout, {"TOKEN": "hush-hush"})},
        lambda text: text.replace(b"hush-hush", b"***"),
    )
    return programs.run("notify", body, variables, 0)


def test_a_program_gets_the_run_and_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "ours")
    ended = run(tmp_path, 'cat; echo "$MLCI_RUN_ID [$SMTP_PASSWORD]"', body=b'{"a": 1}\n', MLCI_RUN_ID="7")
    assert ended == Ended(0, '{"a": 1}\n7 []\n')


def test_its_exit_code_and_both_outputs_are_told_without_secrets(tmp_path: Path) -> None:
    assert run(tmp_path, 'echo "$TOKEN"; echo broken >&2; exit 3') == Ended(3, "***\nbroken\n")
    assert run(tmp_path, "kill -9 $$").code == -9


def test_a_program_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    ended = run(tmp_path, f"sleep 60 & echo $! > {pid}; echo waiting; wait", timeout=0.5)
    assert ended == Ended(None, "waiting\n")
    assert time.monotonic() - began < 10
    child = int(pid.read_text())
    wait_until(lambda: _gone(child), "the child to end")


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_what_a_program_leaves_running_does_not_hold_up_its_end(tmp_path: Path) -> None:
    began = time.monotonic()
    pid = tmp_path / "pid"
    ended = run(tmp_path, f"sleep 30 & echo $! > {pid}; echo done", timeout=20)
    assert ended == Ended(0, "done\n")
    assert time.monotonic() - began < 10
    os.kill(int(pid.read_text()), 9)


def test_a_program_that_does_not_read_and_writes_without_end_is_bounded(tmp_path: Path) -> None:
    ended = run(tmp_path, "exec 2>/dev/null; yes", timeout=0.5, body=b"x" * 1_000_000)
    assert ended.code is None
    assert len(ended.output) <= KEPT + 1
    assert ended.output.startswith("…")


def test_what_cannot_be_started_is_told_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\n")
    programs = LocalPrograms({"notify": lambda: Executable(str(path), 1)}, lambda text: text)
    with pytest.raises(ActionRejected, match="cannot be started: Permission denied"):
        programs.run("notify", b"", {}, 0)
    with pytest.raises(NotFound, match="there is no program other"):
        programs.run("other", b"", {}, 0)
