"""An impostor SSH host: a key other than the pinned one is refused, and nothing is sent."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.domain.errors import ServerRejected
from tests.support.releases import Site, settings
from tests.support.sshd import SshServer, make_key


def fingerprint(public_key: str, folder: Path) -> str:
    file = folder / "key.pub"
    file.write_text(public_key + "\n")
    listed = subprocess.run(["ssh-keygen", "-lf", str(file)], check=True, capture_output=True, text=True)
    return listed.stdout.split()[1]


def pinned(server: SshServer) -> str:
    return server.host_key_line.split(" ", 1)[1]


def assert_nothing_was_sent(server: SshServer) -> None:
    log = server.container.logs().decode()
    assert "Connection closed by" in log
    assert "publickey" not in log
    assert "Invalid user" not in log
    assert server.run("ls", "-A", "/srv/models") == ""


def test_a_swapped_host_key_is_refused_with_both_fingerprints(
    sshd_server: Callable[[], SshServer], tmp_path: Path
) -> None:
    server = sshd_server()
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text().rsplit(" ", 1)[0]
    site = Site(server, replace(settings(server, "/srv/models"), host_key=other))
    with pytest.raises(ServerRejected) as caught:
        site.target().__enter__()
    assert fingerprint(pinned(server), tmp_path) in caught.value.message
    assert fingerprint(other, tmp_path) in caught.value.message
    assert "nothing was sent" in caught.value.message
    assert_nothing_was_sent(server)


def test_a_host_key_of_another_kind_than_the_pinned_one_is_refused(
    sshd_server: Callable[[], SshServer], tmp_path: Path
) -> None:
    server = sshd_server()
    key = tmp_path / "ecdsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(key)], check=True)
    other = key.with_suffix(".pub").read_text().rsplit(" ", 1)[0]
    site = Site(server, replace(settings(server, "/srv/models"), host_key=other))
    with pytest.raises(ServerRejected, match="nothing was sent"):
        site.target().__enter__()
    assert_nothing_was_sent(server)


def test_a_host_that_known_hosts_does_not_name_is_refused(
    sshd_server: Callable[[], SshServer], tmp_path: Path
) -> None:
    server = sshd_server()
    known = tmp_path / "known_hosts"
    known.write_text(f"elsewhere.example.org {pinned(server)}\n")
    site = Site(server, replace(settings(server, "/srv/models"), host_key=None, known_hosts=known))
    with pytest.raises(
        ServerRejected, match=r"has none for \[127\.0\.0\.1\]:\d+; nothing was sent"
    ) as caught:
        site.target().__enter__()
    assert fingerprint(pinned(server), tmp_path) in caught.value.message
    assert known.read_text().count("\n") == 1
    assert_nothing_was_sent(server)


def test_the_key_in_known_hosts_is_accepted(sshd_server: Callable[[], SshServer]) -> None:
    server = sshd_server()
    site = Site(
        server, replace(settings(server, "/srv/models"), host_key=None, known_hosts=server.known_hosts_path)
    )
    with site.target() as target:
        assert target.current() is None
