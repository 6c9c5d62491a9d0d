"""Containers for tests: a bench with an engine behind the port, an image, and names that nobody else uses."""

from __future__ import annotations

import io
import os
import tarfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.domain.pipeline import Resources
from orchestrator.domain.run import Exit
from orchestrator.ports.engine import Container, ContainerSpec, ContainerState, Engine, LogLine
from tests.support.fake_engine import FakeEngine, Script
from tests.support.waiting import wait_until

SOCKET = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
HOME = "/home/mlci"


@dataclass
class Bench:
    """An engine, an image that it has, and a prefix for all names, which is also the engine's instance."""

    engine: Engine
    image: str
    prefix: str
    labels: Mapping[str, str] = field(default_factory=lambda: {"mlci.test": "container"})

    def name(self, what: str = "c") -> str:
        """A name for something of this test."""
        return f"{self.prefix}-{what}"

    def spec(self, shell: str, script: Script | None = None, what: str = "c") -> ContainerSpec:
        """A container that runs a line of shell, or on the fake engine, which runs nothing, the script."""
        spec = ContainerSpec(
            name=self.name(what),
            image=self.image,
            command=("sh", "-c", shell),
            labels=dict(self.labels),
            env={"HOME": HOME},
            user="1000:1000",
            workdir=HOME,
            resources=Resources(cpus=1, memory=256 << 20, shm_size=64 << 20, pids=128),
        )
        if isinstance(self.engine, FakeEngine) and script is not None:
            name = spec.name
            self.engine.script(script, lambda other: other.name == name)
        return spec

    def run(self, spec: ContainerSpec) -> Exit:
        """Create, start, and wait for the end."""
        self.engine.create(spec)
        self.engine.start(spec.name)
        return self.ended(spec.name)

    def ended(self, name: str) -> Exit:
        """Wait for the end of a container."""
        container = wait_until(lambda: self._if_ended(name), f"{name} to end", seconds=30)
        assert container.exit is not None
        return container.exit

    def shell(self, line: str, **changes: object) -> tuple[Exit, list[LogLine]]:
        """Run a line of shell to its end; how it ended, and what it printed."""
        spec = replace(self.spec(line), **changes)  # type: ignore[arg-type]  # any field of the spec
        ending = self.run(spec)
        return ending, list(self.engine.logs(spec.name, None))

    def _if_ended(self, name: str) -> Container | None:
        container = self.engine.find(name)
        assert container is not None, f"{name} vanished"
        return container if container.state is ContainerState.EXITED else None


@contextmanager
def docker_bench(image: str) -> Iterator[Bench]:
    """A bench on the real engine; whatever it made is gone afterwards."""
    prefix = f"mlci-test-{uuid.uuid4().hex[:8]}"
    engine = DockerEngine(SOCKET, prefix)
    try:
        yield Bench(engine, image, prefix)
    finally:
        owned = engine.owned()
        for container in owned.containers:
            engine.remove(container.name)
        for network in owned.networks:
            engine.remove_network(network)
        for volume in owned.volumes:
            engine.remove_volume(volume)
        for tag in owned.images:
            engine.remove_image(tag)
        engine.close()


def tar_of(files: Mapping[str, bytes], *, uid: int = 1000, mode: int = 0o644) -> io.BytesIO:
    """A plain tar of files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.gid = len(content), mode, uid, uid
            member.mtime = int(time.time())
            tar.addfile(member, io.BytesIO(content))
    packed.seek(0)
    return packed


def files_in(engine: Engine, name: str, path: str) -> dict[str, bytes] | None:
    """The regular files that ``get`` hands over, or None when there is no such path."""
    stream = engine.get(name, path)
    if stream is None:
        return None
    with stream as source, tarfile.open(fileobj=source, mode="r|") as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]
