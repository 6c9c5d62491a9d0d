"""Verdicts after the fact on the command line: decisions of people, evidence, replays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli.settings import Settings
from orchestrator.domain.change import Cause, Revision
from orchestrator.domain.gate import CheckResult, Outcome, Verdict
from orchestrator.domain.metrics import Metric
from orchestrator.domain.run import AttemptState, Reason, Run, RunState
from orchestrator.ports.records import AttemptResult, NewRun
from tests.unit.cli.conftest import PIPELINE, Command

COMMIT = "1a2b3c4d" * 5
UNSURE = CheckResult(
    "accuracy better than best",
    "accuracy",
    Outcome.INCONCLUSIVE,
    "neither a gain nor its absence is shown: inconclusive",
    estimate=0.93,
    baseline=0.92,
    difference=0.01,
    test="t with noise ledger",
    candidate_n=3,
    baseline_n=8,
    lower=-0.0021,
    upper=0.0221,
    alpha=0.0125,
    noise_sd=0.0038,
    noise_df=29,
    ledger_sd=0.0036,
    ledger_runs=10,
    correction="Holm over 4",
)


def judged(folder: Path, says: str) -> Run:
    """A run whose gate could not decide."""
    (folder / "pipelines" / "wine.yaml").write_text(
        PIPELINE.replace("gate:\n", f"gate:\n  on_inconclusive: {says}\n")
    )
    with Settings(config=str(folder)).application() as app:
        pipeline, store, now = app.pipeline("wine"), app.store, app.clock.now()
        revision = Revision(pipeline.sources[0].name, "main", COMMIT, "A change", "ana")
        made = store.runs.enqueue(NewRun(pipeline, Cause.MANUAL, revision, ()), (), "wine", now)
        assert made is not None
        attempt = store.attempts.of_run(made.id)[0]
        lease = store.attempts.claim(attempt.id, "desk", 2, "box", "me", now, 60)
        assert lease is not None
        store.attempts.advance(lease, AttemptState.PREPARING, AttemptState.RUNNING, now)
        store.attempts.advance(lease, AttemptState.RUNNING, AttemptState.COLLECTING, now)
        metrics = (Metric("accuracy", 0.93, "metrics.json"),)
        result = AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=metrics)
        store.attempts.finish(lease, AttemptState.COLLECTING, result, now)
        store.runs.move(made.id, RunState.RUNNING, RunState.EVALUATING, now)
        verdict = Verdict(Outcome.INCONCLUSIVE, UNSURE.sentence, (UNSURE,))
        return store.runs.move(made.id, RunState.EVALUATING, RunState.INCONCLUSIVE, now, verdict=verdict)


def test_a_decision_is_shown_with_who_and_why_and_owes_the_deployment(command: Command, folder: Path) -> None:
    judged(folder, "manual")
    ended = command("runs", "decide", "wine#1", "pass", "--reason", "looked at it")
    assert ended.code == 0, ended.err
    assert "wine#1 passed by decision: commit 1a2b3c4d" in ended.err
    told = json.loads(command("--json", "runs", "show", "1").out)
    assert told["state"] == "passed"
    assert [(each["ruling"], each["reason"]) for each in told["decisions"]] == [
        ("decided pass", "looked at it")
    ]
    assert told["sentence"].endswith(f"looked at it; the gate had said: {UNSURE.sentence}")
    assert [action["spec"]["kind"] for action in told["actions"]] == ["deploy"]
    again = command("runs", "decide", "wine#1", "fail", "--reason", "no")
    assert again.code == 2
    assert "wine#1 is not inconclusive: it is passed" in again.err


def test_a_gate_that_holds_is_not_overruled(command: Command, folder: Path) -> None:
    judged(folder, "hold")
    ended = command("runs", "decide", "1", "pass", "--reason", "I want it")
    assert ended.code == 2
    assert "does not leave it to people" in ended.err


@pytest.mark.parametrize("arguments", [["pass"], ["maybe", "--reason", "x"]])
def test_a_decision_says_which_and_why(command: Command, folder: Path, arguments: list[str]) -> None:
    judged(folder, "manual")
    assert command("runs", "decide", "1", *arguments).code == 2


def test_show_has_a_table_of_the_figures_behind_the_verdict(command: Command, folder: Path) -> None:
    judged(folder, "manual")
    shown = " ".join(command("runs", "show", "1").out.split())
    for figure in ("evidence", "[-0.0021, +0.022]", "3 and 8", "0.0125", "Holm over 4"):
        assert figure in shown


def test_replay_tells_what_the_gate_says_now(command: Command, folder: Path) -> None:
    empty = command("gate", "replay", "wine")
    assert (empty.code, "no run has been judged yet" in empty.err) == (0, True)
    judged(folder, "hold")
    ended = command("gate", "replay", "wine")
    assert ended.code == 0, ended.err
    assert "wine#1" in ended.out
    assert "pass *" in ended.out
    assert "1 run: 1 pass; 1 differs (*)" in ended.err
    (told,) = json.loads(command("--json", "gate", "replay", "wine").out)
    assert (told["then"], told["now"], told["differs"]) == ("inconclusive", "pass", True)


def test_a_pin_that_is_not_there_is_answered_with_those_that_are(command: Command, folder: Path) -> None:
    run = judged(folder, "manual")
    assert command("runs", "decide", "1", "pass", "--reason", "fine").code == 0
    assert "has no pin without a name" in command("baselines", "unpin", "wine").err
    assert command("baselines", "pin", "wine#1", "--name", "gold", "--reason", "released").code == 0
    assert "it has: gold; give --name" in command("baselines", "unpin", "wine").err
    assert "orchestrator baselines unpin wine --name gold" in command("baselines", "unpin", "gold").err
    ended = command("baselines", "unpin", "wine", "--name", "gold")
    assert (ended.code, run.number) == (0, 1)
    assert "wine has no pin gold any more" in ended.err
