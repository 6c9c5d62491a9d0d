"""Runs that wait for a person, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli.settings import Settings
from orchestrator.domain.change import Cause, PullRequest, Revision
from orchestrator.domain.run import Run, RunState
from orchestrator.ports.records import NewRun
from tests.unit.cli.conftest import Command

COMMIT = "1a2b3c4d" * 5
EVIL = PullRequest(7, "main", COMMIT, "topic", "evil/wine", True, "ev\u202eil\x1b[31m", 666)


@pytest.fixture
def waiting(folder: Path) -> Run:
    """A run of a stranger's pull request."""
    with Settings(config=str(folder)).application() as app:
        pipeline = app.pipeline("wine")
        revision = Revision(pipeline.sources[0].name, EVIL.ref, COMMIT, "A small gift", "evil", pull=EVIL)
        new = NewRun(pipeline, Cause.PULL_REQUEST, revision, (), needs_approval=True)
        run = app.store.runs.enqueue(new, (), "wine", app.clock.now())
    assert run is not None
    return run


def state_of(folder: Path, run: Run) -> RunState:
    with Settings(config=str(folder)).application() as app:
        return app.store.runs.get(run.id).state


def test_show_says_for_whom_a_run_waits_and_how_it_is_approved(command: Command, waiting: Run) -> None:
    shown = command("runs", "show", "wine#1")
    assert shown.code == 0
    assert "wine #1  awaiting approval" in shown.out
    assert "is not among the trusted: orchestrator runs approve wine#1" in " ".join(shown.out.split())
    assert "(id 666) from evil/wine into main" in " ".join(shown.out.split())
    assert "\x1b" not in shown.out
    assert "\u202e" not in shown.out
    listed = command("runs", "list", "--state", "awaiting_approval")
    assert "awaiting approval" in listed.out


def test_approve_lets_one_commit_go_and_keeps_who_said_why(
    command: Command, folder: Path, waiting: Run
) -> None:
    ended = command("runs", "approve", "wine#1", "--reason", "read all of it")
    assert ended.code == 0
    assert f"wine#1 approved: commit {COMMIT[:8]} of pull request 7 by " in ended.err
    assert "\u202e" not in ended.err
    assert "no server is up" in ended.err
    assert state_of(folder, waiting) is RunState.QUEUED
    told = json.loads(command("--json", "runs", "show", "1").out)
    assert [(each["ruling"], each["reason"]) for each in told["decisions"]] == [
        ("approved", "read all of it")
    ]
    assert "read all of it" in command("runs", "show", "1").out


def test_reject_ends_a_run_before_anything_is_done(command: Command, folder: Path, waiting: Run) -> None:
    ended = command("--json", "runs", "reject", "1", "--reason", "mines bitcoin")
    assert ended.code == 0
    assert json.loads(ended.out)["state"] == "cancelled"
    shown = command("runs", "show", "1").out
    assert "mines bitcoin" in shown


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_what_does_not_wait_any_more_is_said_to_be_so(
    command: Command, folder: Path, waiting: Run, verb: str
) -> None:
    command("runs", "reject", "1")
    ended = command("runs", verb, "1")
    assert ended.code == 2
    assert "wine#1 does not wait for approval: it is cancelled" in ended.err
    assert command("runs", verb, "99").code == 2


def test_a_run_that_waits_is_cancelled_at_once_without_a_server(
    command: Command, folder: Path, waiting: Run
) -> None:
    ended = command("runs", "cancel", "1")
    assert "wine#1 cancelled" in ended.err
    assert state_of(folder, waiting) is RunState.CANCELLED
