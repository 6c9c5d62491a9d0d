"""The engine out of reach, and containers that somebody else ends or removes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from docker.models.containers import Container

from tests.support.installation import Installation, Server
from tests.support.relay import Relay
from tests.support.trap import ENGINE
from tests.support.waiting import wait_until


@pytest.fixture
def relay(tmp_path: Path, plain: Installation) -> Iterator[Relay]:
    """What the product takes for its engine."""
    with Relay(tmp_path / "engine.sock", ENGINE) as made:
        plain.engine = made.url
        plain.write()
        yield made


def readiness(server: Server) -> tuple[int, dict[str, str]]:
    answer = httpx.get(f"{server.url}/readyz", timeout=30)
    problems: dict[str, str] = json.loads(answer.text)["problems"]
    return answer.status_code, problems


def attempts(installation: Installation, run: int = 1) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = installation.json("runs", "show", str(run))["attempts"]
    return shown


def the_container(client: docker.DockerClient, installation: Installation, number: int) -> Container:
    """The running container of the first run's attempt with that number."""
    labels = [f"mlci.instance={installation.instance()}", "mlci.role=attempt"]

    def look() -> Container | None:
        found = client.containers.list(filters={"label": labels}, ignore_removed=True)
        return next((c for c in found if str(c.name).endswith(f"-attempt-{number}")), None)

    return wait_until(look, f"the container of attempt {number}", 60)


def left_behind(client: docker.DockerClient, installation: Installation) -> list[str]:
    mine: dict[str, str | list[str] | bool] = {"label": f"mlci.instance={installation.instance()}"}
    containers = [str(c.name) for c in client.containers.list(all=True, filters=mine, ignore_removed=True)]
    networks = [str(n.name) for n in client.networks.list(filters=mine)]
    # Those of the host's slots stay while the server is up.
    return [name for name in containers + networks if "-slot-" not in name]


def test_a_run_goes_on_over_a_cut_with_a_log_without_gap_or_double(
    plain: Installation, relay: Relay, docker_engine: docker.DockerClient
) -> None:
    plain.environment = {"LINES": "60", "PAUSE": "0.15"}
    plain.write()
    plain.commit(0.8)
    server = plain.serve()
    plain.wait_for_line("line 10")
    container = the_container(docker_engine, plain, 1)
    relay.cut()
    wait_until(lambda: b"line 35" in container.logs(), "the training to go on meanwhile", 60)
    status, problems = readiness(server)
    assert status == 503
    assert "does not answer" in problems["host local"]
    relay.restore()
    plain.wait_for_mails(1)
    (attempt,) = attempts(plain)
    assert (attempt["state"], attempt["exit"]["code"]) == ("succeeded", 0)
    lines = plain.orchestrator("runs", "logs", "1").splitlines()
    assert lines == [f"line {n}" for n in range(60)]
    assert readiness(server) == (200, {})
    assert wait_until(lambda: not left_behind(docker_engine, plain), "nothing to be left behind", 30)


def test_a_run_that_ends_while_the_engine_is_cut_off_is_collected_afterwards(
    plain: Installation, relay: Relay, docker_engine: docker.DockerClient
) -> None:
    plain.environment = {"LINES": "30", "PAUSE": "0.1"}
    plain.write()
    plain.commit(0.8)
    plain.serve()
    plain.wait_for_line("line 10")
    container = the_container(docker_engine, plain, 1)
    relay.cut()
    assert container.wait(timeout=60)["StatusCode"] == 0
    relay.restore()
    plain.wait_for_mails(1)
    assert plain.json("runs", "show", "1")["state"] == "passed"
    assert plain.orchestrator("runs", "logs", "1").splitlines() == [f"line {n}" for n in range(30)]


def test_runs_wait_for_an_engine_that_is_out_of_reach_and_lose_no_change(
    plain: Installation, relay: Relay
) -> None:
    plain.retries = 0
    plain.write()
    relay.cut()
    plain.commit(0.8)
    server = plain.serve()
    status, problems = readiness(server)
    assert status == 503
    assert str(relay.path) in problems["host local"]
    wait_until(lambda: plain.json("runs", "list"), "the push to be seen", 30)
    (why,) = wait_until(lambda: plain.json("runs", "show", "1")["waiting"], "the run to wait", 30)
    assert "local does not answer" in why
    assert str(relay.path) in why
    relay.restore()
    plain.wait_for_mails(1)
    assert plain.json("runs", "show", "1")["state"] == "passed"
    assert [a["number"] for a in attempts(plain)] == [1]


def test_a_run_without_a_server_is_not_made_when_no_engine_answers(plain: Installation, relay: Relay) -> None:
    plain.commit(0.8)
    relay.cut()
    plain.orchestrator("run", "line", expect=3)
    assert plain.json("runs", "list") == []


def test_a_container_killed_from_outside_is_tried_again_and_then_the_hosts_fault(
    plain: Installation, docker_engine: docker.DockerClient
) -> None:
    plain.environment = {"LINES": "600", "PAUSE": "0.1"}
    plain.retries = 1
    plain.write()
    plain.commit(0.8)
    plain.serve()
    for number in (1, 2):
        the_container(docker_engine, plain, number).kill()
    plain.wait_for_mails(1)
    run = plain.json("runs", "show", "1")
    assert (run["state"], run["reason"]) == ("errored", "killed")
    assert [a["reason"] for a in run["attempts"]] == ["killed", "killed"]
    assert "killed from outside" in run["sentence"]
    assert wait_until(lambda: not left_behind(docker_engine, plain), "nothing to be left behind", 30)


def test_a_container_removed_behind_our_back_is_lost_and_tried_again(
    plain: Installation, docker_engine: docker.DockerClient
) -> None:
    plain.environment = {"LINES": "30", "PAUSE": "0.1"}
    plain.write()
    plain.commit(0.8)
    plain.serve()
    plain.wait_for_line("line 3")
    the_container(docker_engine, plain, 1).remove(force=True)
    plain.wait_for_mails(1)
    run = plain.json("runs", "show", "1")
    assert run["state"] == "passed"
    assert [a["reason"] for a in run["attempts"]] == ["lost", "completed"]
    assert "the container was removed" in run["attempts"][0]["message"]
    assert wait_until(lambda: not left_behind(docker_engine, plain), "nothing to be left behind", 30)
