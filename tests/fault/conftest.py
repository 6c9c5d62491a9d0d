from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import docker
import pytest

from tests.support.engine import built
from tests.support.enginehost import HOST_FOLDER, EngineHost, can_nest, engine_host
from tests.support.git import GitRepository
from tests.support.installation import Installation, removed_afterwards
from tests.support.smtp import SmtpServer
from tests.support.sshd import SshServer


@pytest.fixture
def installation(plain: Installation, sshd_server: Callable[[], SshServer]) -> Installation:
    """A pipeline with mail and a server to deploy to."""
    plain.production = sshd_server()
    plain.write()
    return plain


@pytest.fixture(scope="session")
def engine_machine(docker_engine: docker.DockerClient, base_image: str) -> Iterator[EngineHost]:
    """A machine whose engine may be stopped and whose disk may be filled; one for all tests."""
    if not can_nest():
        pytest.skip("an engine within an engine needs root")
    with engine_host(docker_engine, built(docker_engine, HOST_FOLDER), base_image) as machine:
        yield machine


@pytest.fixture
def elsewhere(
    tmp_path: Path,
    git_repository: GitRepository,
    smtp_server: SmtpServer,
    engine_machine: EngineHost,
    base_image: str,
) -> Iterator[Installation]:
    """A pipeline whose runs execute on that machine, whose disk has room before and after."""
    made = Installation(tmp_path, git_repository, smtp_server, None, base_image, engine_machine.url)
    engine_machine.empty()
    with ExitStack() as stack:
        client = stack.enter_context(closing(engine_machine.client()))
        stack.enter_context(removed_afterwards(made, client))
        stack.callback(engine_machine.empty)
        yield made


@pytest.fixture
def plain(
    tmp_path: Path,
    git_repository: GitRepository,
    smtp_server: SmtpServer,
    docker_engine: docker.DockerClient,
    base_image: str,
) -> Iterator[Installation]:
    """A pipeline with mail alone; what it leaves on the engine is removed afterwards."""
    made = Installation(tmp_path, git_repository, smtp_server, None, base_image)
    with removed_afterwards(made, docker_engine):
        yield made
