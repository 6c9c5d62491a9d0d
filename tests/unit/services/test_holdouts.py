"""Sealed evaluation data: every verdict on them counts, and nothing gives one back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.change import DatasetRole
from orchestrator.domain.gate import Holdout, HoldoutMode, Outcome, Verdict
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.run import Run, RunState
from orchestrator.services import evaluate
from orchestrator.services.judging import uses_of
from tests.unit.services.test_judging_runs import TEST, Line
from tests.unit.services.worlds import World

OTHER = DatasetSpec("other", "/data/other", DatasetRole.EVALUATION, settle=0)
CHECK = "accuracy >= 0.5"
BUDGET = Holdout("test", HoldoutMode.NONE, max_uses=2)


def sealed(world: World, budget: Holdout = BUDGET, **changes: object) -> Line:
    line = Line(world, CHECK, **{"datasets": (TEST, OTHER), **changes})
    line.pipeline = replace(line.pipeline, gate=replace(line.pipeline.gate, holdout=budget))
    return line


def used(line: Line, run: Run) -> int:
    holdout = line.pipeline.gate.holdout
    assert holdout is not None
    return uses_of(line.world.store, run, holdout)[0]


def test_other_evaluation_data_give_the_sealed_ones_no_new_budget(world: World) -> None:
    line = sealed(world)
    line.push("a", accuracy=0.9)
    line.push("b", accuracy=0.9)
    line.pipeline = replace(line.pipeline, datasets=(TEST,))
    run = line.push("c", accuracy=0.9)
    assert (run.state, used(line, run)) == (RunState.INCONCLUSIVE, 2)
    assert "it has given all of its 2 verdicts" in run.message


def test_the_verdicts_of_all_pipelines_count(world: World) -> None:
    line = sealed(world)
    first = line.push("a", accuracy=0.9)
    other = sealed(world, name="tea")
    run = other.push("a", accuracy=0.9)
    assert run.pipeline != first.pipeline
    assert [used(line, first), used(other, run)] == [0, 1]


def test_what_waits_at_once_is_counted_one_after_the_other(world: World) -> None:
    line = sealed(world)
    line.leave({"accuracy": 0.9})
    older = line.enqueue("a")
    newer = line.enqueue("b")
    for run in (newer, older):
        world.finish(run, line.server)
    assert sorted(used(line, run) for run in (older, newer)) == [0, 1]


def test_a_person_who_lets_a_run_pass_does_not_open_the_data_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = sealed(world, Holdout("test", HoldoutMode.FIRST_CHANGE, max_uses=100))
    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "judge", lambda *_, **__: Verdict(Outcome.INCONCLUSIVE, "open"))
        left_open = line.push("a", accuracy=0.9)
    passes = Verdict(Outcome.PASS, "let pass")
    world.store.approvals.decide(left_open.id, passes, "ana", "good enough", world.clock.now())
    assert world.store.runs.get(left_open.id).state is RunState.PASSED
    run = line.push("b", accuracy=0.9)
    assert run.message.startswith(f"test is used up: {left_open.title} did not pass")


def test_a_budget_given_later_begins_where_the_uses_stand(world: World) -> None:
    line = Line(world, CHECK, datasets=(TEST,))
    line.push("a", accuracy=0.9)
    line.push("b", accuracy=0.9)
    line.pipeline = replace(line.pipeline, gate=replace(line.pipeline.gate, holdout=BUDGET))
    assert used(line, line.push("c", accuracy=0.9)) == 2
