"""Runs that were begun, and whose server is gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.bootstrap import Application, read_configuration
from tests.unit.cli.conftest import Command
from tests.unit.cli.test_cli_answers import enqueued


@pytest.mark.parametrize("alive", [True, False])
def test_a_run_that_nobody_follows_says_how_it_goes_on(command: Command, folder: Path, alive: bool) -> None:
    run = enqueued(folder)
    app = Application(read_configuration(folder))
    try:
        this = app.processes.this()
        owner = this if alive else "/".join((*this.split("/")[:-1], "0"))
        assert app.processes.is_dead(owner) is not alive
        (attempt,) = app.store.attempts.of_run(run.id)
        now = app.clock.now()
        assert app.store.attempts.claim(attempt.id, "desk", 2, "box", owner, now, 60) is not None
    finally:
        app.close()
    shown = json.loads(command("runs", "show", str(run.id), "--json").out)
    assert len(shown["now"]) == 1, "the container goes on"
    if alive:
        assert shown["waiting"] == []
    else:
        (why,) = shown["waiting"]
        assert why.startswith("no server is up, and nobody follows what was begun: ")
        assert "orchestrator serve" in why
