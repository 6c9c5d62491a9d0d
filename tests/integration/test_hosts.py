"""The remote hosts that other tests stand on do what those tests take for granted."""

from __future__ import annotations

import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from docker.errors import NotFound

from tests.support.hosts import Host

Hosts = tuple[Host, Host]
ASK = "docker version --format '{{.Server.Version}}'"


def ssh(
    folder: Path, host: Host, *command: str, address: str = "", port: int = 22, line: str = ""
) -> tuple[int, str]:
    """Log in as its user and run a command; exit code and all that was said."""
    known = folder / "known_hosts"
    known.write_text((line or host.host_key_line) + "\n")
    options = [
        f"UserKnownHostsFile={known}",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "ConnectTimeout=1",
    ]
    done = subprocess.run(
        ["ssh", "-F", "none", "-i", str(host.key_path), "-p", str(port)]
        + [word for option in options for word in ("-o", option)]
        + [f"{host.user}@{address or host.address}", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_host_lets_a_user_without_rights_in_who_may_use_its_engine(hosts: Hosts, tmp_path: Path) -> None:
    code, said = ssh(tmp_path, hosts[0], f"id -un; test -w /etc || echo no rights; {ASK}")
    assert (code, said.splitlines()[0], "no rights" in said) == (0, "ci", True)
    assert said.splitlines()[-1][:1].isdigit()


def test_two_hosts_are_two_machines_with_an_engine_each(hosts: Hosts, base_image: str) -> None:
    first, second = hosts
    assert first.host_key != second.host_key
    assert first.boot_id != second.boot_id
    with closing(first.client()) as one, closing(second.client()) as other:
        one.containers.create(base_image, name="only-here")
        with pytest.raises(NotFound):
            other.containers.get("only-here")


def test_a_cut_link_is_a_black_hole_until_it_is_restored(hosts: Hosts, tmp_path: Path) -> None:
    first, second = hosts
    first.cut()
    code, said = ssh(tmp_path, first, "true")
    assert (code, "timed out" in said) == (255, True), said
    assert ssh(tmp_path, second, "true")[0] == 0
    assert first.run("hostname").strip() == first.hostname, "the test's own way is cut as well"
    first.restore()
    assert ssh(tmp_path, first, "true") == (0, "")


def test_a_power_cut_ends_what_runs_and_keeps_the_disk_and_the_host_key(
    hosts: Hosts, base_image: str, tmp_path: Path
) -> None:
    host, _ = hosts
    before = host.boot_id
    with closing(host.client()) as engine:
        engine.containers.run(base_image, ["sleep", "600"], name="cut", detach=True)
    host.power_off()
    host.power_on()
    assert host.boot_id != before
    with closing(host.client()) as engine:
        cut = engine.containers.get("cut")
        assert (cut.status, cut.attrs["State"]["ExitCode"]) == ("exited", 255)
        seen = engine.containers.run(
            base_image,
            ["cat", "/boot_id"],
            volumes={"/proc/sys/kernel/random/boot_id": {"bind": "/boot_id", "mode": "ro"}},
            remove=True,
        )
        assert seen.decode().strip() == host.boot_id, "a container of the host sees another boot id"
    assert ssh(tmp_path, host, "true")[0] == 0


def test_a_link_delays_and_freezes_what_passes(hosts: Hosts, tmp_path: Path) -> None:
    host, _ = hosts
    with host.over_a_link(delay=0.1) as link:
        here = host.line_at("127.0.0.1", link.port)
        began = time.monotonic()
        assert ssh(tmp_path, host, "true", address="127.0.0.1", port=link.port, line=here) == (0, "")
        assert time.monotonic() - began > 5 * 0.2, "a login has more round trips than that"
        link.freeze()
        code, said = ssh(tmp_path, host, "true", address="127.0.0.1", port=link.port, line=here)
        assert (code, "timed out" in said) == (255, True), said


def test_a_host_with_another_key_is_refused(hosts: Hosts, tmp_path: Path) -> None:
    host, _ = hosts
    before = host.host_key_line
    host.swap_host_key()
    code, said = ssh(tmp_path, host, "true", line=before)
    assert (code, "HOST IDENTIFICATION HAS CHANGED" in said) == (255, True), said
    assert ssh(tmp_path, host, "true") == (0, "")


def test_frozen_logins_hang_and_new_ones_work(hosts: Hosts, tmp_path: Path) -> None:
    host, _ = hosts
    known = tmp_path / "first"
    known.write_text(host.host_key_line + "\n")
    arguments = ["-F", "none", "-i", str(host.key_path), "-o", f"UserKnownHostsFile={known}", "-o"]
    login = subprocess.Popen(
        ["ssh", *arguments, "BatchMode=yes", f"{host.user}@{host.address}", "echo in; read x; echo out"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with login:
        assert login.stdout is not None
        assert login.stdin is not None
        assert login.stdout.readline() == b"in\n"
        host.freeze_logins()
        login.stdin.write(b"\n")
        login.stdin.flush()
        assert ssh(tmp_path, host, "true")[0] == 0, "a new login has to work"
        assert login.poll() is None
        host.thaw_logins()
        assert login.stdout.readline() == b"out\n"


def test_a_host_is_whole_and_empty_again_after_a_test(hosts: Hosts, base_image: str, tmp_path: Path) -> None:
    host, _ = hosts
    with closing(host.client()) as engine:
        engine.containers.run(base_image, ["sleep", "600"], detach=True, init=True)
        engine.volumes.create("left")
    host.cut()
    host.kill_engine()
    host.heal()
    host.clear()
    assert ssh(tmp_path, host, ASK)[0] == 0
    with closing(host.client()) as engine:
        assert (engine.containers.list(all=True, ignore_removed=True), engine.volumes.list()) == ([], [])
        assert base_image in engine.images.get(base_image).tags
