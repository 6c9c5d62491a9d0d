"""Memory that runs out in the command or in a child of it (fault 13); for kills see test_engine_cut."""

from __future__ import annotations

import pytest

from tests.support.installation import Installation
from tests.support.waiting import wait_until

EATS = """\
import json, os, sys
json.dump({"accuracy": 0.8}, open("metrics.json", "w"))
open("model.txt", "w").write("model")
print("hungry", flush=True)
held = []
while True:
    held.append(bytearray(16 << 20))
"""


@pytest.mark.parametrize(
    ("command", "state", "reason", "code"),
    [
        pytest.param(["python3", "train.py"], "failed", "out_of_memory", 137, id="the command itself"),
        pytest.param(
            "python3 train.py; exit 3", "failed", "out_of_memory", 3, id="a child, and the command fails"
        ),
        pytest.param(
            "python3 train.py; true", "passed", "completed", 0, id="a child, and the command goes on"
        ),
    ],
)
def test_memory_that_runs_out_is_the_projects_fault_and_a_warning_when_the_command_ends_well(
    plain: Installation, command: str | list[str], state: str, reason: str, code: int
) -> None:
    plain.command = command
    plain.checks = ("accuracy >= 0.5",)
    plain.write()
    plain.commit(0.8, {"train.py": EATS})
    plain.serve()
    plain.wait_for_mails(1)
    run = plain.json("runs", "show", "1")
    assert run["state"] == state
    (attempt,) = run["attempts"]
    assert (attempt["reason"], attempt["exit"]["code"]) == (reason, code)
    if state == "passed":
        assert any("for lack of memory" in w for w in attempt["warnings"])
    else:
        assert "out of memory (limit 256 MiB)" in attempt["message"]
    wait_until(lambda: len(plain.json("runs", "show", "1")["attempts"]) == 1, "no other try")
