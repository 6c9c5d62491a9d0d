"""Ways to a server: passwords, keys with a passphrase, certificates, the agent, jump hosts."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import paramiko
import pytest

from orchestrator.adapters.sftp import ConfiguredServers, SshServer, connection
from orchestrator.domain.errors import ServerRejected, ServerUnavailable
from tests.support.network import free_port
from tests.support.releases import Site, SiteMaker, settings
from tests.support.sshd import SshServer as Machine
from tests.support.sshd import make_key, ssh_server

NEW = "20261122T054459Z-42"
PASSWORD = "correct horse battery"

DOORS = """
set -e
printf 'deploy:%s' "$1" | chpasswd
printf '%s\\n' "$2" >/etc/ssh/users.pub
printf 'PasswordAuthentication yes\\nTrustedUserCAKeys /etc/ssh/users.pub\\nAllowTcpForwarding yes\\n' \
  >/etc/ssh/sshd_config.d/server.conf
printf 'HostKey /etc/ssh/ssh_host_ed25519_key\\nUseDNS no\\n' >>/etc/ssh/sshd_config.d/server.conf
useradd --create-home --shell /bin/bash fenced
install -d -m 700 -o fenced -g fenced /home/fenced/.ssh
install -m 600 -o fenced -g fenced /home/deploy/.ssh/authorized_keys /home/fenced/.ssh/authorized_keys
printf 'Match User fenced\\n  AllowTcpForwarding no\\n' >>/etc/ssh/sshd_config.d/server.conf
kill -HUP 1
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key that signs users' keys."""
    return make_key(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def door(
    docker_engine: docker.DockerClient,
    sshd_image: str,
    authority: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machine]:
    """A server that takes passwords and certificates, and forwards connections."""
    with ssh_server(docker_engine, sshd_image, tmp_path_factory.mktemp("door")) as machine:
        public = authority.with_suffix(".pub").read_text().strip()
        machine.run("sh", "-c", DOORS, "sh", PASSWORD, public)
        machine.wait_until_it_answers()
        yield machine


def at(machine: Machine, **changes: object) -> Site:
    return Site(machine, replace(settings(machine, "/srv/models"), **changes))  # type: ignore[arg-type]


def live_after_deploying(site: Site, word: bytes) -> str:
    site.deploy(NEW, {"model": word})
    with site.target() as target:
        target.activate(NEW)
    found = site.live()
    site.shell("rm -rf current releases")
    return found


def test_a_password_opens_the_door(door: Machine) -> None:
    site = at(door, identity_file=None, password=PASSWORD)
    assert live_after_deploying(site, b"by password") == "by password"
    assert PASSWORD not in repr(site.server)


def test_a_wrong_password_is_refused_and_never_repeated_in_the_message(door: Machine) -> None:
    with pytest.raises(ServerRejected, match="does not accept that password") as caught:
        at(door, identity_file=None, password="wrong guess").target().__enter__()
    assert "wrong guess" not in str(caught.value)


def test_a_refused_login_is_never_taken_for_a_lost_connection(
    door: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def is_active_in_the_end(client: paramiko.SSHClient) -> bool:
        """Whether it stands once it has had the time to notice that its socket is gone."""
        transport = client.get_transport()
        assert transport is not None
        transport.join(2)
        asked.append(transport.is_active())
        return asked[-1]

    monkeypatch.setattr(connection, "_is_active", is_active_in_the_end)
    with pytest.raises(ServerRejected, match="does not accept that password"):
        at(door, identity_file=None, password="wrong guess").target().__enter__()
    assert asked == [True]


def test_a_key_with_a_passphrase_opens_the_door_with_it(door: Machine, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.write_bytes(door.key_path.read_bytes())
    locked.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret phrase", "-f", str(locked)], check=True)
    site = at(door, identity_file=locked, passphrase="secret phrase")
    assert live_after_deploying(site, b"opened") == "opened"
    with pytest.raises(ServerRejected, match="the passphrase does not open") as caught:
        at(door, identity_file=locked, passphrase="another phrase").target().__enter__()
    assert "another phrase" not in str(caught.value)


@pytest.mark.parametrize("beside", [True, False], ids=["beside the key", "elsewhere"])
def test_a_certificate_opens_the_door_for_a_key_that_the_server_never_saw(
    door: Machine, authority: Path, tmp_path: Path, beside: bool
) -> None:
    key = make_key(tmp_path / "new")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", "-n", "deploy", str(key) + ".pub"]
    subprocess.run(sign, check=True)
    certificate = tmp_path / "new-cert.pub"
    given = None
    if not beside:
        given = certificate.rename(tmp_path / "signed.pub")
    site = at(door, identity_file=key, certificate_file=given)
    assert live_after_deploying(site, b"signed") == "signed"


def test_the_agent_is_asked_when_no_key_is_named(
    door: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        added = subprocess.run(
            [
                "sh",
                "-c",
                'until [ -S "$1" ]; do sleep 0.05; done; exec ssh-add -q "$2"',
                "sh",
                socket,
                door.key_path,
            ],
            env=os.environ | {"SSH_AUTH_SOCK": str(socket)},
            check=False,
            timeout=20,
        )
        assert added.returncode == 0
        assert live_after_deploying(at(door, identity_file=None), b"asked") == "asked"
    finally:
        agent.terminate()
        agent.wait(10)


def inside(door: Machine, target: Machine, user: str = "deploy", **changes: object) -> SshServer:
    """The target as the door reaches it, by its address in Docker's network."""
    target.container.reload()
    networks = target.container.attrs["NetworkSettings"]["Networks"]
    address = next(iter(networks.values()))["IPAddress"]
    hop = replace(settings(door, ""), user=user, what="jump host", name="door", **changes)  # type: ignore[arg-type]
    return replace(settings(target, "/srv/models"), hostname=address, port=22, jumps=(hop,))


def test_a_release_goes_through_a_jump_host(door: Machine, new_site: SiteMaker, machine: Machine) -> None:
    folder = new_site().server.path
    site = Site(machine, replace(inside(door, machine), path=folder))
    site.deploy(NEW, {"model": b"through"})
    assert site.live() == "through"


def test_each_hop_has_a_pinned_key_of_its_own(door: Machine, machine: Machine) -> None:
    theirs = machine.host_key_line.split(" ", 1)[1]
    wrong = inside(door, machine, host_key=theirs)
    with pytest.raises(ServerRejected, match=r"jump host door .* shows the host key .*nothing was sent"):
        Site(machine, wrong).target().__enter__()
    mine = replace(inside(door, machine), host_key=door.host_key_line.split(" ", 1)[1])
    with pytest.raises(ServerRejected, match=r"server prod .* shows the host key .*nothing was sent"):
        Site(machine, mine).target().__enter__()


def test_a_jump_host_that_forwards_nothing_is_named_with_a_remedy(door: Machine, machine: Machine) -> None:
    with pytest.raises(ServerRejected, match="does not let this user through; set AllowTcpForwarding"):
        Site(machine, inside(door, machine, user="fenced")).target().__enter__()


def test_a_machine_that_the_jump_host_cannot_reach_is_unavailable(door: Machine, machine: Machine) -> None:
    unreachable = replace(inside(door, machine), hostname="127.0.0.1", port=free_port())
    with pytest.raises(ServerUnavailable, match="could not connect"):
        Site(machine, unreachable).target().__enter__()


def test_no_more_deployments_than_a_server_may_have_are_connected_at_once(new_site: SiteMaker) -> None:
    site = new_site()
    servers = ConfiguredServers({"prod": replace(site.server, concurrency=1)})
    left = threading.Event()
    with servers.target("prod") as first:

        def second() -> None:
            with servers.target("prod") as target:
                assert left.is_set()
                target.current()

        waiting = threading.Thread(target=second)
        waiting.start()
        assert first.current() is None
        left.set()
    waiting.join(20)
    assert not waiting.is_alive()


def test_a_secret_that_has_no_value_is_asked_for_only_when_the_server_is_connected_to(
    new_site: SiteMaker,
) -> None:
    def unlock(server: SshServer) -> SshServer:
        raise ServerRejected(f"{server}: the login cannot be had")

    servers = ConfiguredServers({"prod": new_site().server}, unlock=unlock)
    assert servers.keep("prod") == 5
    with pytest.raises(ServerRejected, match="the login cannot be had"):
        servers.target("prod")
