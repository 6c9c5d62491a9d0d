"""Hosts that come, change and go while everybody looks at them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import delete

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.host import HostState
from orchestrator.domain.pipeline import HostSpec
from orchestrator.ports.engine import Engine
from orchestrator.services.fleet import KNOWN, ByName, End, Fleet
from orchestrator.store.tables import SlotRow
from tests.support.fake_engine import FakeEngine
from tests.unit.services.worlds import World, pipeline

LOCAL = HostSpec("local", "unix:///local.sock", 2)
LAB = HostSpec("lab", "unix:///lab.sock", 4)


class Yard:
    """A fleet with what it made."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.made: list[str] = []
        self.left: list[str] = []
        self.parted: list[str] = []
        self.may_end = Event()
        self.may_end.set()
        self.fleet = Fleet([LOCAL], lambda: world.store, world.clock, self._connect, self._leave, self._part)

    def _connect(self, host: HostSpec) -> Engine:
        self.made.append(host.engine)
        return FakeEngine(self.world.store.instance)

    def _leave(self, host: str, engine: Engine) -> End:
        def end() -> None:
            assert self.may_end.wait(30)
            self.left.append(host)

        return end

    def _part(self, host: str) -> End:
        return partial(self.parted.append, host)

    def free(self, attempt_id: int) -> None:
        """An attempt gives its slot back."""
        with self.world.store._database.writing() as session:
            session.execute(delete(SlotRow).where(SlotRow.attempt_id == attempt_id))

    def later(self) -> None:
        self.world.clock.advance(KNOWN)

    def hold(self, host: str) -> int:
        """An attempt takes a slot of a host."""
        run = self.world.first_run(pipeline())
        (attempt,) = self.world.store.attempts.of_run(run.id)
        store, now = self.world.store, self.world.clock.now()
        assert store.attempts.claim(attempt.id, host, 9, "box", "me", now, 60) is not None
        return attempt.id

    @property
    def usable(self) -> list[str]:
        return [host.name for host in self.fleet.usable]


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    world = World(tmp_path)
    try:
        yield Yard(world)
    finally:
        world.close()


def test_a_host_that_was_added_is_seen_by_those_who_looked_before(yard: Yard) -> None:
    usable, by_name = yard.fleet.usable, ByName(yard.fleet.known)
    assert [host.name for host in usable] == ["local"]
    yard.world.store.hosts.add(LAB, "ann", "", yard.world.clock.now())
    yard.later()
    assert [host.name for host in usable] == ["local", "lab"]
    assert by_name["lab"] == LAB
    assert list(yard.fleet.engines) == ["local", "lab"]


def test_the_rows_are_read_once_in_a_while(yard: Yard) -> None:
    assert yard.usable == ["local"]
    yard.world.store.hosts.add(LAB, "ann", "", yard.world.clock.now())
    assert yard.usable == ["local"]
    yard.fleet.refresh()
    assert yard.usable == ["local", "lab"]


def test_the_configuration_counts_more_than_what_was_added(yard: Yard) -> None:
    yard.world.store.hosts.add(HostSpec("local", "unix:///evil.sock", 99), "ann", "", yard.world.clock.now())
    assert list(yard.fleet.usable) == [LOCAL]


def test_an_engine_is_made_once_and_anew_when_its_address_changes(yard: Yard) -> None:
    first = yard.fleet.engines["local"]
    assert yard.fleet.engines["local"] is first
    yard.fleet.configure([HostSpec("local", "unix:///local.sock", 8)])
    assert yard.fleet.engines["local"] is first
    yard.fleet.configure([HostSpec("local", "unix:///other.sock", 8)])
    assert yard.fleet.engines["local"] is not first
    assert yard.made == ["unix:///local.sock", "unix:///other.sock"]
    with pytest.raises(KeyError):
        yard.fleet.engines["lab"]


def test_each_change_of_the_configuration_is_told(yard: Yard) -> None:
    told = yard.fleet.configure([HostSpec("local", "unix:///local.sock", 3), LAB])
    assert told == ("host lab was added", "host local was changed")
    assert yard.fleet.configure([LAB]) == ("host local was removed",)
    assert yard.fleet.configure([LAB]) == ()
    assert yard.usable == ["lab"]


