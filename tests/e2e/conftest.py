from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.git import GitRepository
from tests.support.installation import Installation, removed_afterwards
from tests.support.smtp import SmtpServer


@pytest.fixture
def installation(
    tmp_path: Path,
    git_repository: GitRepository,
    smtp_server: SmtpServer,
    docker_engine: docker.DockerClient,
    base_image: str,
) -> Iterator[Installation]:
    """A pipeline with mail and nothing to deploy to; what it leaves on the engine is removed afterwards."""
    made = Installation(tmp_path, git_repository, smtp_server, None, base_image)
    with removed_afterwards(made, docker_engine):
        yield made
