"""What `hosts list` says of each host."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from orchestrator.bootstrap import Application, read_configuration
from orchestrator.domain.host import HostState
from orchestrator.domain.placement import Share, Terms
from tests.unit.cli.conftest import Command
from tests.unit.cli.test_cli_answers import enqueued


def test_a_host_that_does_not_answer_is_shown_with_since_when_and_why(command: Command, folder: Path) -> None:
    app = Application(read_configuration(folder))
    now = app.clock.now()
    since = now - timedelta(minutes=4)
    app.store.hosts.silent("desk", since, "the network is down", now)
    app.close()
    (host,) = json.loads(command("hosts", "list", "--json").out)
    assert (host["reachable"], host["unreachable_since"]) == (False, since.isoformat())
    assert "there is no socket" in host["state"]
    assert host["gpus"] is None
    shown = " ".join(command("hosts", "list").out.split())
    assert "unreachable for 4 m" in shown
    assert "unknown" in shown, "nobody knows its GPUs"


def test_a_host_that_is_drained_says_by_whom_and_why(command: Command, folder: Path) -> None:
    app = Application(read_configuration(folder))
    app.store.hosts.set_state("desk", HostState.DRAINING, "ann", "a new disk", app.clock.now())
    app.close()
    (host,) = json.loads(command("hosts", "list", "--json").out)
    assert (host["standing"], host["reason"]) == ("draining", "a new disk")
    shown = " ".join(command("hosts", "list").out.split())
    assert "is being drained by ann: a new" in shown


def test_what_runs_take_of_a_host_is_its_load(command: Command, folder: Path) -> None:
    run = enqueued(folder)
    app = Application(read_configuration(folder))
    (attempt,) = app.store.attempts.of_run(run.id)
    terms = Terms(Share(1.5, 1 << 30))
    now = app.clock.now()
    assert app.store.attempts.claim(attempt.id, "desk", 2, "box", "me", now, 60, terms=terms) is not None
    app.close()
    (host,) = json.loads(command("hosts", "list", "--json").out)
    assert (host["taken"], host["cpus_taken"], host["memory_taken"]) == (1, 1.5, 1 << 30)
    assert host["free"] == 0, "it does not answer"
    assert host["runs"] == ["wine#1"]
    shown = command("hosts", "list").out
    assert "1 of 2 taken" in shown
    assert "wine#1" in shown
    assert "1.5 cores" in shown
    assert "1.0 GiB" in shown
