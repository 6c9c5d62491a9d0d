"""Deployments broken at every point while a reader polls what is served (fault 20).

The reader never finds a missing, half or mixed release, and the record always says what is live.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import docker
import paramiko
import pytest

from orchestrator.adapters.sftp import SshServer
from orchestrator.adapters.sftp.lock import ServerLock
from orchestrator.adapters.sftp.target import SftpTarget
from orchestrator.domain.errors import ServerUnavailable
from tests.support.deploying import Deployments, deployments, server_entry, whole
from tests.support.releases import fresh_folder, with_files_only_account
from tests.support.servedfile import Reader
from tests.support.sshd import SshServer as Machine
from tests.support.sshd import ssh_server
from tests.support.tcplink import TcpLink

FAULTS = {"deploy": 35, "files": 15}
"""How often a deployment is broken in each way, spread over all that it sends and is sent; by account."""

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

    def deploy_broken(self, at: int, fault: Callable[[], None]) -> None:
        """Deploy, with a fault at a byte: what is live is what the record says, then and at the end."""
        run = self.made.passed(files_of(len(self.activated)))
        self.link.arm(at, fault)
        self.made.carry_out()
        self.broken += self.link.sprung.is_set()
        self.link.arm()
        assert self.on_the_server() in self.made.may_be_live(), f"after the fault at byte {at}"
        self.made.finish(run)
        (deployment,) = self.made.of(run)
        told = f"after the fault at byte {at}: {deployment.message}"
        assert (deployment.state.value, self.made.live()) == ("active", deployment.release), told
        assert self.on_the_server() == deployment.release, told
        self.activated.append(deployment.release)

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


@pytest.fixture(params=["deploy", "files"], ids=["with a shell", "files only"])
def scene(request: pytest.FixtureRequest, machine: Machine, look: Look, tmp_path: Path) -> Iterator[Scene]:
    user = request.param
    path = fresh_folder(machine, user)
    with TcpLink(machine.host, machine.port) as link:
        entry = server_entry(machine, path, link.port)
        assert isinstance(entry["ssh"], dict)
        entry["ssh"]["user"] = user
        with deployments(tmp_path, {"prod": entry}) as made:
            yield Scene(machine, link, made, path, look, user)


def broken_everywhere(scene: Scene, fault: Callable[[], None]) -> Reader:
    """Break a deployment at each point while the reader reads; a last one then finds all in order."""
    points = scene.points()
    with Reader(scene.machine, scene.path) as reader:
        for at in points:
            scene.deploy_broken(at, fault)
        scene.deploy()
    assert scene.broken == scene.faults
    return reader


def assert_only_whole_releases_were_seen(scene: Scene, reader: Reader) -> None:
    assert reader.wrong == ()
    assert list(reader.seen) == scene.activated[-len(reader.seen) :]
    # The last one may have gone live and the reader have been stopped before its next look.
    assert len(reader.seen) > scene.broken
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
