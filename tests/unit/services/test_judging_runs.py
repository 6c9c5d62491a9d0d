"""Runs that have been executed are judged against what the database remembers."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import EmailAction
from orchestrator.domain.change import Cause, DatasetRole
from orchestrator.domain.check import parse_check
from orchestrator.domain.gate import Gate, OnInconclusive, Outcome
from orchestrator.domain.pipeline import DatasetSpec, Execution, Pipeline, SourceSpec
from orchestrator.domain.run import AttemptState, Exit, Purpose, Reason, Run, RunState
from orchestrator.ports.baselines import PastRun
from orchestrator.ports.records import Standing
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import World, commit_id, pipeline

TEST = DatasetSpec("test", "/data/test", DatasetRole.EVALUATION, settle=0)
TRAINING = DatasetSpec("rows", "/data/rows", DatasetRole.TRAIN, settle=0)


class Line:
    """One pipeline's history, run by run."""

    def __init__(self, world: World, checks: str, **changes: object) -> None:
        gate = Gate(tuple(parse_check(check) for check in checks.split(";")))
        self.world = world
        self.pipeline: Pipeline = pipeline(**{"gate": gate, **changes})
        self.server = world.server()

    def leave(self, values: Mapping[str, float]) -> None:
        content = json.dumps(values).encode()
        self.world.engine.script(Script((), Exit(0), {"/mlci/output/metrics.json": content}))

    def enqueue(self, word: str, branch: str = "main") -> Run:
        if not self.world.store.detection.heads(self.pipeline.name, "repo"):
            return self.world.first_run(self.pipeline)
        self.world.sources.push(branch, word)
        runs = self.world.detector.poll_source(self.pipeline, self.pipeline.sources[0])
        (run,) = [r for r in runs if r.change.revision.commit == commit_id(word)]
        return run

    def push(self, word: str, branch: str = "main", **values: float) -> Run:
        self.leave(values)
        return self.world.finish(self.enqueue(word, branch), self.server)

    def baseline_of(self, run: Run) -> int | None:
        assert run.verdict is not None
        return run.verdict.checks[-1].baseline_run


@pytest.mark.parametrize(("cancelling", "ended", "looked_at"), [(False, 0, 0), (True, 0, 1), (False, 1, 1)])
def test_a_run_of_which_nothing_has_ended_is_not_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch, *, cancelling: bool, ended: int, looked_at: int
) -> None:
    run = Line(world, "accuracy >= 0.9").enqueue("a")
    looked: list[Run] = []

    def look(run: Run) -> Run:
        looked.append(run)
        return run

    monkeypatch.setattr(world.evaluator, "advance", look)
    world.evaluator.tick([Standing(run.id, RunState.RUNNING, cancelling, ended)])
    assert len(looked) == looked_at


def test_the_first_run_skips_its_comparisons_and_thresholds_still_judge(world: World) -> None:
    line = Line(world, "accuracy >= 0.9; accuracy not worse than best")
    run = line.push("a", accuracy=0.95)
    assert run.state is RunState.PASSED
    assert run.verdict is not None
    assert [c.outcome for c in run.verdict.checks] == [Outcome.PASS, Outcome.SKIPPED]
    assert "no eligible baseline yet" in run.verdict.checks[1].sentence


def test_a_run_below_its_threshold_is_rejected(world: World) -> None:
    run = Line(world, "accuracy >= 0.9").push("a", accuracy=0.89)
    assert (run.state, run.reason) == (RunState.REJECTED, None)


def test_a_metric_that_is_no_number_fails_its_check(world: World) -> None:
    assert Line(world, "accuracy >= 0").push("a", accuracy=float("nan")).state is RunState.REJECTED


def test_best_is_the_highest_and_previous_the_last(world: World) -> None:
    line = Line(world, "accuracy >= 0; accuracy not worse than best by 1")
    first = line.push("a", accuracy=0.7)
    best = line.push("b", accuracy=0.9)
    line.push("c", accuracy=0.8)
    assert line.baseline_of(line.push("d", accuracy=0.8)) == best.id
    other = Line(world, "accuracy not worse than previous by 1")
    last = world.store.runs.listing()[0]
    assert other.baseline_of(other.push("e", accuracy=0.8)) == last.id
    assert first.id < best.id < last.id


def test_a_rejected_run_is_no_baseline(world: World) -> None:
    line = Line(world, "accuracy >= 0.5; accuracy better than previous")
    first = line.push("a", accuracy=0.7)
    assert line.push("b", accuracy=0.6).state is RunState.REJECTED
    third = line.push("c", accuracy=0.8)
    assert (third.state, line.baseline_of(third)) == (RunState.PASSED, first.id)


def test_a_branch_that_does_not_deploy_is_judged_and_serves_nobody_as_a_baseline(world: World) -> None:
    line = Line(
        world,
        "accuracy not worse than best",
        sources=(SourceSpec("repo", "/repo", ("main", "idea")),),
    )
    first = line.push("a", accuracy=0.7)
    wild = line.push("wild", "idea", accuracy=0.99)
    assert (wild.state, line.baseline_of(wild)) == (RunState.PASSED, first.id)
    assert line.push("b", accuracy=0.8).state is RunState.PASSED


