"""What every kind of test may use. Real servers are started on first use, so unit tests pay for none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import docker

    from tests.support.git import GitRepository
    from tests.support.github import GitHubStandIn
    from tests.support.hosts import Host, HostNetwork
    from tests.support.postgres import PostgresServer
    from tests.support.smtp import SmtpServer
    from tests.support.sshd import SshServer

TESTS = Path(__file__).parent
MARKERS = {"integration": "integration", "security": "integration", "e2e": "e2e", "fault": "fault"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder."""
    for item in items:
        if item.path.is_relative_to(TESTS):
            marker = MARKERS.get(item.path.relative_to(TESTS).parts[0])
            if marker:
                item.add_marker(marker)


@pytest.fixture
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHubStandIn]:
    """A GitHub of the test's own, empty."""
    from tests.support.github import GitHubStandIn

    with GitHubStandIn(tmp_path_factory.mktemp("github")) as hub:
        yield hub


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """A client of the real engine, which is started (on Debian: installed) when none answers. Never skips."""
    import docker

    from tests.support.engine import RUNNER_IMAGES, run_script

    run_script(RUNNER_IMAGES / "engine")
    client = docker.from_env(timeout=60)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="session")
def base_image(docker_engine: docker.DockerClient) -> str:
    """The tag of the base image of runs, made when it is not there."""
    from tests.support.engine import BASE_IMAGE, RUNNER_IMAGES, run_script

    run_script(RUNNER_IMAGES / "base" / "make", BASE_IMAGE)
    return BASE_IMAGE


@pytest.fixture(scope="session")
def sshd_image(docker_engine: docker.DockerClient, base_image: str) -> str:
    """The tag of the image that ``sshd_server`` starts."""
    from tests.support.engine import built
    from tests.support.sshd import SERVER_FOLDER

    return built(docker_engine, SERVER_FOLDER)


@pytest.fixture
def sshd_server(
    docker_engine: docker.DockerClient, sshd_image: str, tmp_path: Path
) -> Iterator[Callable[[], SshServer]]:
    """Call it for a production server with a real sshd; every server is removed after the test."""
    from tests.support.sshd import ssh_server

    with ExitStack() as servers:
        yield lambda: servers.enter_context(ssh_server(docker_engine, sshd_image, tmp_path))


@pytest.fixture(scope="session")
def host_network(
    docker_engine: docker.DockerClient, base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HostNetwork]:
    """A private network; its ``host()`` makes a remote host of a test's own, in a second or two."""
    from tests.support.enginehost import can_nest
    from tests.support.hosts import host_image, host_network

    if not can_nest():
        pytest.skip("an engine within an engine needs root")
    with host_network(docker_engine, host_image(docker_engine), tmp_path_factory.mktemp("hosts")) as network:
        yield network


@pytest.fixture(scope="session")
def _two_hosts(host_network: HostNetwork, base_image: str) -> Iterator[tuple[Host, Host]]:
    with host_network.host([base_image]) as first, host_network.host([base_image]) as second:
        yield first, second


@pytest.fixture
def hosts(_two_hosts: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    """Two remote hosts that have the base image of runs, whole before and empty after each test.

    A test names them before an installation that uses them, so that they are emptied after its end.
    """
    try:
        yield _two_hosts
    finally:
        for host in _two_hosts:
            host.heal()
            host.clear()


@pytest.fixture(scope="session")
def _gpu_host(host_network: HostNetwork, base_image: str) -> Iterator[Host]:
    from tests.support.fakegpu import give_gpus

    with host_network.host([base_image]) as host:
        give_gpus(host)
        yield host


@pytest.fixture
def gpu_host(_gpu_host: Host) -> Iterator[Host]:
    """A remote host that looks as one with two GPUs; for tests of the xdist group gpu-host."""
    try:
        yield _gpu_host
    finally:
        _gpu_host.heal()
        _gpu_host.clear()


@pytest.fixture(scope="session")
def postgres_server(docker_engine: docker.DockerClient, base_image: str) -> Iterator[PostgresServer]:
    """A real PostgreSQL server with databases for all tests; tests that stop it start their own."""
    from tests.support.engine import built
    from tests.support.postgres import SERVER_FOLDER, postgres_server

    with postgres_server(docker_engine, built(docker_engine, SERVER_FOLDER)) as server:
        yield server


@pytest.fixture
def smtp_server() -> Iterator[SmtpServer]:
    """A real SMTP server that keeps the mails it gets."""
    from tests.support.smtp import SmtpServer

    server = SmtpServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def git_repository(tmp_path: Path) -> GitRepository:
    """A real Git repository with a bare remote, on the branch main, without a commit."""
    from tests.support.git import GitRepository

    folder = tmp_path / "git"
    folder.mkdir()
    return GitRepository.create(folder)
