"""``orchestrator serve`` from a shell: where it listens, who executes, how it ends."""

from __future__ import annotations

import json
import socket
import subprocess

from tests.support.installation import COMMAND, Installation
from tests.support.waiting import wait_until


def test_a_push_runs_by_itself_and_run_only_follows_the_server(installation: Installation) -> None:
    installation.commit(0.8)
    server = installation.serve()
    installation.wait_for_mails(1)
    assert [r["cause"] for r in installation.json("runs", "list")] == ["first_sight"]
    assert json.loads(server.get("/readyz"))["ready"] is True

    by_hand = subprocess.run(
        [COMMAND, "--config", str(installation.config), "run", "line"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert by_hand.returncode == 0, by_hand.stderr
    assert f"executed by the server at {server.url}" in by_hand.stderr
    assert server.terminate() == 0
    assert "stopped" in server.log.read_text()


def test_a_port_in_use_is_said_and_changes_nothing(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [COMMAND, "--config", str(installation.config), "serve", "--port", port],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_server_shares_the_database_and_says_so(installation: Installation) -> None:
    installation.commit(0.8)
    first = installation.serve()
    second = installation.serve()
    wait_until(lambda: "another server works on this database" in second.log.read_text(), "the warning")
    installation.wait_for_mails(1)
    assert len(installation.json("runs", "list")) == 1
    assert second.terminate() == 0
    assert first.get("/healthz") == "ok\n"
    assert first.terminate() == 0
