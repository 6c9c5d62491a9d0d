"""``docker-compose up`` of the product's own file, under a project name of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from tests.support.engine import ROOT, one_at_a_time
from tests.support.network import free_port

COMMAND = os.environ.get("MLCI_TEST_COMPOSE") or shutil.which("docker-compose")
"""docker-compose 1.29, as Debian has it, or the program that is named: v2's, for instance."""
_INSTANCE = """\
import os
from orchestrator.store import open_store
print(open_store(os.environ["ORCHESTRATOR_DATABASE"]).instance)
"""


@dataclass
class Composed:
    """The services of docker-compose.yml, with a configuration and secrets of the test."""

    client: docker.DockerClient
    config: Path
    secrets: Path
    override: Path
    project: str = field(default_factory=lambda: f"mlci-test-{uuid.uuid4().hex[:8]}")
    port: int = field(default_factory=free_port)
    instance: str = ""
    """The label of what the server made on the engine, once it was up."""

    def call(self, *arguments: str, timeout: float = 300) -> str:
        """What ``docker-compose ARGUMENTS`` printed; it must succeed."""
        done = self._run(*self._compose, *arguments, timeout=timeout)
        if done.returncode != 0:
            told = f"{done.stdout[-8000:]}{done.stderr}"
            raise AssertionError(f"docker-compose {arguments} ended with {done.returncode}:\n{told}")
        return done.stdout

    def awaited(self) -> subprocess.CompletedProcess[str]:
        """How the script ended by which `make up` waits for the server."""
        return self._run(str(ROOT / "runner-images" / "server" / "await"), *self._compose, timeout=150)

    @property
    def _compose(self) -> tuple[str, ...]:
        return (str(COMMAND), "--file", "docker-compose.yml", "--file", str(self.override))

    def _run(self, *command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=ROOT,
            env={
                **os.environ,
                "COMPOSE_PROJECT_NAME": self.project,
                "MLCI_CONFIG": str(self.config),
                "MLCI_SECRETS": str(self.secrets),
                "MLCI_TAG": "test",
                "ORCHESTRATOR_PORT": str(self.port),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def orchestrator(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON of any shape
        """What the product's command prints as JSON inside the server's container."""
        return json.loads(self.call("exec", "-T", "server", "orchestrator", "--json", *arguments))

    def doctor(self) -> list[dict[str, str]]:
        """What ``doctor`` finds, good or not."""
        told = self.container("server").exec_run(["orchestrator", "--json", "doctor"], stderr=False).output
        assert isinstance(told, bytes)
        found: list[dict[str, str]] = json.loads(told)
        return found

    def container(self, service: str) -> Container:
        """The container of a service."""
        label = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        [found] = self.client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return found

    def left(self) -> list[str]:
        """The names of what this project has on the engine."""
        mine: dict[str, str | list[str] | bool] = {"label": f"com.docker.compose.project={self.project}"}
        containers = [
            str(c.name) for c in self.client.containers.list(all=True, filters=mine, ignore_removed=True)
        ]
        volumes = [str(v.name) for v in self.client.volumes.list(filters=mine)]
        return [*containers, *volumes, *(str(n.name) for n in self.client.networks.list(filters=mine))]


@contextmanager
def composed(made: Composed) -> Iterator[Composed]:
    """Build the images and start the services; everything but the images is gone afterwards."""
    try:
        with one_at_a_time("compose-images"):
            made.call("build", "--quiet", timeout=900)
        made.call("up", "--detach")
        made.instance = made.call(
            "exec", "-T", "server", "as-orchestrator", "python", "-c", _INSTANCE
        ).strip()
        yield made
    finally:
        print(made.call("logs", "--no-color"))  # noqa: T201 - pytest shows it where a test failed
        made.call("down", "--volumes", "--remove-orphans")
