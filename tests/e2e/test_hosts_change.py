"""Hosts that are added, drained and taken out of the file while a server executes runs on them."""

from __future__ import annotations

from contextlib import closing

import docker

from tests.support.fleet import Fleet, run_many
from tests.support.installation import Installation
from tests.support.waiting import wait_until

PATIENT = "until test -e /tmp/go; do sleep 0.1; done; python3 train.py"
"""A training that goes on until it is let go."""


def waits(installation: Installation, run: int) -> str:
    """What a run waits for; empty when it does not."""
    return "; ".join(installation.json("runs", "show", str(run))["waiting"])


def test_hosts_come_and_go_while_runs_execute(
    installation: Installation, docker_engine: docker.DockerClient
) -> None:
    engine = {"engine": installation.engine, "min_free": "0"}
    installation.command = PATIENT
    installation.checks = ("accuracy >= 0.5",)
    installation.main = {"hosts": {"local": {**engine, "slots": 1}}}
    installation.pipeline = {"actions": {}}
    installation.write()
    installation.commit(0.8)
    server = installation.serve()
    with closing(Fleet(installation)) as fleet:

        def goes(run: int, host: str) -> None:
            wait_until(
                lambda: [t.host for t in fleet.tries() if t.run == run and t.began] == [host],
                f"run {run} to go on {host}",
                60,
            )

        goes(1, "local")
        run_many(installation, "line")
        assert waits(installation, 2) == "it waits for a free slot: local (1 of 1 taken)"

        installation.orchestrator(
            "hosts", "add", "extra", "--engine", installation.engine, "--set", "min_free=0"
        )
        goes(2, "extra")
        installation.orchestrator("hosts", "drain", "extra", "--reason", "a new disk")
        run_many(installation, "line")
        why = waits(installation, 3)
        assert "local has 1 of 1 slots taken" in why
        assert "extra is being drained by " in why
        assert "a new disk" in why

        text = (installation.config / "orchestrator.yaml").read_text()
        (installation.config / "orchestrator.yaml").write_text(text.replace("slots: 1", "slotz: 2"))
        wait_until(lambda: "so the hosts stay as they are" in server.log.read_text(), "the mistake", 30)
        assert "slotz" in server.log.read_text()
        (installation.config / "orchestrator.yaml").write_text(text.replace("slots: 1", "slots: 2"))
        goes(3, "local")

        installation.main = {"hosts": {"other": {**engine, "slots": 1}}}
        installation.write()
        told = "host local was removed, its attempts go on"
        wait_until(lambda: told in server.log.read_text(), "the server to see the file", 30)
        run_many(installation, "line")
        goes(4, "other")
        for attempt in fleet.tries():
            docker_engine.containers.get(attempt.container).exec_run(["touch", "/tmp/go"])
        wait_until(lambda: fleet.states()["passed"] == 4, "all runs to pass", 120)
        assert [t.host for t in fleet.tries()] == ["local", "extra", "local", "other"]
        gone = "host local was removed, and nothing is on it any more"
        wait_until(lambda: gone in server.log.read_text(), "the server to forget the host", 30)
    assert [host["host"] for host in installation.json("hosts", "list")] == ["other", "extra"]
    assert server.terminate() == 0
