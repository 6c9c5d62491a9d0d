"""An impostor in the place of a host: another key than the trusted one, and nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.adapters.process import SystemClock
from orchestrator.adapters.ssh import SshLinks
from orchestrator.adapters.ssh.keys import fingerprint
from orchestrator.domain.errors import HostRefused
from orchestrator.domain.pipeline import HostSpec, SshSpec
from orchestrator.ports.links import LinkState
from tests.support.hosts import Host
from tests.support.waiting import wait_until

Hosts = tuple[Host, Host]
PORT = 2022
LOG = "/tmp/impostor.log"


@pytest.fixture
def impostor(hosts: Hosts) -> Iterator[Host]:
    """A machine whose sshd writes down all that it is told; everybody of the group may log in."""
    host = hosts[1]
    host.run("rm", "-f", LOG)
    host.run(
        "/usr/sbin/sshd",
        "-p",
        str(PORT),
        "-E",
        LOG,
        "-o",
        "LogLevel=DEBUG2",
        "-o",
        "PidFile=/tmp/impostor.pid",
    )
    yield host
    host.run("sh", "-c", "kill $(cat /tmp/impostor.pid)")


def at(host: Host, config: str | None = None) -> HostSpec:
    ssh = SshSpec(host.address, host.user, PORT, identity_file=str(host.key_path), config=config)
    return HostSpec("lab1", str(ssh), ssh=ssh)


def trusting(folder: Path, key: str, host: Host) -> SshLinks:
    known = folder / "known_hosts"
    known.write_text(f"[{host.address}]:{PORT} {key}\n")
    return SshLinks(known, SystemClock())


def heard(host: Host) -> str:
    return host.run("cat", LOG)


def test_a_swapped_host_key_is_refused_and_nothing_is_sent(
    hosts: Hosts, impostor: Host, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        links = stack.enter_context(closing(trusting(tmp_path, hosts[0].host_key, impostor)))
        engine = stack.enter_context(closing(DockerEngine("lab1", "test", way=links.link(at(impostor)))))
        for _ in range(2):
            with pytest.raises(HostRefused) as caught:
                engine.info()
        with pytest.raises(HostRefused, match="nothing was sent"):
            links.run(at(impostor), ["id"])
        assert fingerprint(hosts[0].host_key.split()[1]) in caught.value.message
        assert fingerprint(impostor.host_key.split()[1]) in caught.value.message
        assert "orchestrator hosts trust lab1" in caught.value.remedy
        status = links.status("lab1")
        assert status is not None
        assert status.state is LinkState.REFUSED
    wait_until(lambda: "Connection closed by" in heard(impostor), "the impostor to notice")
    assert "userauth-request" not in heard(impostor)
    assert "KEX done" not in heard(impostor)


def test_what_the_impostor_would_have_heard_is_heard_by_the_trusted_machine(
    impostor: Host, tmp_path: Path
) -> None:
    with closing(trusting(tmp_path, impostor.host_key, impostor)) as links:
        assert links.run(at(impostor), ["id", "-un"]).out == "ci\n"
    assert "userauth-request" in heard(impostor)
    assert "KEX done" in heard(impostor)


def test_looking_at_a_key_sends_no_login(hosts: Hosts, impostor: Host, tmp_path: Path) -> None:
    with closing(trusting(tmp_path, hosts[0].host_key, impostor)) as links:
        (key,) = links.keys(at(impostor))
        assert key.fingerprint == fingerprint(impostor.host_key.split()[1])
        assert key.known == (fingerprint(hosts[0].host_key.split()[1]),)
        assert not key.trusted
    assert "publickey" not in heard(impostor)


def test_an_ssh_config_of_the_user_cannot_let_an_impostor_in(
    hosts: Hosts, impostor: Host, tmp_path: Path
) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(
        "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  VerifyHostKeyDNS yes\n"
        "  NoHostAuthenticationForLocalhost yes\n  KnownHostsCommand /bin/true\n"
    )
    links = trusting(tmp_path, hosts[0].host_key, impostor)
    with closing(links), pytest.raises(HostRefused, match="another host key"):
        links.run(at(impostor, config=str(config)), ["id"])
    assert "userauth-request" not in heard(impostor)