def test_a_branch_a_pin_and_a_run_can_be_named(world: World) -> None:
    line = Line(
        world,
        "accuracy >= 0",
        sources=(SourceSpec("repo", "/repo", ("main", "stable")),),
        deploy_branches=("main", "stable"),
    )
    first = line.push("a", accuracy=0.7)
    stable = line.push("s", "stable", accuracy=0.71)
    line.push("b", accuracy=0.72)
    world.store.runs.pin("wine", "golden", first.id, "ana", "released", world.clock.now())
    for selector, expected in (
        ("branch:stable", stable.id),
        ("pinned:golden", first.id),
        (f"run:{first.id}", first.id),
    ):
        line.pipeline = pipeline(
            sources=line.pipeline.sources,
            deploy_branches=line.pipeline.deploy_branches,
            gate=Gate((parse_check(f"accuracy not worse than {selector} by 1"),)),
        )
        assert line.baseline_of(line.push(f"x {selector}", accuracy=0.7)) == expected


def test_changed_training_data_are_compared_as_usual(world: World) -> None:
    line = Line(world, "accuracy not worse than best", datasets=(TRAINING,))
    first = line.push("a", accuracy=0.7)
    world.data.write("rows.csv", b"more\n")
    line.leave({"accuracy": 0.8})
    (run,) = world.detector.scan_dataset(line.pipeline, TRAINING)
    ended = world.finish(run, line.server)
    assert (ended.change.cause, ended.state, line.baseline_of(ended)) == (
        Cause.DATA,
        RunState.PASSED,
        first.id,
    )
    assert len(world.store.runs.listing()) == 2


def changed_evaluation_data(world: World, selector: str = "best") -> tuple[Line, Run, Run]:
    line = Line(world, f"accuracy not worse than {selector}", datasets=(TEST,))
    first = line.push("a", accuracy=0.9)
    world.data.write("rows.csv", b"harder\n")
    line.leave({"accuracy": 0.8})
    (run,) = world.detector.scan_dataset(line.pipeline, TEST)
    return line, first, run


@pytest.mark.parametrize("selector", ["best", "previous"])
def test_changed_evaluation_data_have_the_baseline_measured_again_before_the_verdict(
    world: World, selector: str
) -> None:
    line, first, run = changed_evaluation_data(world, selector)
    ended = world.finish(run, line.server)
    again = world.store.runs.listing()[0]
    assert (again.purpose, again.change.cause, again.rerun_of) == (Purpose.BASELINE, Cause.BASELINE, first.id)
    assert again.change.revision.commit == first.change.revision.commit
    assert again.change.datasets == run.change.datasets
    assert (ended.state, line.baseline_of(ended)) == (RunState.PASSED, again.id)
    assert world.store.actions.of_run(again.id) == []


def test_one_baseline_serves_all_that_wait_for_it(world: World) -> None:
    line, _, run = changed_evaluation_data(world)
    world.finish(run, line.server)
    assert line.push("b", accuracy=0.85).state is RunState.PASSED
    assert len([r for r in world.store.runs.listing() if r.purpose is Purpose.BASELINE]) == 1


def test_a_baseline_that_cannot_be_measured_again_leaves_the_verdict_open(world: World) -> None:
    line, first, run = changed_evaluation_data(world)
    fails = Script((), Exit(1), {"/mlci/output/metrics.json": b'{"accuracy": 0.1}'})
    world.engine.script(fails, lambda spec: spec.env.get("MLCI_RUN_ID") == str(run.id + 1))
    ended = world.finish(run, line.server)
    assert ended.state is RunState.INCONCLUSIVE
    assert "different evaluation data" in ended.message
    assert first.title in ended.message


def test_a_baseline_that_a_host_lost_is_measured_again_for_the_next_run(world: World) -> None:
    line, _, run = changed_evaluation_data(world)
    lost = Script((), Exit(137))
    world.engine.script(lost, lambda spec: spec.env.get("MLCI_RUN_ID") == str(run.id + 1))
    assert world.finish(run, line.server).state is RunState.INCONCLUSIVE
    assert world.store.runs.get(run.id + 1).state is RunState.ERRORED
    second = line.push("b", accuracy=0.85)
    assert second.state is RunState.PASSED
    assert line.baseline_of(second) == second.id + 1


def test_a_candidate_that_waits_for_its_baseline_can_be_cancelled(world: World) -> None:
    line, _, run = changed_evaluation_data(world)
    world.engine.script(Script((), None), lambda spec: spec.env.get("MLCI_RUN_ID") == str(run.id + 1))

    def waits() -> bool:
        line.server.tick()
        world.evaluator.tick()
        return len(world.store.runs.listing()) == 3

    wait_until(waits, "the baseline's run")
    assert world.store.runs.get(run.id).state is RunState.EVALUATING
    world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
    ended = world.finish(run, line.server)
    assert (ended.state, ended.reason) == (RunState.CANCELLED, Reason.CANCELLED_BY_PERSON)