def test_a_host_that_leaves_the_configuration_is_known_until_its_attempts_have_ended(yard: Yard) -> None:
    attempt_id = yard.hold("local")
    engine = yard.fleet.engines["local"]
    assert yard.fleet.configure([LAB])[-1] == "host local was removed, its attempts go on"
    assert yard.usable == ["lab"]
    assert yard.fleet.engines["local"] is engine
    yard.fleet.tidy()
    assert "local" in yard.fleet.engines
    yard.free(attempt_id)
    yard.fleet.tidy()
    assert list(yard.fleet.engines) == ["lab"]
    yard.fleet.close()
    assert yard.left == ["local"]
    assert yard.world.store.hosts.all() == {}


def test_a_new_address_of_a_host_with_attempts_is_told(yard: Yard) -> None:
    yard.hold("local")
    told = yard.fleet.configure([HostSpec("local", "unix:///other.sock", 2)])
    assert told == ("host local has another address, and its attempts are looked for there",)


def test_a_former_address_is_needed_until_no_attempt_is_on_the_host(yard: Yard) -> None:
    attempt_id = yard.hold("local")
    for address in ("unix:///local.sock", "unix:///other.sock", "unix:///third.sock"):
        yard.fleet.configure([HostSpec("local", address, 2)])
        yard.fleet.engine("local")
    yard.fleet.tidy()
    yard.free(attempt_id)
    assert yard.parted == []
    yard.fleet.tidy()
    yard.fleet.tidy()
    yard.fleet.close()
    assert (yard.parted, yard.left) == (["local"], [])


def test_a_host_that_takes_long_to_leave_holds_nobody_up(yard: Yard) -> None:
    yard.fleet.engine("local")
    yard.may_end.clear()
    assert yard.fleet.configure([LAB]) == ("host lab was added", "host local was removed")
    assert yard.left == []
    yard.may_end.set()
    yard.fleet.close()
    assert yard.left == ["local"]


def test_a_host_whose_engine_was_never_used_is_left_without_a_word(yard: Yard) -> None:
    yard.fleet.configure([LAB])
    assert (yard.made, yard.left) == ([], [])


def test_a_host_that_comes_back_into_the_file_is_used_again(yard: Yard) -> None:
    yard.hold("local")
    yard.fleet.configure([LAB])
    yard.fleet.configure([LOCAL, LAB])
    assert yard.usable == ["local", "lab"]
    assert yard.fleet.record("local").state is HostState.ACTIVE


def test_a_drained_host_that_comes_back_into_the_file_is_drained(yard: Yard) -> None:
    yard.hold("local")
    hosts, now = yard.world.store.hosts, yard.world.clock.now()
    hosts.set_state("local", HostState.DRAINING, "ann", "a new disk", now)
    for _ in range(2):
        yard.fleet.configure([LAB])
        assert yard.usable == ["lab"]
        yard.fleet.configure([LOCAL, LAB])
        assert yard.fleet.record("local").state is HostState.DRAINING
    hosts.set_state("local", HostState.ACTIVE, "ann", "", now)
    yard.fleet.configure([LAB])
    yard.fleet.configure([LOCAL, LAB])
    assert yard.fleet.record("local").state is HostState.ACTIVE


def test_a_host_that_was_removed_by_command_stays_so_whatever_the_file_says(yard: Yard) -> None:
    now = yard.world.clock.now()
    yard.world.store.hosts.set_state("local", HostState.REMOVED, "ann", "", now)
    yard.fleet.configure([HostSpec("local", "unix:///local.sock", 9)])
    yard.fleet.tidy()
    assert yard.usable == []
    assert [host.name for host in yard.fleet.known] == ["local"]


def test_what_people_did_to_hosts_is_in_the_log_once(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    hosts, now = yard.world.store.hosts, yard.world.clock.now()
    hosts.set_state("local", HostState.DRAINING, "bob", "before this server began", now)
    yard.fleet.tidy()
    caplog.set_level(logging.INFO)
    hosts.set_state("local", HostState.REMOVED, "ann", "sold", now)
    hosts.add(LAB, "ann", "", now)
    for _ in range(2):
        yard.later()
        yard.fleet.tidy()
    hosts.set_state("local", HostState.ACTIVE, "bob", "", now)
    yard.later()
    yard.fleet.tidy()
    assert [record.getMessage() for record in caplog.records] == [
        "host lab was added by ann",
        "host local was removed by ann: sold",
        "host local was resumed by bob",
    ]


def test_a_database_that_does_not_answer_leaves_what_was_known(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert yard.usable == ["local"]

    def refuse() -> None:
        raise StoreUnavailable("busy")

    monkeypatch.setattr(yard.world.store.hosts, "all", refuse)
    yard.later()
    assert yard.usable == ["local"]
