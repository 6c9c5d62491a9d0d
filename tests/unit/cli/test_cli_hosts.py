"""Hosts that people add, drain, resume and remove by command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.bootstrap import Application, read_configuration
from tests.unit.cli.conftest import Command
from tests.unit.cli.test_cli_answers import enqueued


def usable(folder: Path) -> list[str]:
    app = Application(read_configuration(folder))
    try:
        return [host.name for host in app.hosts]
    finally:
        app.close()


def hold(folder: Path, host: str) -> None:
    """An attempt takes a slot of a host."""
    run = enqueued(folder)
    app = Application(read_configuration(folder))
    try:
        (attempt,) = app.store.attempts.of_run(run.id)
        assert app.store.attempts.claim(attempt.id, host, 9, "box", "me", app.clock.now(), 60) is not None
    finally:
        app.close()


def test_an_added_host_has_the_keys_that_the_file_would_have(command: Command, folder: Path) -> None:
    key = folder / "known_hosts"
    ended = command(
        *("hosts", "add", "lab", "--ssh", "ci@lab.example.org:2222", "--identity-file", str(key)),
        *("--proxy-jump", "bastion", "--slots", "4", "--label", "gpu=h100", "--set", "gpus=none"),
        *("--set", "reachable=[10.0.0.0/24]", "--reason", "a new machine", "--json"),
    )
    assert ended.code == 0, ended.err
    made = json.loads(ended.out)
    assert (made["name"], made["slots"], made["labels"], made["gpus"]) == ("lab", 4, [["gpu", "h100"]], [])
    assert made["reachable"] == ["10.0.0.0/24"]
    assert made["ssh"] | {"config": None} == {
        "hostname": "lab.example.org",
        "user": "ci",
        "port": 2222,
        "identity_file": str(key),
        "proxy_jump": "bastion",
        "known_hosts": None,
        "config": None,
        "socket": "/var/run/docker.sock",
    }
    assert "orchestrator hosts trust lab" in ended.err
    app = Application(read_configuration(folder))
    try:
        assert [host.name for host in app.hosts] == ["desk", "lab"]
        assert app.fleet.record("lab").reason == "a new machine"
    finally:
        app.close()


def test_a_key_that_only_a_person_can_use_is_told_when_its_host_is_added(
    command: Command, folder: Path
) -> None:
    key = folder / "locked"
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    ended = command("hosts", "add", "lab", "--ssh", "ci@lab", "--identity-file", str(key))
    assert ended.code == 0, ended.err
    assert f"warning: {key} has a passphrase" in ended.err
    key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert (
        "passphrase" not in command("hosts", "add", "lab", "--ssh", "ci@lab", "--identity-file", str(key)).err
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "the host has no address, or two"),
        (("--engine", "unix:///a.sock", "--ssh", "lab"), "the host has no address, or two"),
        (("--engine", "tcp://lab:2375"), "gives root to everyone"),
        (("--engine", "unix:///a.sock", "--identity-file", "k"), "needs no key"),
        (("--engine", "unix:///a.sock", "--slots", "many"), "host lab: "),
        (("--engine", "unix:///a.sock", "--set", "slotz=3"), "slots"),
        (("--engine", "unix:///a.sock", "--label", "gpu"), '"gpu" is not KEY=VALUE'),
        (("--engine", "unix:///a.sock", "--set", "labels={"), "is no YAML"),
        (("--ssh", "-oProxyCommand=evil"), "is not the name or address of a machine"),
        (
            ("--ssh", "lab", "--identity-file", "nokey"),
            "nokey does not exist. To do: a private key; relative",
        ),
        (("--ssh", "lab", "--identity-file", "/"), "/ is no file"),
    ],
)
def test_what_cannot_be_a_host_is_not_added(
    command: Command, folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    ended = command("hosts", "add", "lab", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert usable(folder) == ["desk"]


def test_the_state_folder_that_the_file_names_is_no_data_of_an_added_host(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    state = tmp_path / "kept elsewhere"
    (state / "logs").mkdir(parents=True)
    main = folder / "orchestrator.yaml"
    main.write_text(f"{main.read_text()}\nstorage: {{path: {json.dumps(str(state))}}}\n")
    ended = command(
        *("hosts", "add", "lab", "--engine", "unix:///a.sock"),
        *("--set", f"data={{wine: {json.dumps(str(state / 'logs'))}}}"),
    )
    assert (ended.code, ended.out) == (2, "")
    assert "cannot be shown to runs" in ended.err
    assert usable(folder) == ["desk"]


def test_a_host_that_is_added_again_was_replaced(command: Command, folder: Path) -> None:
    assert "host lab was added" in command("hosts", "add", "lab", "--engine", "unix:///a.sock").err
    assert "host lab was replaced" in command("hosts", "add", "lab", "--engine", "unix:///b.sock").err


def test_a_host_of_the_file_is_changed_in_the_file(command: Command, folder: Path) -> None:
    ended = command("hosts", "add", "desk", "--engine", "unix:///a.sock")
    assert ended.code == 2
    assert "orchestrator.yaml has a host desk" in ended.err


def test_a_host_with_attempts_does_not_move(command: Command, folder: Path) -> None:
    command("hosts", "add", "lab", "--engine", "unix:///a.sock")
    hold(folder, "lab")
    moved = command("hosts", "add", "lab", "--engine", "unix:///b.sock")
    assert moved.code == 2
    assert "hosts drain lab --wait" in moved.err
    assert command("hosts", "add", "lab", "--engine", "unix:///a.sock", "--slots", "3").code == 0


def test_a_drained_host_says_so_to_the_runs_that_wait_and_takes_them_when_resumed(
    command: Command, folder: Path
) -> None:
    run = enqueued(folder)
    assert command("hosts", "drain", "desk", "--reason", "a new disk").code == 0
    _, why = json.loads(command("runs", "show", str(run.id), "--json").out)["waiting"]
    assert why.startswith("it waits for a host: desk is being drained by ")
    assert why.endswith(": a new disk")
    planned = json.loads(command("plan", "wine", "--json").out)
    assert planned["now"].startswith("a run would wait for a host: desk is being drained by ")
    assert command("hosts", "resume", "desk").code == 0
    _, why = json.loads(command("runs", "show", str(run.id), "--json").out)["waiting"]
    assert "does not answer" in why


def test_a_removed_host_is_not_listed_and_what_only_it_fits_is_told(command: Command, folder: Path) -> None:
    command("hosts", "add", "lab", "--engine", "unix:///a.sock")
    assert command("hosts", "remove", "desk").code == 0
    assert usable(folder) == ["lab"]
    assert command("hosts", "remove", "lab").code == 0
    assert usable(folder) == []
    planned = json.loads(command("plan", "wine", "--json").out)
    assert planned["now"].startswith("a run would fail to start: no host of the configuration fits")
    assert command("hosts", "resume", "desk").code == 0
    assert usable(folder) == ["desk"]
    assert command("hosts", "resume", "lab").code == 2, "it was forgotten"


def test_a_removed_host_is_known_until_its_last_attempt_has_ended(command: Command, folder: Path) -> None:
    command("hosts", "add", "lab", "--engine", "unix:///a.sock")
    hold(folder, "lab")
    ended = command("hosts", "remove", "lab")
    assert "1 attempt there goes on" in ended.err
    assert usable(folder) == ["desk"]
    app = Application(read_configuration(folder))
    try:
        assert "lab" in app.engines
    finally:
        app.close()


def test_a_host_that_is_none_cannot_be_drained(command: Command, folder: Path) -> None:
    ended = command("hosts", "drain", "desk", "dask")
    assert ended.code == 2
    assert 'there is no host "dask"' in ended.err
    app = Application(read_configuration(folder))
    try:
        assert app.fleet.record("desk").state.value == "active", "nothing is done by halves"
    finally:
        app.close()


def test_what_was_done_to_hosts_is_in_the_history(command: Command, folder: Path) -> None:
    command("hosts", "add", "lab", "--engine", "unix:///a.sock", "--reason", "new")
    command("hosts", "drain", "lab", "--reason", "old")
    app = Application(read_configuration(folder))
    try:
        rows = [(e.subject, e.after, e.reason) for e in reversed(app.store.journal.latest())]
    finally:
        app.close()
    assert rows == [("host lab", "active", "new"), ("host lab", "draining", "old")]
