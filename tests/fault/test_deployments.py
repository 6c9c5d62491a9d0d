"""Deployments broken at every point while a reader polls what is served (fault 20).

The reader never finds a missing, half or mixed release, and the record always says what is live.
``MLCI_FAULTS`` says how often a deployment is broken in each way: 102 make hundreds of deployments.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from orchestrator.adapters.sftp import SshServer
from orchestrator.adapters.sftp.lock import Along, ServerLock
from orchestrator.adapters.sftp.target import SftpTarget
from orchestrator.domain.errors import ServerUnavailable
from tests.support.releases import fresh_folder, with_files_only_account
from tests.support.servedfile import Reader
from tests.support.servingscene import FAULTS, Look, Scene, look_at, scene_at
from tests.support.sshd import SshServer as Machine
from tests.support.sshd import ssh_server

FULL_DISKS = max(1, FAULTS // 4)


@pytest.fixture(scope="module")
def machine(
    docker_engine: docker.DockerClient, sshd_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    with ssh_server(docker_engine, sshd_image, tmp_path_factory.mktemp("sshd")) as server:
        with_files_only_account(server)
        yield server


@pytest.fixture(scope="module")
def look(machine: Machine) -> Iterator[Look]:
    with look_at(machine) as made:
        yield made


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
    take = ServerLock._take

    def broken(lock: ServerLock, ours: str, along: Along) -> int:
        take(lock, ours, along)
        lock._connection.close()
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
        patched.setattr(ServerLock, "_take", broken)
        with pytest.raises(ServerUnavailable):
            SftpTarget(entry, "tests", 0.0).__enter__()
    assert ".mlci-lock" in scene.machine.run("ls", "-A", scene.path).split()
    with SftpTarget(entry, "tests", 0.0) as target:
        assert target.current() is None
