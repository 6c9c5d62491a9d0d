"""Logs of runs that were tried more than once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.bootstrap import Application, read_configuration
from orchestrator.domain.run import AttemptState, Reason, Run
from orchestrator.observe import LogMask, Masker
from orchestrator.ports.engine import LogLine
from orchestrator.ports.records import AttemptResult
from tests.unit.cli.conftest import Command
from tests.unit.cli.test_cli_answers import enqueued


@pytest.fixture
def run(folder: Path) -> Run:
    """A run whose first try was lost, with a log of each try."""
    made = enqueued(folder)
    app = Application(read_configuration(folder))
    try:
        (first,) = app.store.attempts.of_run(made.id)
        now = app.clock.now()
        lease = app.store.attempts.claim(first.id, "desk", 2, "box", "me", now, 60)
        assert lease is not None
        lost = AttemptResult(AttemptState.ERRORED, Reason.LOST, "it is gone")
        app.store.attempts.finish(lease, AttemptState.PREPARING, lost, now)
        app.evaluator.advance(app.store.runs.get(made.id))
        for attempt in app.store.attempts.of_run(made.id):
            log = app.logs.writer(attempt.id, LogMask(Masker()))
            log.write(LogLine("2026-11-05T10:00:00.000000000Z", f"this is try {attempt.number}".encode()))
            log.close()
        return app.store.runs.get(made.id)
    finally:
        app.close()


def test_the_last_try_is_printed_and_the_one_before_is_told_of(command: Command, run: Run) -> None:
    ended = command("runs", "logs", str(run.id))
    assert (ended.code, ended.out) == (0, "this is try 2\n")
    assert ended.err == "try 2 of 2; --try 1 for the one before\n"


def test_an_earlier_try_is_printed_when_it_is_asked_for(command: Command, run: Run) -> None:
    ended = command("runs", "logs", str(run.id), "--try", "1")
    assert (ended.code, ended.out, ended.err) == (0, "this is try 1\n", "")
    (line,) = command("runs", "logs", str(run.id), "--try", "1", "--json").out.splitlines()
    assert json.loads(line)["text"] == "this is try 1"


def test_a_try_that_there_is_not_is_told_with_the_last_one(command: Command, run: Run) -> None:
    ended = command("runs", "logs", str(run.id), "--try", "3")
    assert (ended.code, ended.out) == (2, "")
    assert "has no try 3. To do: its last one is 2" in ended.err
    assert "has no replicate 4" in command("runs", "logs", str(run.id), "--try", "1", "--replicate", "4").err


def test_a_run_that_was_tried_once_says_nothing_of_tries(command: Command, folder: Path) -> None:
    assert "try" not in command("runs", "logs", str(enqueued(folder).id)).err
