"""A machine with a Docker engine of its own, in a container: tests may stop it, and fill its disk."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import docker
from docker.models.containers import Container

from tests.support.engine import ROOT, TEST_LABEL
from tests.support.waiting import wait_until

HOST_FOLDER = ROOT / "tests" / "support" / "enginemachine"
DATA_ROOT = "/var/lib/docker"
DISK = 900
"""MiB of its data root: room for an image with Python, twice while it is loaded."""
_SOCKET = "/run/engine/docker.sock"


@dataclass
class EngineHost:
    """The machine. ``url`` is where its engine answers on this one, past any network."""

    container: Container
    folder: Path
    engine_arguments: Sequence[str] = field(default=("--live-restore",), kw_only=True)

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def client(self) -> docker.DockerClient:
        """A client of its engine, for the caller to close."""
        return docker.DockerClient(self.url, timeout=60)

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command on the machine as root; what it printed."""
        done = self.container.exec_run(list(command), user="root")
        output = done.output.decode(errors="replace") if isinstance(done.output, bytes) else ""
        if check and done.exit_code != 0:
            raise AssertionError(f"{command} ended with {done.exit_code}: {output}")
        return output

    def start(self) -> None:
        """Start the engine, and return once it answers."""
        self.container.exec_run(["up", _SOCKET, *self.engine_arguments], user="root", detach=True)
        self.wait_until_the_engine_answers()

    def stop(self) -> None:
        """End the engine; with --live-restore, what runs in it goes on."""
        self._end("TERM")

    def kill_engine(self) -> None:
        """kill -9 the engine; without --live-restore, the next one ends what still runs."""
        self._end("KILL")

    def fill(self, leave: int = 0) -> None:
        """Fill the disk of the engine but for so many bytes."""
        self.run("sh", "-c", f"cat /dev/zero > {DATA_ROOT}/filler; true", check=False)
        if leave:
            self.run("truncate", "-s", f"-{leave}", f"{DATA_ROOT}/filler")

    def empty(self) -> None:
        """Give the room back."""
        self.run("rm", "-f", f"{DATA_ROOT}/filler")

    def wait_until_the_engine_answers(self) -> None:
        """Return once it does."""
        wait_until(self._answers, "the engine to answer", 60)

    def load(self, archive: BinaryIO) -> None:
        """Give its engine the image that :func:`saved` packed."""
        archive.seek(0)
        with closing(self.client()) as inside:
            inside.images.load(archive)

    def _end(self, signal: str) -> None:
        self.run("pkill", f"-{signal}", "-x", "dockerd")
        wait_until(lambda: not self.run("pgrep", "-x", "dockerd", check=False), "the engine to end", 60)

    def _answers(self) -> bool:
        return self.container.exec_run(["docker", "-H", f"unix://{_SOCKET}", "version"]).exit_code == 0


def saved(client: docker.DockerClient, image: str) -> BinaryIO:
    """An image of an engine's, packed; for the caller to close."""
    archive = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's
    for chunk in client.images.get(image).save(named=True):
        archive.write(chunk)
    return archive


def machine_limits(
    client: docker.DockerClient,
    folder: Path,
    binds: Mapping[str, str] | None = None,
    tmpfs: Mapping[str, str] | None = None,
    *,
    init: bool = False,
) -> dict[str, object]:
    """The rights that an engine in a container needs; ``folder`` gets its socket, ``binds`` are from: to."""
    shared = {str(folder): str(Path(_SOCKET).parent), **(binds or {})}
    limits: dict[str, object] = client.api.create_host_config(
        cap_add=["ALL"],
        cap_drop=["SYS_RESOURCE"],
        cgroupns="private",
        device_cgroup_rules=["a *:* rwm"],
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        tmpfs=dict(tmpfs or {}),
        init=init,
        binds=[f"{source}:{target}:rw" for source, target in shared.items()],
    )
    # What the command line calls systempaths=unconfined.
    return limits | {"MaskedPaths": [], "ReadonlyPaths": []}


@contextmanager
def machine_folder() -> Iterator[Path]:
    """A folder for the socket of a machine's engine, or for its disk."""
    # Not below a test's own folder: the path of a socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="mlci-engine-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def showing_the_engines_log(host: EngineHost) -> Iterator[None]:
    """When something fails, print what the machine's engine said last."""
    try:
        yield
    except BaseException:
        host.container.reload()
        if host.container.status == "running":
            sys.stdout.write(host.run("tail", "-n", "40", "/var/log/dockerd.log", check=False))
        raise


@contextmanager
def engine_host(client: docker.DockerClient, image: str, runs_in: str) -> Iterator[EngineHost]:
    """Such a machine whose engine has the image ``runs_in``, on a disk of its own; it is gone afterwards."""
    name = f"mlci-test-engine-{uuid.uuid4().hex[:8]}"
    with machine_folder() as folder:
        made = client.api.create_container(
            image,
            name=name,
            hostname=name,
            labels={TEST_LABEL: "engine"},
            host_config=machine_limits(
                client, folder, tmpfs={DATA_ROOT: f"size={DISK}m,exec,suid,dev,mode=710"}
            ),
        )
        container = client.containers.get(made["Id"])
        host = EngineHost(container, folder)
        try:
            with showing_the_engines_log(host):
                container.start()
                host.start()
                with saved(client, runs_in) as archive:
                    host.load(archive)
                yield host
        finally:
            container.remove(force=True, v=True)


def can_nest() -> bool:
    """Whether this user may make such machines."""
    return os.geteuid() == 0
