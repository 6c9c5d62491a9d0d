"""Which connections to hosts there are, and which are ended when a host is reached another way."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.adapters.ssh import SshLinks
from orchestrator.adapters.ssh.link import Link
from orchestrator.adapters.ssh.trouble import Trouble
from orchestrator.domain.errors import EngineUnavailable
from orchestrator.domain.pipeline import HostSpec, SshSpec
from tests.support.waiting import wait_until
from tests.unit.services.worlds import ManualClock


@pytest.fixture
def links(tmp_path: Path) -> Iterator[SshLinks]:
    with closing(SshLinks(tmp_path / "known_hosts", ManualClock())) as made:
        yield made


def lab(hostname: str) -> HostSpec:
    ssh = SshSpec(hostname)
    return HostSpec("lab", str(ssh), ssh=ssh)


def is_closed(link: Link) -> bool:
    if not link._closed:
        return False
    with pytest.raises(EngineUnavailable, match="was closed"):
        link.ready()
    return True


def test_a_former_way_to_a_host_is_kept_until_it_is_parted_from(links: SshLinks) -> None:
    former, now = links.link(lab("a.example.org")), links.link(lab("b.example.org"))
    assert links.link(lab("b.example.org")) is now
    assert not is_closed(former)
    links.part("other")()
    assert not is_closed(former)
    links.part("lab")()
    assert (is_closed(former), is_closed(now)) == (True, False)


def test_forgetting_a_host_ends_its_former_ways_too(links: SshLinks) -> None:
    made = [links.link(lab(f"{name}.example.org")) for name in "abc"]
    links.forget("lab")
    assert all(map(is_closed, made))


def test_a_host_that_comes_back_while_it_is_left_has_a_connection_of_its_own(links: SshLinks) -> None:
    former = links.link(lab("a.example.org"))
    end = links.detach("lab")
    fresh = links.link(lab("a.example.org"))
    end()
    assert (is_closed(former), is_closed(fresh)) == (True, False)


@pytest.fixture
def tries(links: SshLinks, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Those of a link of which every one fails at once; after the first it waits for minutes."""
    made: list[int] = []

    def fail(self: Link) -> tuple[Trouble, bool]:
        made.append(len(made))
        return Trouble("nobody there"), False

    monkeypatch.setattr(Link, "_connection", fail)
    monkeypatch.setattr("orchestrator.adapters.ssh.link.pause", lambda *given: 600.0)
    monkeypatch.setattr("orchestrator.adapters.ssh.link._WATCH", 0.01)
    with pytest.raises(EngineUnavailable, match="nobody there"):
        links.link(lab("a.example.org")).ready()
    yield made
    links.close()


def test_a_host_that_is_not_reached_is_tried_at_once_when_somebody_asks_for_it(
    tries: list[int], tmp_path: Path
) -> None:
    with closing(SshLinks(tmp_path / "known_hosts", ManualClock())) as another_process:
        another_process.again()
    wait_until(lambda: len(tries) == 2, "the second try")


def test_asking_for_a_try_costs_nothing_where_the_folder_cannot_be_written(tmp_path: Path) -> None:
    with closing(SshLinks(tmp_path / "gone" / "ssh" / "known_hosts", ManualClock())) as made:
        made.again()
    assert not (tmp_path / "gone").exists()


def test_the_folder_of_the_sockets_is_locked_itself_so_that_it_is_not_cleaned_away(links: SshLinks) -> None:
    folder = links.link(lab("a.example.org")).files.socket.parent
    seen = os.open(folder, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(seen, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(seen)
