"""Replicates in looks: a run trains on until its verdict is fixed, and no further."""

from __future__ import annotations

import json

import pytest

from orchestrator.domain.check import parse_check
from orchestrator.domain.gate import CheckResult, Gate, JudgingContext, Outcome, Verdict
from orchestrator.domain.pipeline import Looks, Pipeline
from orchestrator.domain.run import AttemptState, Exit, Reason, Run, RunState, seed_for
from orchestrator.services import evaluate
from tests.support.fake_engine import Script
from tests.unit.services.worlds import World, pipeline

OPEN = CheckResult("accuracy >= 0", "accuracy", Outcome.INCONCLUSIVE, "undecided", settled=False)
UNDECIDED = Verdict(Outcome.INCONCLUSIVE, "undecided", (OPEN,), settled=False)
PASSES = Verdict(Outcome.PASS, "passes")


def plan(**looks: object) -> Pipeline:
    counts = {"counts": (2, 4, 8)} | looks
    gate = Gate((parse_check("accuracy >= 0"),))
    return pipeline(gate=gate, replicates=8, looks=Looks(**counts))  # type: ignore[arg-type]


def judged(monkeypatch: pytest.MonkeyPatch, *verdicts: Verdict) -> None:
    """Have the gate say these, one after the other."""
    left = list(verdicts)
    monkeypatch.setattr(evaluate, "judge", lambda *_, **__: left.pop(0))


def ended(world: World, planned: Pipeline) -> Run:
    metrics = {"/mlci/output/metrics.json": json.dumps({"accuracy": 0.9}).encode()}
    world.engine.script(Script((), Exit(0), metrics))
    return world.finish(world.first_run(planned), world.server())


def test_a_verdict_that_is_fixed_stops_the_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, UNDECIDED, PASSES)
    run = ended(world, plan())
    assert run.state is RunState.PASSED
    attempts = world.store.attempts.of_run(run.id)
    assert [a.replicate for a in attempts] == [0, 1, 2, 3]
    assert [a.seed for a in attempts] == [seed_for(run.id, r) for r in range(4)]


def test_what_a_look_settled_is_kept_for_the_next_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[CheckResult, ...]] = []

    def judge(*given: object) -> Verdict:
        context = given[-1]
        assert isinstance(context, JudgingContext)
        seen.append(context.looked)
        return UNDECIDED if len(seen) == 1 else PASSES

    monkeypatch.setattr(evaluate, "judge", judge)
    assert ended(world, plan()).state is RunState.PASSED
    assert seen == [(), UNDECIDED.checks]


def test_drift_is_looked_for_once_and_not_at_each_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def drifts(*given: object) -> list[str]:
        asked.append(given)
        return ["accuracy has drifted"]

    judged(monkeypatch, UNDECIDED, UNDECIDED, PASSES)
    monkeypatch.setattr(evaluate, "drifts", drifts)
    run = ended(world, plan())
    assert run.verdict is not None
    assert run.verdict.warnings == ("accuracy has drifted",)
    assert len(asked) == 1


def test_after_the_last_look_an_undecided_verdict_stands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(monkeypatch, UNDECIDED, UNDECIDED, UNDECIDED)
    run = ended(world, plan())
    assert run.state is RunState.INCONCLUSIVE
    assert len(world.store.attempts.of_run(run.id)) == 8


def test_a_run_waits_for_its_first_look_alone(world: World) -> None:
    run = world.first_run(plan())
    assert [a.state for a in world.store.attempts.of_run(run.id)] == [AttemptState.QUEUED] * 2
    assert run.replicates == 8


def test_replicates_that_a_person_asks_for_are_trained_at_once(world: World) -> None:
    world.first_run(plan())
    for count in (8, 5):
        run = world.detector.run_now(plan(), None, "ada", replicates=count)
        assert len(world.store.attempts.of_run(run.id)) == count


def test_a_run_that_a_defect_keeps_from_being_judged_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> Verdict:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(evaluate, "judge", broken)
    run = ended(world, plan())
    assert (run.state, run.reason) == (RunState.ERRORED, Reason.INTERNAL)
    assert run.message == "it could not be judged 5 times, by a defect that the server's log tells of"
    assert caplog.text.count("wine #1: defect") == 5


def test_a_look_is_told_in_the_journal_and_taken_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, UNDECIDED, PASSES)
    run = ended(world, plan())
    told = [
        line.reason for line in world.store.journal.of_run(run.id) if line.reason.startswith("replicates")
    ]
    assert told == ["replicates: 4, not decided yet: accuracy >= 0"]


def test_a_replicate_that_failed_is_left_out_where_that_is_allowed_and_told(world: World) -> None:
    planned = plan(counts=(2,), max_failed=1)
    run = world.first_run(planned)
    content = json.dumps({"accuracy": 0.9}).encode()
    world.engine.script(Script((), Exit(0), {"/mlci/output/metrics.json": content}))
    first = world.name_of(run, 0)
    world.engine.script(Script((), Exit(1)), lambda spec: spec.name == first)
    after = world.finish(run, world.server())
    assert after.state is RunState.PASSED
    assert list(world.store.runs.metrics(run.id)) == [1]
    assert after.verdict is not None
    assert after.verdict.warnings == ("1 of 2 replicates failed and are left out, as max_failed allows",)


def test_a_replicate_that_failed_fails_the_run_where_nothing_allows_it(world: World) -> None:
    run = world.first_run(plan(counts=(2,)))
    world.engine.script(Script((), Exit(0), {"/mlci/output/metrics.json": b'{"accuracy": 1}'}))
    first = world.name_of(run, 0)
    world.engine.script(Script((), Exit(1)), lambda spec: spec.name == first)
    assert world.finish(run, world.server()).state is RunState.FAILED
