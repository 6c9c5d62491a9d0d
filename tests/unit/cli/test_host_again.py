"""Which commands on hosts make a running server try at once what it does not reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.bootstrap import Application, read_configuration
from orchestrator.cli import hostcheck
from orchestrator.cli.hostcheck import PartResult
from tests.unit.cli.conftest import Command


def asked(folder: Path) -> bool:
    """Whether a try was asked for."""
    app = Application(read_configuration(folder))
    try:
        return (app.state / "ssh" / "again").exists()
    finally:
        app.close()


def test_adding_or_resuming_a_host_has_it_tried(command: Command, folder: Path) -> None:
    command("hosts", "drain", "desk")
    assert not asked(folder)
    command("hosts", "resume", "desk")
    assert asked(folder)


def test_adding_a_host_over_ssh_has_it_tried(command: Command, folder: Path) -> None:
    command("hosts", "add", "desk2", "--engine", "unix:///a.sock")
    assert not asked(folder)
    command("hosts", "add", "lab", "--ssh", "ci@lab")
    assert asked(folder)


@pytest.mark.parametrize(("result", "tried"), [("ok", True), ("warn", True), ("fail", False)])
def test_a_host_that_is_found_ready_is_tried_and_no_other(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, result: str, tried: bool
) -> None:
    main = folder / "orchestrator.yaml"
    main.write_text(main.read_text().replace("hosts: {", "hosts: {lab: {ssh: {hostname: lab}}, "))
    monkeypatch.setattr(
        hostcheck, "check_host", lambda app, host, image: [PartResult(host, "connect", result, 0.0)]
    )
    command("hosts", "check", "lab")
    assert asked(folder) is tried


def test_a_host_on_this_machine_has_no_way_to_be_tried(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        hostcheck, "check_host", lambda app, host, image: [PartResult(host, "connect", "ok", 0.0)]
    )
    command("hosts", "check", "desk")
    assert not asked(folder)