def test_waiting_for_a_baseline_does_not_read_the_history_at_every_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, _, run = changed_evaluation_data(world)
    world.engine.script(Script((), None), lambda spec: spec.env.get("MLCI_RUN_ID") == str(run.id + 1))

    def waits() -> bool:
        line.server.tick()
        world.evaluator.tick()
        return len(world.store.runs.listing()) == 3

    wait_until(waits, "the baseline's run")
    read: list[str] = []

    def history(pipeline_name: str, metrics: object) -> list[PastRun]:
        read.append(pipeline_name)
        return []

    monkeypatch.setattr(world.store.baselines, "history", history)
    world.evaluator.tick()
    assert read == []


def test_replicates_are_judged_by_their_mean(world: World) -> None:
    line = Line(world, "accuracy >= 0.8", replicates=2)
    for replicate, value in ((0, 0.7), (1, 0.9)):
        content = json.dumps({"accuracy": value}).encode()
        world.engine.script(
            Script((), Exit(0), {"/mlci/output/metrics.json": content}),
            lambda spec, r=replicate: spec.env["MLCI_REPLICATE"] == str(r),  # type: ignore[misc]
        )
    run = world.finish(line.enqueue("a"), line.server)
    assert run.state is RunState.PASSED
    assert run.verdict is not None
    assert (run.verdict.checks[0].estimate, run.verdict.checks[0].candidate_n) == (0.8, 2)


def test_a_crashed_replicate_fails_the_run_and_is_never_dropped(world: World) -> None:
    line = Line(world, "accuracy >= 0", replicates=2)
    line.leave({"accuracy": 0.9})
    world.engine.script(Script((), Exit(1)), lambda spec: spec.env["MLCI_REPLICATE"] == "1")
    run = world.finish(line.enqueue("a"), line.server)
    assert (run.state, run.reason) == (RunState.FAILED, Reason.EXIT_CODE)


def test_an_inconclusive_verdict_counts_as_the_gate_says(world: World) -> None:
    line, _, run = changed_evaluation_data(world)
    world.engine.script(Script((), Exit(1)), lambda spec: spec.env.get("MLCI_RUN_ID") == str(run.id + 1))
    world.finish(run, line.server)
    line.pipeline = pipeline(
        datasets=(TEST,),
        gate=Gate((parse_check("accuracy not worse than run:1"),), OnInconclusive.FAIL),
    )
    assert line.push("b", accuracy=0.8).state is RunState.REJECTED


def test_a_newer_run_that_passed_meanwhile_is_no_baseline(world: World) -> None:
    line = Line(world, "accuracy not worse than previous")
    first = line.push("a", accuracy=0.7)
    world.engine.script(Script((), None, {"/mlci/output/metrics.json": b'{"accuracy": 0.75}'}))
    slow = line.enqueue("slow")
    line.server.tick()
    world.engine.wait_for_start(world.name_of(slow))
    line.push("fast", accuracy=0.9)
    world.engine.finish(world.name_of(slow))
    ended = world.finish(slow, line.server)
    assert (ended.state, line.baseline_of(ended)) == (RunState.PASSED, first.id)


def test_a_rerun_of_an_old_change_is_compared_with_what_was_there_before_it(world: World) -> None:
    line = Line(world, "accuracy not worse than previous by 1")
    first = line.push("a", accuracy=0.7)
    line.push("b", accuracy=0.8)
    line.leave({"accuracy": 0.7})
    again = world.finish(world.detector.run_now(line.pipeline, None, "ana", rerun_of=first), line.server)
    assert (again.rerun_of, again.change.cause, line.baseline_of(again)) == (first.id, Cause.RERUN, first.id)


def test_an_end_owes_the_actions_of_its_outcome_and_of_the_change_it_makes(world: World) -> None:
    mail = EmailAction(("a@example.org",))
    actions = tuple((t, mail) for t in (Trigger.PASS, Trigger.FAIL, Trigger.FIXED, Trigger.BROKEN))
    line = Line(world, "accuracy >= 0.8", actions=actions)
    owed = [
        [a.trigger for a in world.store.actions.of_run(line.push(word, accuracy=value).id)]
        for word, value in (("a", 0.9), ("b", 0.7), ("c", 0.6), ("d", 0.9))
    ]
    assert owed == [
        [Trigger.PASS],
        [Trigger.FAIL, Trigger.BROKEN],
        [Trigger.FAIL],
        [Trigger.PASS, Trigger.FIXED],
    ]


def test_a_queued_run_that_is_cancelled_never_begins(world: World) -> None:
    run = world.first_run(pipeline(execution=Execution(("true",))))
    world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
    world.evaluator.tick()
    world.server().tick()
    assert world.store.runs.get(run.id).state is RunState.CANCELLED
    (attempt,) = world.store.attempts.of_run(run.id)
    assert attempt.state is AttemptState.CANCELLED
    assert world.engine.starts == {}
