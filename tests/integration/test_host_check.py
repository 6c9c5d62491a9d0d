"""What `hosts check` says of real hosts that cannot be used: one line each, with what to do about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.adapters.process import SystemClock
from orchestrator.bootstrap import Application, read_configuration
from orchestrator.cli.hostcheck import PartResult, check_host, conclusion
from tests.support.hosts import Host, trust
from tests.support.sshd import make_key

Hosts = tuple[Host, Host]
ALL = [
    *(
        "connect",
        "clock",
        "limits",
        "room",
        "image",
        "network",
        "create",
        "put",
        "start",
        "log",
        "end",
        "get",
    ),
    *("gpu", "remove"),
]
UNUSABLE = "lab1: no run can execute here: "


class ShiftedClock(SystemClock):
    """This machine's clock, set wrong: what a host with a wrong clock looks like from here."""

    def __init__(self, by: timedelta) -> None:
        self._by = by

    def now(self) -> datetime:
        return super().now() + self._by


@dataclass
class Laboratory:
    """A configuration with one host, whose key is trusted."""

    folder: Path
    host: Host
    ssh: dict[str, object] = field(default_factory=dict)
    clock: SystemClock = field(default_factory=SystemClock)

    def trusting(self) -> None:
        """Trust the key that the host has now."""
        trust(self.folder / "var", self.host)

    def check(self, *, trusted: bool = True) -> tuple[list[PartResult], str]:
        """What each part says, and the last line."""
        if trusted:
            self.trusting()
        main = {
            "storage": {"path": str(self.folder / "var")},
            "hosts": {"lab1": {"ssh": self.host.ssh | self.ssh, "min_free": "50m"}},
        }
        (self.folder / "orchestrator.yaml").write_text(json.dumps(main))
        with closing(Application(read_configuration(self.folder), clock=self.clock)) as app:
            parts = check_host(app, "lab1", None)
        return parts, conclusion("lab1", parts)


@pytest.fixture
def laboratory(hosts: Hosts, tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path, hosts[0])


@contextmanager
def undone(act: Callable[[], object], undo: Callable[[], object]) -> Iterator[None]:
    act()
    try:
        yield
    finally:
        undo()


def test_a_host_that_is_as_it_should_be_is_ready(laboratory: Laboratory) -> None:
    parts, line = laboratory.check()
    assert [(part.part, part.result) for part in parts if part.result == "fail"] == []
    assert [part.part for part in parts] == ALL
    assert line.startswith("lab1: ready")
    assert "clock" not in line


def test_a_host_without_docker(laboratory: Laboratory) -> None:
    with undone(laboratory.host.stop, laboratory.host.start):
        laboratory.host.run("rm", "-f", "/var/run/docker.sock")
        _, line = laboratory.check()
    assert line.startswith(f"{UNUSABLE}ssh://")
    assert "has no /var/run/docker.sock" in line
    assert "install Docker there and start it" in line


def test_a_host_whose_socket_the_user_may_not_use(laboratory: Laboratory) -> None:
    shut = ("chmod", "600", "/var/run/docker.sock")
    with undone(
        lambda: laboratory.host.run(*shut),
        lambda: laboratory.host.run("chmod", "660", "/var/run/docker.sock"),
    ):
        _, line = laboratory.check()
    assert "ci may not use /var/run/docker.sock" in line
    assert "there, as root: chmod g+rw /var/run/docker.sock;" in line


def test_a_host_that_does_not_know_our_key(laboratory: Laboratory) -> None:
    laboratory.ssh = {"identity_file": str(make_key(laboratory.folder / "other"))}
    _, line = laboratory.check()
    assert f"ci@{laboratory.host.address} is not let in with {laboratory.folder}/other" in line
    assert "authorized_keys" in line


def test_a_host_with_another_key_than_the_trusted_one(laboratory: Laboratory) -> None:
    laboratory.trusting()
    laboratory.host.swap_host_key()
    _, line = laboratory.check(trusted=False)
    assert "shows another host key" in line
    assert "nothing was sent to it" in line
    assert "hosts trust lab1" in line


def test_a_host_with_a_full_disk(laboratory: Laboratory) -> None:
    with undone(lambda: laboratory.host.fill(leave=20 << 20), laboratory.host.empty):
        _, line = laboratory.check()
    assert line.startswith(UNUSABLE)
    assert "50.0 MiB are to stay free (hosts.lab1.min_free)" in line
    assert "`orchestrator hosts prune lab1`" in line


@pytest.mark.parametrize(("hours", "way"), [(1, "behind"), (-1, "ahead of")])
def test_a_host_whose_clock_is_an_hour_off(laboratory: Laboratory, hours: int, way: str) -> None:
    laboratory.clock = ShiftedClock(timedelta(hours=hours))
    parts, line = laboratory.check()
    assert line.startswith("lab1: ready; ")
    assert f"its clock is 1 h 0 m {way} the one here" in line.replace("59 m 59 s", "1 h 0 m")
    assert "timedatectl set-ntp true" in line
    assert [part.part for part in parts] == ALL
