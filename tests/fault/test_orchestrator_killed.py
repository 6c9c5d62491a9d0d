"""kill -9 of the server at each point of a run, and what the next server makes of it (faults 1 to 5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from tests.support.installation import Installation, Server
from tests.support.trap import Trap
from tests.support.waiting import wait_until

CREATE = rb"POST /v[\d.]+/containers/create\?name=mlci-[0-9a-f]{8}-attempt-"
START = rb"POST /v[\d.]+/containers/[^/]+/start"
ARCHIVE = rb"GET /v[\d.]+/containers/[^/]+/archive"
REMOVE = rb"DELETE /v[\d.]+/containers/[^/?]*"
LINES = 60


@pytest.fixture
def slow(installation: Installation) -> Installation:
    """A training of nine seconds that counts its lines."""
    installation.environment = {"LINES": str(LINES), "PAUSE": "0.15"}
    installation.write()
    return installation


def attempt_containers(client: docker.DockerClient, installation: Installation) -> list[Container]:
    labels = [f"mlci.instance={installation.instance()}", "mlci.role=attempt"]
    found: list[Container] = client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
    return found


def assert_one_of_everything(installation: Installation) -> None:
    """One run, one attempt, a log without gap or double, one mail, one release."""
    (run,) = installation.json("runs", "list")
    assert run["state"] == "passed"
    shown = installation.json("runs", "show", "1")
    assert [a["number"] for a in shown["attempts"]] == [1]
    assert shown["attempts"][0]["exit"]["code"] == 0
    lines = installation.orchestrator("runs", "logs", "1").splitlines()
    assert [line for line in lines if line.startswith("line ")] == [f"line {n}" for n in range(LINES)]
    assert [m.subject for m in installation.smtp.messages] == [
        "[line] passed: accuracy 0.8, deployed to prod"
    ]
    assert installation.production is not None
    releases = installation.production.run("ls", "/srv/models/releases").split()
    assert len(releases) == 1
    assert installation.production.run("cat", "/srv/models/current/model.txt") == "model 0.8\n"
    assert [(d["release"], d["state"]) for d in shown["deployments"]] == [(releases[0], "active")]


def killed_at(
    installation: Installation, tmp_path: Path, pattern: bytes, *, after: bool
) -> Callable[[], Server]:
    """Serve through a trap that kills the server at a request; the next server, once that has happened."""
    victims: list[Server] = []
    trap = Trap(tmp_path / "engine.sock", pattern, lambda: victims[0].process.kill(), after=after)
    installation.engine = trap.url
    installation.write()
    installation.commit(0.8)

    def go() -> Server:
        with trap:
            victims.append(installation.serve())
            assert trap.sprung.wait(60), "the request never came"
            victims[0].process.wait(30)
            server = installation.serve()
            installation.wait_for_mails(1)
            return server

    return go


def test_a_run_goes_on_in_its_container_when_the_server_is_killed_in_the_middle(
    slow: Installation, docker_engine: docker.DockerClient
) -> None:
    slow.commit(0.8)
    first = slow.serve()
    slow.wait_for_line("line 10")
    (before,) = attempt_containers(docker_engine, slow)
    first.kill()
    slow.serve()
    slow.wait_for_line("line 45")
    (after,) = attempt_containers(docker_engine, slow)
    assert (after.id, after.attrs["State"]["StartedAt"]) == (before.id, before.attrs["State"]["StartedAt"])
    slow.wait_for_mails(1)
    assert_one_of_everything(slow)


def test_a_kill_between_the_intent_and_the_container_starts_the_run_once(
    slow: Installation, tmp_path: Path, docker_engine: docker.DockerClient
) -> None:
    killed_at(slow, tmp_path, CREATE, after=False)()
    assert_one_of_everything(slow)


def test_a_container_that_was_made_unnoticed_is_adopted_without_a_twin(
    slow: Installation, tmp_path: Path, docker_engine: docker.DockerClient
) -> None:
    killed_at(slow, tmp_path, CREATE, after=True)()
    assert_one_of_everything(slow)


def test_a_container_that_was_started_unnoticed_is_not_started_again(
    slow: Installation, tmp_path: Path
) -> None:
    killed_at(slow, tmp_path, START, after=True)()
    assert_one_of_everything(slow)


def test_a_kill_between_exit_and_collection_collects_mails_and_deploys_once(
    slow: Installation, tmp_path: Path
) -> None:
    killed_at(slow, tmp_path, ARCHIVE, after=False)()
    assert_one_of_everything(slow)


def test_what_a_kill_leaves_on_the_host_is_swept_up_by_the_next_server(
    slow: Installation, tmp_path: Path, docker_engine: docker.DockerClient
) -> None:
    killed_at(slow, tmp_path, REMOVE, after=False)()
    assert_one_of_everything(slow)
    wait_until(lambda: not attempt_containers(docker_engine, slow), "the container to be swept up", 30)


def test_a_server_that_is_told_to_stop_leaves_the_training_to_the_next_one(
    slow: Installation, docker_engine: docker.DockerClient
) -> None:
    slow.commit(0.8)
    first = slow.serve()
    slow.wait_for_line("line 10")
    (before,) = attempt_containers(docker_engine, slow)
    assert first.terminate(20) == 0
    before.reload()
    assert before.status == "running"
    slow.serve()
    slow.wait_for_mails(1)
    assert_one_of_everything(slow)
