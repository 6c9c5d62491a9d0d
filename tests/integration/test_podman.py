"""Podman's Docker socket over SSH, root's and that of a user without root: checks, a whole run, cleaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from orchestrator.adapters.files.logs import FolderLogs
from tests.support.engine import ROOT, built
from tests.support.enginehost import can_nest
from tests.support.git import GitRepository
from tests.support.hosts import Host, host_image, host_network, trust
from tests.support.installation import Installation, removed_afterwards
from tests.support.smtp import SmtpServer

FOLDER = ROOT / "tests" / "support" / "podmanmachine"
ROOTS = "/run/podman/podman.sock"
ROOTLESS = "/run/user/2000/podman/podman.sock"
LINES = 20


@pytest.fixture(scope="module")
def podman_host(
    docker_engine: docker.DockerClient, base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """A host whose engine is Podman, with nothing in it."""
    if not can_nest():
        pytest.skip("an engine within an engine needs root")
    image = built(docker_engine, FOLDER, base=host_image(docker_engine))
    folder = tmp_path_factory.mktemp("podman")
    with host_network(docker_engine, image, folder) as network, network.host() as host:
        host.run("podman-up")
        yield host


@pytest.fixture(params=[ROOTS, ROOTLESS], ids=["root", "rootless"])
def installation(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    git_repository: GitRepository,
    smtp_server: SmtpServer,
    docker_engine: docker.DockerClient,
    base_image: str,
    podman_host: Host,
) -> Iterator[Installation]:
    """A pipeline whose runs may execute there and on the local engine, which has the image."""
    made = Installation(tmp_path, git_repository, smtp_server, None, base_image)
    made.main = {
        "hosts": {
            "local": {"min_free": "0"},
            "pod": {"ssh": podman_host.ssh | {"socket": request.param}, "min_free": "0"},
        }
    }
    made.environment = {"LINES": str(LINES)}
    trust(tmp_path / "var", podman_host)
    with removed_afterwards(made, docker_engine):
        yield made


def test_podman_executes_a_run_as_docker_does_and_is_left_clean(installation: Installation) -> None:
    checked = {part["part"]: part for part in installation.json("hosts", "check", "pod")}
    assert [name for name, part in checked.items() if part["result"] == "fail"] == []
    assert "are shut" in checked["network"]["told"]
    installation.commit(0.8)
    installation.orchestrator("run", "line", "--host", "pod")
    installation.commit(0.8, {"train.py": "import sys; print('broken'); sys.exit(7)\n"})
    installation.orchestrator("run", "line", "--host", "pod", expect=1)
    (attempt,) = installation.json("runs", "show", "1")["attempts"]
    assert (attempt["state"], attempt["host"]) == ("succeeded", "pod")
    written = [line.text.decode() for _, line in FolderLogs(installation.folder / "var" / "logs").lines(1)]
    assert written == [f"line {n}" for n in range(LINES)]
    (attempt,) = installation.json("runs", "show", "2")["attempts"]
    assert (attempt["reason"], attempt["exit"]["code"]) == ("exit_code", 7)
    kinds = {thing["kind"] for thing in installation.json("hosts", "prune", "pod", "--all", "--yes")}
    assert "volume" in kinds
    assert installation.json("hosts", "prune", "pod", "--all", "--dry-run") == []
