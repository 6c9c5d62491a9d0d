"""orchestrator.yaml, changed while a server runs: its hosts are taken over, its mistakes are told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from orchestrator.bootstrap import read_configuration
from orchestrator.bootstrap.configured import host_of
from orchestrator.bootstrap.hostsfile import HostsFile
from orchestrator.services.fleet import Fleet
from orchestrator.store import SqlStore, open_store
from tests.support.configuration import ConfigFolder
from tests.support.fake_engine import FakeEngine
from tests.unit.services.worlds import ManualClock

HOSTS = "hosts: {local: {engine: unix:///local.sock, slots: 2}}\n"


class Watch:
    """A configuration folder that is looked at."""

    def __init__(self, path: Path, store: SqlStore) -> None:
        self.path = path / "orchestrator.yaml"
        self.changes = 0
        self.store = store
        clock = ManualClock()
        config = read_configuration(path, check_paths=False)
        configured = [host_of(name, host) for name, host in config.orchestrator.hosts.items()]
        self.fleet = Fleet(configured, lambda: store, clock, lambda host: FakeEngine(store.instance))
        self.file = HostsFile(
            path, config.orchestrator, self.fleet, store.journal, clock, lambda: self._changed()
        )

    def _changed(self) -> None:
        self.changes += 1

    def write(self, text: str) -> None:
        # Beside it first, as editors do: it is never seen half written.
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.path)
        self.file.look()
        self.file.look()

    @property
    def slots(self) -> dict[str, int]:
        return {host.name: host.slots for host in self.fleet.usable}

    @property
    def noted(self) -> list[str]:
        return [entry.reason for entry in reversed(self.store.journal.latest())]


@pytest.fixture
def watch(folder: ConfigFolder, tmp_path: Path) -> Watch:
    folder.write("orchestrator.yaml", HOSTS)
    return Watch(folder.path, open_store(f"sqlite:///{tmp_path / 'hosts.db'}"))


def test_hosts_are_taken_over_when_the_file_changes(watch: Watch) -> None:
    watch.file.look()
    assert (watch.slots, watch.changes) == ({"local": 2}, 0)
    watch.write("hosts: {local: {engine: unix:///local.sock, slots: 5}, lab: {engine: unix:///lab.sock}}\n")
    assert (watch.slots, watch.changes) == ({"local": 5, "lab": 1}, 1)
    assert watch.noted == ["host lab was added", "host local was changed"]
    watch.file.look()
    assert watch.changes == 1


def test_a_file_that_still_grows_is_left_alone_until_it_is_whole(watch: Watch) -> None:
    whole = HOSTS.replace("}}", "}, lab: {engine: unix:///lab.sock}}")
    for written in ("hosts: {local: {slots: 1}}\n", whole):
        watch.path.write_text(written)
        watch.file.look()
        assert (watch.slots, watch.noted) == ({"local": 2}, [])
    watch.file.look()
    assert watch.slots == {"local": 2, "lab": 1}


@pytest.mark.parametrize("cut", ["", "retention: {runs: 30d}\n"], ids=["empty", "cut"])
def test_a_file_that_has_lost_its_hosts_is_told_and_the_hosts_stay(watch: Watch, cut: str) -> None:
    watch.write("hosts: {lab: {engine: unix:///lab.sock}}\n")
    watch.write(cut)
    assert (watch.slots, watch.changes) == ({"lab": 1}, 1)
    assert watch.noted[-1].endswith(
        "has no hosts section any more, so the hosts stay as they are until a restart"
    )
    watch.write(HOSTS)
    assert watch.slots == {"local": 2}


def test_a_broken_file_is_told_once_and_the_hosts_stay(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    watch.write("hosts: {local: {slotz: 9}}\n")
    watch.file.look()
    assert (watch.slots, watch.changes) == ({"local": 2}, 0)
    (noted,) = watch.noted
    assert "so the hosts stay as they are" in noted
    assert 'orchestrator.yaml:1:17: unknown key "slotz"' in noted
    assert sum("slotz" in record.message for record in caplog.records) == 2
    watch.write(HOSTS.replace("2", "3"))
    assert watch.slots == {"local": 3}


def test_a_file_that_is_gone_changes_nothing_until_it_is_back(watch: Watch) -> None:
    watch.path.unlink()
    watch.file.look()
    assert watch.slots == {"local": 2}
    watch.write(HOSTS.replace("2", "7"))
    assert watch.slots == {"local": 7}


def test_what_else_changed_is_said_to_count_after_a_restart(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    watch.write(HOSTS.replace("2", "3"))
    assert caplog.records == []
    watch.write(HOSTS + "retention: {runs: 30d}\n")
    watch.write(HOSTS.replace("2", "4") + "retention: {runs: 30d}\n")
    assert len([r for r in caplog.records if "counts after a restart" in r.message]) == 1
    assert watch.slots == {"local": 4}
