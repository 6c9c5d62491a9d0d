"""Deployments broken at every point while a reader polls what is served (fault 20).

The reader never finds a missing, half or mixed release, and the record always says what is live.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker
import paramiko
import pytest

from orchestrator.adapters.sftp import SshServer
from orchestrator.adapters.sftp.lock import ServerLock
from orchestrator.adapters.sftp.target import SftpTarget
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.errors import ServerUnavailable
from tests.support.deploying import Deployments, deployments, server_entry, whole
from tests.support.releases import fresh_folder, with_files_only_account
from tests.support.servedfile import Reader
from tests.support.sshd import SshServer as Machine
from tests.support.sshd import ssh_server
from tests.support.tcplink import TcpLink

FAULTS = {"deploy": 72, "files": 30}
"""How often a deployment is broken in each way, spread over all that it sends and is sent; by account."""
FULL_DISKS = 16

Look = paramiko.SFTPClient


@pytest.fixture(scope="module")
def machine(
    docker_engine: docker.DockerClient, sshd_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    with ssh_server(docker_engine, sshd_image, tmp_path_factory.mktemp("sshd")) as server:
        with_files_only_account(server)
        yield server


def files_of(number: int) -> dict[str, bytes]:
    """A model that shows whether it is whole, and files beside it that only fit their own release."""
    notes = {f"notes/{n} of {number}.txt": f"{n} of {number}".encode() * 50 for n in range(8)}
    return {"model.bin": whole(os.urandom(40_000)), **notes}


class Scene:
    """One folder of releases on a server behind a link that breaks, and a reader of what it serves."""

    def __init__(
        self, machine: Machine, link: TcpLink, made: Deployments, path: str, look: Look, user: str
    ) -> None:
        self.machine, self.link, self.made, self.path, self._look = machine, link, made, path, look
        self.user, self.faults = user, FAULTS[user]
        self.activated: list[str] = []
        self.failed: list[str] = []
        self.broken = 0

    def on_the_server(self) -> str:
        return (self._look.readlink(f"{self.path}/current") or "").removeprefix("releases/")

    def deploy(self) -> None:
        """Deploy without a fault."""
        self.link.arm()
        run = self.made.passed(files_of(len(self.activated)))
        self.made.finish(run)
        (deployment,) = self.made.of(run)
        assert (deployment.state.value, self.made.live()) == ("active", deployment.release)
        assert self.on_the_server() == deployment.release
        self.activated.append(deployment.release)

    def deploy_broken(
        self, at: int, fault: Callable[[], None], heal: Callable[[], None] | None = None
    ) -> None:
        """Deploy, with a fault at a byte: what is live is what the record says, then and at the end.

        Another try brings it live; with ``heal``, which then ends the fault, it may have failed for good.
        """
        run = self.made.passed(files_of(len(self.activated)))
        self.link.arm(at, fault)
        self.made.carry_out()
        self.broken += self.link.sprung.is_set()
        self.link.arm()
        assert self.on_the_server() in self.made.may_be_live(), f"after the fault at byte {at}"
        if heal is not None:
            heal()
        self.made.finish(run)
        (deployment,) = self.made.of(run)
        told = f"after the fault at byte {at}: {deployment.message}"
        if heal is not None and deployment.state is DeploymentState.FAILED:
            self.failed.append(deployment.message)
        else:
            assert deployment.state is DeploymentState.ACTIVE, told
            self.activated.append(deployment.release)
        assert self.on_the_server() == self.made.live() == self.activated[-1], told

    def points(self) -> Sequence[int]:
        """Bytes at which to break, one in each of as many stretches of what a deployment sends and gets."""
        count = self.faults
        self.deploy()
        self.deploy()
        chunks = self.link.chunks
        # The first byte of a message, and one in the middle of it, in turn.
        places = [chunks[len(chunks) * n // count] for n in range(count)]
        return [place + 1 + 40 * (n % 2) for n, place in enumerate(places)]


@pytest.fixture(scope="module")
def look(machine: Machine) -> Iterator[Look]:
    """A way past the product and its link, as starting a command in the container takes too long."""
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(machine.known_hosts_path))
        client.connect(
            machine.host, machine.port, machine.user, key_filename=str(machine.key_path), look_for_keys=False
        )
        yield client.open_sftp()


@contextmanager
def scene_at(machine: Machine, look: Look, folder: Path, path: str, user: str) -> Iterator[Scene]:
    with TcpLink(machine.host, machine.port) as link:
        entry = server_entry(machine, path, link.port)
        assert isinstance(entry["ssh"], dict)
        entry["ssh"]["user"] = user
        with deployments(folder, {"prod": entry}) as made:
            yield Scene(machine, link, made, path, look, user)


@pytest.fixture(params=["deploy", "files"], ids=["with a shell", "files only"])
def scene(request: pytest.FixtureRequest, machine: Machine, look: Look, tmp_path: Path) -> Iterator[Scene]:
    user = request.param
    with scene_at(machine, look, tmp_path, fresh_folder(machine, user), user) as made:
        yield made


def broken_everywhere(
    scene: Scene, fault: Callable[[], None], heal: Callable[[], None] | None = None
) -> Reader:
    """Break a deployment at each point while the reader reads; a last one then finds all in order."""
    points = scene.points()
    with Reader(scene.machine, scene.path) as reader:
        for at in points:
            scene.deploy_broken(at, fault, heal)
        scene.deploy()
    assert scene.broken == scene.faults
    return reader


def assert_only_whole_releases_were_seen(scene: Scene, reader: Reader) -> None:
    assert reader.wrong == ()
    assert list(reader.seen) == scene.activated[-len(reader.seen) :]
    # The last one may have gone live and the reader have been stopped before its next look.
    assert len(reader.seen) > scene.broken - len(scene.failed)
    assert reader.reads > 10 * scene.broken
    releases = scene.machine.run("ls", f"{scene.path}/releases").split()
    assert sorted(releases) == sorted(scene.activated[-3:])
    # A lock that was being made or given back goes when it is old: nobody could tell whose it is.
    left = scene.machine.run("ls", "-A", scene.path).split()
    assert sorted(name for name in left if not name.startswith(".mlci-lock.")) == ["current", "releases"]


def test_a_server_killed_at_any_byte_leaves_a_whole_release_live_and_a_true_record(scene: Scene) -> None:
    assert_only_whole_releases_were_seen(scene, broken_everywhere(scene, scene.made.kill))


def test_a_link_cut_at_any_byte_leaves_a_whole_release_live_and_a_true_record(scene: Scene) -> None:
    assert_only_whole_releases_were_seen(scene, broken_everywhere(scene, scene.link.cut))


def test_a_disk_that_runs_full_at_any_byte_leaves_the_old_release_live_and_a_true_record(
    machine: Machine, look: Look, tmp_path: Path
) -> None:
    path = f"/dev/shm/{uuid.uuid4().hex[:8]}"
    machine.run("install", "-d", "-o", "deploy", path)
    ballast = f"{path}-ballast"
    try:
        with scene_at(machine, look, tmp_path, path, "deploy") as scene:
            scene.faults = FULL_DISKS
            reader = broken_everywhere(
                scene,
                lambda: fill(machine, ballast),
                lambda: ignore(machine.run("rm", ballast)),
            )
            assert_only_whole_releases_were_seen(scene, reader)
        assert any("ran full" in message or "are free; make room" in message for message in scene.failed)
    finally:
        machine.run("rm", "-rf", ballast, path)


def fill(machine: Machine, ballast: str) -> None:
    machine.run("sh", "-c", f"dd if=/dev/zero of={ballast} bs=1M 2>/dev/null || true")


def ignore(said: str) -> None:
    """What a command says that nobody looks at."""


def test_a_lock_taken_just_before_the_link_broke_is_not_held_by_a_ghost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(lock: ServerLock, now: int) -> None:
        raise EOFError

    entry = SshServer(
        "prod",
        scene.machine.host,
        scene.user,
        scene.path,
        scene.machine.port,
        scene.machine.key_path,
        scene.machine.host_key_line.partition(" ")[2],
    )
    with monkeypatch.context() as patched:
        patched.setattr(ServerLock, "_sweep", broken)
        with pytest.raises(ServerUnavailable):
            SftpTarget(entry, "tests", 0.0).__enter__()
    assert ".mlci-lock" in scene.machine.run("ls", "-A", scene.path).split()
    with SftpTarget(entry, "tests", 0.0) as target:
        assert target.current() is None
