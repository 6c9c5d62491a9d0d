"""Whole installations for security tests, and what is left of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import docker
import pytest

from tests.support.git import GitRepository
from tests.support.installation import Installation, removed_afterwards
from tests.support.smtp import SmtpServer

InstallationMaker = Callable[[], Installation]


@contextmanager
def installed(folder: Path, client: docker.DockerClient, image: str) -> Iterator[Installation]:
    """A pipeline with mail and nothing to deploy to; its images, too, are removed afterwards."""
    repository = folder / "git"
    repository.mkdir()
    smtp = SmtpServer()
    smtp.start()
    made = Installation(folder, GitRepository.create(repository), smtp, None, image)
    try:
        with removed_afterwards(made, client):
            yield made
    finally:
        smtp.stop()


@pytest.fixture
def installation(
    tmp_path: Path, docker_engine: docker.DockerClient, base_image: str
) -> Iterator[Installation]:
    """One installation for one test."""
    with installed(tmp_path, docker_engine, base_image) as made:
        yield made


@pytest.fixture(scope="module")
def shared_installation(
    tmp_path_factory: pytest.TempPathFactory, docker_engine: docker.DockerClient, base_image: str
) -> Iterator[InstallationMaker]:
    """Call it for an installation that lives as long as the tests of a module."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(
            installed(tmp_path_factory.mktemp("installation"), docker_engine, base_image)
        )
