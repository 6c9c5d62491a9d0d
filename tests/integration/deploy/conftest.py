"""One production server for the tests of a process; each test has a folder of its own on it."""

from collections.abc import Iterator

import docker
import pytest

from tests.support.releases import Site, SiteMaker, fresh_folder, settings, with_files_only_account
from tests.support.sshd import SshServer, ssh_server


@pytest.fixture(scope="session")
def machine(
    docker_engine: docker.DockerClient, sshd_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshServer]:
    with ssh_server(docker_engine, sshd_image, tmp_path_factory.mktemp("sshd")) as server:
        with_files_only_account(server)
        yield server


@pytest.fixture
def new_site(machine: SshServer) -> SiteMaker:
    """Call it for an empty folder of releases that belongs to ``user``."""

    def make(user: str = "deploy") -> Site:
        return Site(machine, settings(machine, fresh_folder(machine, user), user))

    return make


@pytest.fixture(params=["deploy", "files"], ids=["with a shell", "files only"])
def site(request: pytest.FixtureRequest, new_site: SiteMaker) -> Site:
    """A folder of releases, once for an account with a shell and once for one that may only move files."""
    return new_site(request.param)
