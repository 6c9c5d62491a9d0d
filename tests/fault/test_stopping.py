"""Containers that do not stop when asked to (fault 17 on a local engine), and those that write too fast."""

from __future__ import annotations

import time
from pathlib import Path

import docker
import pytest

from orchestrator.services.execute import STOP_GRACE
from tests.support.installation import Installation
from tests.support.waiting import wait_until

MIB = 1 << 20
STUBBORN = """\
import json, os, signal, time
signal.signal(signal.SIGTERM, lambda *_: print("not yet", flush=True))
json.dump({"accuracy": 0.5}, open("metrics.json", "w"))
open(os.path.join(os.environ["MLCI_OUTPUT_DIR"], "half.txt"), "w").write("half done")
print("begun", flush=True)
while True:
    time.sleep(1)
"""


def left_behind(client: docker.DockerClient, installation: Installation) -> list[str]:
    """The attempts' containers that are still there."""
    labels = [f"mlci.instance={installation.instance()}", "mlci.role=attempt"]
    return [
        str(c.name) for c in client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
    ]


def test_a_cancelled_training_that_ignores_sigterm_is_killed_after_the_grace_period_and_collected(
    plain: Installation, docker_engine: docker.DockerClient
) -> None:
    # Without a shell around it, which would end at once and take the training with it.
    plain.command = ["python3", "train.py"]
    plain.write()
    plain.commit(0.8, {"train.py": STUBBORN})
    plain.serve()
    plain.wait_for_line("begun")
    began = time.monotonic()
    plain.orchestrator("runs", "cancel", "1")
    wait_until(lambda: plain.json("runs", "show", "1")["state"] == "cancelled", "the run to be cancelled", 60)
    assert time.monotonic() - began > STOP_GRACE, "it was not asked first"
    (attempt,) = plain.json("runs", "show", "1")["attempts"]
    assert (attempt["state"], attempt["reason"]) == ("cancelled", "cancelled_by_person")
    assert attempt["exit"]["code"] == 137
    assert {"half.txt", "metrics.json"} <= {a["path"] for a in attempt["artifacts"]}
    assert plain.orchestrator("runs", "logs", "1").splitlines() == ["begun", "not yet"]
    wait_until(lambda: not left_behind(docker_engine, plain), "nothing to be left behind", 30)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("yes " + "again-and-" * 10, id="lines"),
        pytest.param("cat /dev/zero", id="one endless line"),
    ],
)
def test_what_writes_without_end_is_stopped_soon_and_its_first_bytes_are_kept(
    plain: Installation, docker_engine: docker.DockerClient, command: str
) -> None:
    limit = 2 * MIB
    plain.pipeline = {
        "run": {"runner": "cpu", "command": ["sh", "-c", f"echo begun; exec {command}"], "log_limit": "2m"}
    }
    plain.write()
    plain.commit(0.8)
    server = plain.serve()
    began = time.monotonic()
    plain.wait_for_mails(1)
    assert time.monotonic() - began < 60
    (attempt,) = plain.json("runs", "show", "1")["attempts"]
    assert (attempt["state"], attempt["reason"]) == ("failed", "log_limit")
    assert f"more than {limit} bytes of log" in attempt["message"]
    log = (plain.folder / "var" / "logs" / "1.log").read_bytes()
    lines = log.splitlines()
    assert lines[0].endswith(b" begun")
    assert b"[orchestrator]" in lines[-1]
    assert b"the rest is left out" in lines[-1]
    assert limit <= len(log) < limit + 2 * MIB
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (peak,) = (int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 400, f"the server took {peak} MiB"
    assert "left out" in plain.smtp.messages[0].body("plain")
    wait_until(lambda: not left_behind(docker_engine, plain), "nothing to be left behind", 30)
