"""Hosts that were removed, do not answer or are short of room, and which runs are where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.bootstrap import Application, read_configuration
from tests.support.fake_engine import FakeEngine, Script
from tests.unit.cli.conftest import Command
from tests.unit.cli.test_cli_answers import enqueued, passed
from tests.unit.cli.test_cli_hosts import hold

NO_ANSWER = "there is no socket"


@pytest.fixture
def app(folder: Path) -> Iterator[Application]:
    with closing(Application(read_configuration(folder))) as made:
        yield made


@pytest.fixture
def silent(app: Application) -> Application:
    """Somebody found out that the host does not answer, for another reason than the one that asking shows."""
    now = app.clock.now()
    app.store.hosts.silent("desk", now, "the network is down", now)
    return app


@pytest.fixture
def served(silent: Application) -> Application:
    """The same, and a server is up, which goes on asking it."""
    silent.store.servers.register(silent.processes.this(), "http://127.0.0.1:1", silent.clock.now())
    return silent


def removed(command: Command, folder: Path) -> None:
    """An attempt is on the host of the file, which is removed then."""
    hold(folder, "desk")
    assert command("hosts", "remove", "desk", "--reason", "sold").code == 0


def test_a_removed_host_of_the_file_is_listed_with_who_removed_it_and_what_is_left_there(
    command: Command, folder: Path
) -> None:
    removed(command, folder)
    (host,) = json.loads(command("hosts", "list", "--json").out)
    assert (host["standing"], host["reason"], host["reachable"]) == ("removed", "sold", None)
    assert (host["free"], host["taken"], host["runs"]) == (0, 1, ["wine#1"])
    shown = " ".join(command("hosts", "list").out.split())
    assert "was removed by" in shown
    assert "attempt left" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "wine", "--host", "desk", "--no-wait"),
        ("runs", "retry", "wine#1", "--host", "desk", "--no-wait"),
        ("images", "build", "--host", "desk"),
        ("hosts", "trust", "desk"),
    ],
)
def test_a_removed_host_is_refused_with_what_became_of_it_and_how_it_comes_back(
    command: Command, folder: Path, arguments: tuple[str, ...]
) -> None:
    removed(command, folder)
    ended = command(*arguments)
    assert ended.code == 2
    assert "host desk was removed by " in ended.err
    assert ": sold" in ended.err
    assert "orchestrator hosts resume desk" in ended.err
    assert len(json.loads(command("runs", "list", "--json").out)) == 1, "no run was made"


def test_a_removed_host_can_still_be_checked_and_cleaned_by_its_name(command: Command, folder: Path) -> None:
    removed(command, folder)
    checked = command("hosts", "check", "desk")
    assert checked.code == 3
    conclusion = checked.out.splitlines()[-1]
    assert conclusion.startswith("desk: no run can execute here: ")
    assert NO_ANSWER in conclusion
    assert "it takes no runs until `orchestrator hosts resume desk`" in checked.err
    cleaned = command("hosts", "prune", "desk", "--dry-run")
    assert NO_ANSWER in cleaned.err
    assert command("hosts", "check").out == ""


def test_a_host_that_a_server_found_silent_is_not_asked_by_who_only_looks(
    command: Command, served: Application
) -> None:
    (host,) = json.loads(command("hosts", "list", "--json").out)
    assert (host["reachable"], host["state"], host["free"]) == (False, "the network is down", 0)
    planned = json.loads(command("plan", "wine", "--json").out)
    assert planned["hosts"][0]["image"] == "not known: the network is down"
    assert planned["now"] == "a run would wait for a host: desk does not answer: the network is down"
    cleaned = command("hosts", "prune", "--dry-run")
    assert cleaned.code == 3
    assert "desk does not answer: the network is down" in cleaned.err
    assert NO_ANSWER not in cleaned.err


def test_a_silent_host_that_is_named_is_asked_all_the_same(command: Command, served: Application) -> None:
    assert NO_ANSWER in command("hosts", "prune", "desk", "--dry-run").err
    assert NO_ANSWER in command("hosts", "check", "desk").out


def test_without_a_server_nobody_relies_on_what_was_written_down(
    command: Command, silent: Application
) -> None:
    (host,) = json.loads(command("hosts", "list", "--json").out)
    assert NO_ANSWER in host["state"]
    assert NO_ANSWER in json.loads(command("plan", "wine", "--json").out)["now"]


@pytest.mark.parametrize("free", [98, 9000])
def test_a_host_that_is_short_of_room_has_no_free_slot(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    engine = FakeEngine()
    said = b"overlay            10240000  102400    %d      90%% /" % (free * 1024)
    engine.script(Script(lines=(b"Filesystem 1024-blocks Used Available Capacity Mounted on", said)))
    monkeypatch.setattr(Application, "engines", property(lambda app: {"desk": engine}))
    (host,) = json.loads(command("hosts", "list", "--json").out)
    shown = " ".join(command("hosts", "list").out.split())
    assert host["reachable"]
    if free == 98:
        assert host["free"] == 0
        assert host["lacks"].startswith("98.0 MiB of 9.8 GiB free")
        assert "0 of 2 taken" in shown
        assert "98.0" in shown
    else:
        assert (host["free"], host["lacks"]) == (2, "")
        assert "2 of 2 free" in shown


def test_the_host_of_each_run_is_listed(command: Command, folder: Path) -> None:
    passed(folder)
    enqueued(folder, "other")
    assert [run["hosts"] for run in json.loads(command("runs", "list", "--json").out)] == [[], ["desk"]]
    header, waits, ended = command("runs", "list").out.splitlines()
    at = header.index("host")
    assert waits[at : at + 4].strip() == ""
    assert ended[at : at + 4] == "desk"


def test_an_attempt_that_no_host_took_has_no_host(command: Command, folder: Path) -> None:
    hold(folder, "(none)")
    (run,) = json.loads(command("runs", "list", "--json").out)
    assert run["hosts"] == []
