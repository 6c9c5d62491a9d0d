"""A machine with a Docker engine of its own, in a container: tests may stop it, and fill its disk."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.models.containers import Container

from tests.support.engine import ROOT, TEST_LABEL
from tests.support.waiting import wait_until

HOST_FOLDER = ROOT / "tests" / "support" / "enginemachine"
DATA_ROOT = "/var/lib/docker"
DISK = 900
"""MiB of its data root: room for an image with Python, twice while it is loaded."""


@dataclass
class EngineHost:
    """The machine. ``url`` is where its engine answers on this one; its data root is a disk of its own."""

    container: Container
    folder: Path

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
        self.container.exec_run(["up", "/run/engine/docker.sock"], user="root", detach=True)
        wait_until(self._answers, "the engine to answer", 60)

    def stop(self) -> None:
        """End the engine; what runs in it goes on."""
        self.run("pkill", "-TERM", "-x", "dockerd")
        wait_until(lambda: not self.run("pgrep", "-x", "dockerd", check=False), "the engine to end", 60)

    def fill(self, leave: int = 0) -> None:
        """Fill the disk of the engine but for so many bytes."""
        self.run("sh", "-c", f"cat /dev/zero > {DATA_ROOT}/filler; true", check=False)
        if leave:
            self.run("truncate", "-s", f"-{leave}", f"{DATA_ROOT}/filler")

    def empty(self) -> None:
        """Give the room back."""
        self.run("rm", "-f", f"{DATA_ROOT}/filler")

    def _answers(self) -> bool:
        asked = self.container.exec_run(["docker", "-H", "unix:///run/engine/docker.sock", "version"])
        return asked.exit_code == 0


@contextmanager
def engine_host(client: docker.DockerClient, image: str, runs_in: str) -> Iterator[EngineHost]:
    """Such a machine whose engine has the image ``runs_in``; it is gone afterwards."""
    name = f"mlci-test-engine-{uuid.uuid4().hex[:8]}"
    # Not below a test's own folder: the path of a socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="mlci-engine-"))
    limits = client.api.create_host_config(
        cap_add=["ALL"],
        cap_drop=["SYS_RESOURCE"],
        cgroupns="private",
        device_cgroup_rules=["a *:* rwm"],
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        tmpfs={DATA_ROOT: f"size={DISK}m,exec,suid,dev,mode=710"},
        binds={str(folder): {"bind": "/run/engine", "mode": "rw"}},
    )
    # What the command line calls systempaths=unconfined.
    limits |= {"MaskedPaths": [], "ReadonlyPaths": []}
    made = client.api.create_container(
        image, name=name, hostname=name, labels={TEST_LABEL: "engine"}, host_config=limits
    )
    container = client.containers.get(made["Id"])
    try:
        container.start()
        host = EngineHost(container, folder)
        host.start()
        inside = host.client()
        try:
            with tempfile.TemporaryFile() as archive:
                for chunk in client.images.get(runs_in).save(named=True):
                    archive.write(chunk)
                archive.seek(0)
                inside.images.load(archive)
        finally:
            inside.close()
        yield host
    except BaseException:
        if container.status != "created":
            sys.stdout.write(EngineHost(container, folder).run("tail", "-n", "40", "/var/log/dockerd.log"))
        raise
    finally:
        container.remove(force=True, v=True)
        shutil.rmtree(folder, ignore_errors=True)


def can_nest() -> bool:
    """Whether this user may make such machines."""
    return os.geteuid() == 0
