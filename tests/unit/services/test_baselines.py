"""What runs are compared with: the values of all runs that measured the same, and who is added to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from orchestrator.domain.baseline import BaselineSpec, parse_selector
from orchestrator.domain.change import Cause, DatasetRole, Revision
from orchestrator.domain.check import parse_check
from orchestrator.domain.errors import SourceUnavailable
from orchestrator.domain.gate import CheckResult, Gate
from orchestrator.domain.pipeline import Benchmark, DatasetSpec, Looks, Pipeline, SourceSpec
from orchestrator.domain.run import Exit, Purpose, Reason, Run, RunState
from orchestrator.ports.records import NewRun
from orchestrator.services import references, topping_up
from orchestrator.services.baselines_now import baselines_now
from orchestrator.services.measuring import keys_of
from orchestrator.services.topping_up import TOPPING_UP, ToppingUp
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.test_judging_runs import TEST, Line
from tests.unit.services.worlds import World, commit_id, pipeline

TRAINING = DatasetSpec("rows", "/data/rows", DatasetRole.TRAIN, settle=0)


def declared(name: str, select: str, replicates: int = 0, confirm: int = 0) -> tuple[BaselineSpec, ...]:
    return (BaselineSpec(name, parse_selector(select), replicates, confirm),)


def again(line: Line, run: Run, **values: float) -> Run:
    line.leave(values)
    repeated = line.world.detector.run_now(line.pipeline, None, "ana", rerun_of=run)
    return line.world.finish(repeated, line.server)


def evidence(run: Run) -> CheckResult:
    assert run.verdict is not None
    return run.verdict.checks[-1]


def frozen_runs(world: World, run: Run) -> list[tuple[int | None, tuple[int, ...]]]:
    frozen = world.store.baselines.frozen(run.id)
    assert frozen is not None
    return [(check.chosen, check.runs) for check in frozen.checks]


def measuring(world: World) -> list[Run]:
    return [r for r in reversed(world.store.runs.listing()) if r.purpose is Purpose.BASELINE]


def test_runs_of_one_commit_on_the_same_data_are_one_baseline(world: World) -> None:
    line = Line(world, "accuracy not worse than previous by 1")
    first = line.push("a", accuracy=0.7)
    second = again(line, first, accuracy=0.9)
    third = line.push("b", accuracy=0.8)
    assert frozen_runs(world, third) == [(second.id, (first.id, second.id))]
    assert evidence(third).baseline == pytest.approx(0.8)
    assert evidence(third).baseline_n == 2


def test_the_record_tells_how_often_the_same_was_judged_before(world: World) -> None:
    line = Line(world, "accuracy >= 0.8")

    def told(run: Run) -> tuple[str, ...]:
        assert run.verdict is not None
        return run.verdict.warnings

    first = line.push("a", accuracy=0.9)
    assert told(first) == ()
    assert told(again(line, first, accuracy=0.7)) == ("the same commit and data were judged once before",)
    (warning,) = told(again(line, first, accuracy=0.9))
    assert warning == (
        "the same commit and data were judged 2 times before, and did not pass in 1: "
        "each try may pass by chance"
    )
    assert told(line.push("b", accuracy=0.9)) == ()


def test_runs_of_one_commit_with_the_same_seeds_are_one_measurement(world: World) -> None:
    line = Line(world, "accuracy not worse than previous by 1", looks=Looks(pair_seeds=True))
    first = line.push("a", accuracy=0.7)
    again(line, first, accuracy=0.7)
    line.pipeline = replace(line.pipeline, looks=Looks())
    third = again(line, first, accuracy=0.8)
    fourth = line.push("b", accuracy=0.8)
    assert evidence(fourth).baseline_runs == (first.id, third.id)
    assert evidence(fourth).baseline_n == 2


@pytest.mark.parametrize("change", ["command", "training data"])
def test_what_was_trained_otherwise_is_another_baseline(world: World, change: str) -> None:
    line = Line(world, "accuracy not worse than previous by 1", datasets=(TRAINING,))
    first = line.push("a", accuracy=0.7)
    if change == "command":
        other = replace(line.pipeline.execution, command=("python", "train.py", "--longer"))
        line.pipeline = replace(line.pipeline, execution=other)
        second = again(line, first, accuracy=0.9)
    else:
        world.data.write("rows.csv", b"more\n")
        line.leave({"accuracy": 0.9})
        (run,) = world.detector.scan_dataset(line.pipeline, TRAINING)
        second = world.finish(run, line.server)
    third = line.push("b", accuracy=0.8)
    assert frozen_runs(world, third) == [(second.id, (second.id,))]


def test_what_a_run_is_compared_with_is_the_same_at_each_look(world: World) -> None:
    line = Line(world, "accuracy not worse than previous by 1")
    first = line.push("a", accuracy=0.7)
    judged = line.push("b", accuracy=0.8)
    again(line, first, accuracy=0.9)
    against = world.evaluator._references.of(judged, line.pipeline)
    (reference,) = against.references.values()  # type: ignore[union-attr]
    assert reference.runs == (first.id,)


def ledger_of(world: World, run: Run) -> tuple[int, ...]:
    frozen = world.store.baselines.frozen(run.id)
    assert frozen is not None
    return frozen.ledger


def test_replicated_runs_of_equal_keys_tell_the_noise_and_others_do_not(world: World) -> None:
    line = Line(world, "accuracy >= 0", replicates=2)
    first = line.push("a", accuracy=0.7)
    second = line.push("b", accuracy=0.8)
    assert ledger_of(world, second) == (first.id,)
    line.pipeline = replace(line.pipeline, replicates=1)
    single = line.push("c", accuracy=0.8)
    assert ledger_of(world, single) == (second.id, first.id)
    assert ledger_of(world, line.push("d", accuracy=0.8)) == (second.id, first.id)
    line.pipeline = replace(line.pipeline, collect=("metrics.json",))
    assert ledger_of(world, line.push("e", accuracy=0.8)) == ()


def test_the_noise_on_another_cpu_is_another_noise(world: World) -> None:
    line = Line(world, "accuracy >= 0", replicates=2)
    line.push("a", accuracy=0.7)
    world.engine.booted = replace(world.engine.booted, cpu="Another CPU")
    line.server = world.server()
    second = line.push("b", accuracy=0.8)
    keys = world.store.baselines.keys(second.id)
    assert keys is not None
    assert keys.hardware == "Another CPU"
    assert ledger_of(world, second) == ()


def test_a_benchmark_in_another_image_is_another_metric(world: World) -> None:
    benchmark = Benchmark(("score",), ("accuracy",))
    run = Line(world, "accuracy >= 0").push("a", accuracy=0.7)
    definition = world.store.runs.definition(run.id)
    (attempt,) = world.store.attempts.of_run(run.id)
    other = replace(attempt, image_digest="sha256:other")
    scored = replace(definition, benchmark=benchmark)
    assert keys_of(run, scored, [attempt]).metric_code != keys_of(run, scored, [other]).metric_code
    assert keys_of(run, definition, [attempt]) == keys_of(run, definition, [other])


def test_a_branch_that_is_not_trusted_adds_nothing_to_the_noise(world: World) -> None:
    sources = (SourceSpec("repo", "/repo", ("main", "idea")),)
    line = Line(world, "accuracy >= 0", replicates=2, sources=sources)
    first = line.push("a", accuracy=0.7)
    line.push("wild", "idea", accuracy=0.1)
    assert ledger_of(world, line.push("b", accuracy=0.8)) == (first.id,)


def test_best_goes_by_what_runs_of_one_commit_measured_together(world: World) -> None:
    line = Line(world, "accuracy not worse than best by 1")
    lucky = line.push("a", accuracy=0.9)
    steady = line.push("b", accuracy=0.85)
    again(line, lucky, accuracy=0.7)
    again(line, steady, accuracy=0.84)
    assert evidence(line.push("c", accuracy=0.8)).baseline_run == steady.id


def confirming(world: World) -> tuple[Line, Run, Run]:
    line = Line(world, "accuracy not worse than best by 1", baselines=declared("best", "best", confirm=2))
    first = line.push("a", accuracy=0.9)
    line.leave({"accuracy": 0.8})
    return line, first, line.enqueue("b")


def test_the_value_of_best_is_that_of_fresh_runs_alone(world: World) -> None:
    line, first, run = confirming(world)
    judged = world.finish(run, line.server)
    (fresh,) = measuring(world)
    assert (fresh.replicates, fresh.rerun_of, fresh.change.revision.commit) == (
        2,
        first.id,
        commit_id("first"),
    )
    assert frozen_runs(world, judged) == [(first.id, (fresh.id,))]
    assert evidence(judged).baseline == pytest.approx(0.8)
    assert evidence(judged).baseline_n == 2


def test_fresh_runs_have_no_part_in_the_choice_of_best(world: World) -> None:
    line, first, run = confirming(world)
    world.finish(run, line.server)
    assert run.id < measuring(world)[0].id
    line.leave({"accuracy": 0.1})
    third = world.finish(line.enqueue("c"), line.server)
    assert frozen_runs(world, third)[0][0] == first.id
    assert len(measuring(world)) == 1


def test_a_best_that_cannot_be_confirmed_leaves_the_verdict_open(world: World) -> None:
    line, first, run = confirming(world)
    world.engine.script(Script((), Exit(1)), lambda spec: spec.env.get("MLCI_RUN_ID") == str(run.id + 1))
    judged = world.finish(run, line.server)
    assert judged.state is RunState.INCONCLUSIVE
    assert f"cannot be compared with {first.title}: it could not be confirmed as the best" in judged.message


def test_a_stranger_does_not_say_how_a_baseline_is_measured_on_new_data(world: World) -> None:
    line = Line(world, "accuracy not worse than best by 1", datasets=(TEST,))
    first = line.push("a", accuracy=0.9)
    world.data.write("rows.csv", b"harder\n")
    wild = replace(line.pipeline.execution, command=("cheat",))
    own, line.pipeline = line.pipeline, replace(line.pipeline, execution=wild, untrusted=True)
    line.leave({"accuracy": 0.8})
    (run,) = world.detector.scan_dataset(line.pipeline, TEST)
    world.finish(run, line.server)
    (again_,) = measuring(world)
    assert again_.rerun_of == first.id
    measured_by = world.store.runs.definition(again_.id)
    assert (measured_by.execution, measured_by.untrusted) == (own.execution, False)


def test_a_strangers_change_is_compared_with_the_same_runs_as_others(world: World) -> None:
    line = Line(world, "accuracy not worse than best by 1")
    first = line.push("a", accuracy=0.9)
    line.pipeline = replace(line.pipeline, untrusted=True)
    assert evidence(line.push("b", accuracy=0.8)).baseline_run == first.id


def test_a_stranger_has_no_merge_base_measured(world: World) -> None:
    line = branched(world, "skipped")
    line.push("a", accuracy=0.7)
    world.sources.push("main", "skipped")
    line.push("b", accuracy=0.8)
    line.pipeline = replace(line.pipeline, untrusted=True)
    line.push("wild", "idea", accuracy=0.75)
    assert measuring(world) == []


def branched(world: World, base: str) -> Line:
    line = Line(
        world,
        "accuracy not worse than merge_base by 1",
        sources=(SourceSpec("repo", "/repo", ("main", "idea")),),
    )
    world.sources.parents[commit_id("wild")] = commit_id(base)
    return line


def test_merge_base_is_the_run_of_the_commit_where_the_branch_left(world: World) -> None:
    line = branched(world, "first")
    first = line.push("a", accuracy=0.7)
    line.push("b", accuracy=0.8)
    assert evidence(line.push("wild", "idea", accuracy=0.75)).baseline_run == first.id


def test_on_the_default_branch_merge_base_is_the_run_before(world: World) -> None:
    line = branched(world, "first")
    line.push("a", accuracy=0.7)
    second = line.push("b", accuracy=0.8)
    assert evidence(line.push("c", accuracy=0.75)).baseline_run == second.id


def test_a_merge_base_without_a_run_is_measured_first(world: World) -> None:
    line = branched(world, "skipped")
    line.push("a", accuracy=0.7)
    world.sources.push("main", "skipped")
    line.push("b", accuracy=0.8)
    judged = line.push("wild", "idea", accuracy=0.75)
    (fresh,) = measuring(world)
    assert fresh.change.revision.commit == commit_id("skipped")
    assert evidence(judged).baseline_run == fresh.id


def test_a_repository_that_does_not_answer_is_asked_again_for_the_merge_base(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = branched(world, "first")
    first = line.push("a", accuracy=0.7)
    line.push("b", accuracy=0.8)
    answer = world.sources.merge_base
    silent: list[str] = []

    def merge_base(source: SourceSpec, one: str, other: str) -> str | None:
        if not silent:
            silent.append(one)
            raise SourceUnavailable("no answer")
        return answer(source, one, other)

    monkeypatch.setattr(world.sources, "merge_base", merge_base)
    line.leave({"accuracy": 0.75})
    run = line.enqueue("wild", "idea")

    def asked() -> bool:
        line.server.tick()
        world.evaluator.tick()
        return bool(silent)

    wait_until(asked, "the first question")
    assert world.store.runs.get(run.id).state is not RunState.PASSED
    world.clock.advance(10)
    assert evidence(world.finish(run, line.server)).baseline_run == first.id


@pytest.mark.parametrize("selector", ["best", "last_deployed", "previous"])
def test_after_a_rebaseline_older_runs_are_not_chosen_any_more(world: World, selector: str) -> None:
    line = Line(world, f"accuracy not worse than {selector} by 1")
    line.push("a", accuracy=0.9)
    second = line.push("b", accuracy=0.7)
    line.push("c", accuracy=0.6)
    now = world.clock.now()
    world.store.baselines.rebase("wine", second.id, "ana", "another metric", now)
    expected = second.id + 1 if selector == "previous" else second.id
    assert evidence(line.push("d", accuracy=0.65)).baseline_run == expected
    world.store.baselines.undo_rebase("wine", "ana", "it was the same", now)
    if selector == "best":
        assert evidence(line.push("e", accuracy=0.65)).baseline_run == 1


def test_a_run_that_is_named_is_compared_with_in_spite_of_a_rebaseline(world: World) -> None:
    line = Line(world, "accuracy not worse than run:1 by 1")
    line.push("a", accuracy=0.9)
    second = line.push("b", accuracy=0.7)
    world.store.baselines.rebase("wine", second.id, "ana", "another metric", world.clock.now())
    assert evidence(line.push("c", accuracy=0.65)).baseline_run == 1


def topping(world: World, pipelines: Iterable[Pipeline]) -> ToppingUp:
    made = list(pipelines)
    return ToppingUp(world.store, lambda: made, world.hosts, world.clock)


def wanting(world: World, wanted: int = 3, **changes: object) -> tuple[Line, Run]:
    baselines = declared("main", "branch:main", wanted)
    line = Line(world, "accuracy not worse than main by 1", baselines=baselines, **changes)
    return line, line.push("a", accuracy=0.7)


def test_a_baseline_is_measured_further_while_a_slot_is_idle(world: World) -> None:
    line, first = wanting(world)
    topper = topping(world, [line.pipeline])
    line.leave({"accuracy": 0.8})
    added = []
    for _ in range(4):
        run = topper.tick()
        world.clock.advance(61)
        if run is not None:
            added.append(world.finish(run, line.server))
    assert sum(run.replicates for run in added) == 2
    assert {(r.purpose, r.rerun_of, r.priority, r.state) for r in added} == {
        (Purpose.BASELINE, first.id, TOPPING_UP, RunState.PASSED)
    }
    assert [a for run in added for a in world.store.actions.of_run(run.id)] == []
    judged = line.push("b", accuracy=0.75)
    assert frozen_runs(world, judged) == [(first.id, (first.id, *(run.id for run in added)))]
    assert evidence(judged).baseline_n == 3


def test_nothing_is_measured_further_while_a_run_waits_or_no_slot_is_free(world: World) -> None:
    line, _ = wanting(world)
    topper = topping(world, [line.pipeline])
    world.engine.script(Script((), None))
    line.pipeline = replace(line.pipeline, replicates=2)
    waiting = line.enqueue("b")
    assert topper.tick() is None
    line.server.tick()
    for replicate in range(2):
        world.engine.wait_for_start(world.name_of(waiting, replicate))
    assert topper.tick() is None
    assert world.store.queue.waiting(world.clock.now()) == []


@pytest.mark.parametrize(("asked", "reached"), [(8, 16), (7, 7)])
def test_a_baseline_that_lives_long_is_measured_further_than_was_asked(
    world: World, monkeypatch: pytest.MonkeyPatch, asked: int, reached: int
) -> None:
    monkeypatch.setattr(topping_up, "_LONG", 2)
    line = Line(world, "accuracy not worse than first by 1", baselines=declared("first", "run:1", asked))
    assert line.push("a", accuracy=0.7).id == 1
    topper = topping(world, [line.pipeline])

    def topped_up() -> int:
        line.leave({"accuracy": 0.8})
        for _ in range(20):
            run = topper.tick()
            world.clock.advance(61)
            if run is not None:
                world.finish(run, line.server)
        return sum(run.replicates for run in measuring(world)) + 1

    assert topped_up() == asked
    for commit in ("b", "c"):
        line.push(commit, accuracy=0.75)
    assert topped_up() == reached


def test_one_run_at_a_time_measures_further(world: World) -> None:
    line, _ = wanting(world)
    topper = topping(world, [line.pipeline])
    assert topper.tick() is not None
    world.clock.advance(61)
    assert topper.tick() is None


def test_what_measures_further_gives_way_to_a_run_that_waits(world: World) -> None:
    line, _ = wanting(world)
    topper = topping(world, [line.pipeline])
    world.engine.script(Script((), None))
    extra = topper.tick()
    assert extra is not None
    line.server.tick()
    line.enqueue("b")
    topper.tick()
    assert world.store.runs.cancel_reason(extra.id) is None
    topper.tick()
    assert world.store.runs.cancel_reason(extra.id) is Reason.SUPERSEDED


def test_what_failed_or_was_cancelled_by_a_person_is_not_begun_again(world: World) -> None:
    line, _ = wanting(world)
    topper = topping(world, [line.pipeline])
    world.engine.script(Script((), Exit(1)))
    extra = topper.tick()
    assert extra is not None
    assert world.finish(extra, line.server).state is RunState.FAILED
    world.clock.advance(7200)
    assert topper.tick() is None


def test_with_the_same_seeds_for_all_nothing_is_measured_further(world: World) -> None:
    line, _ = wanting(world, looks=Looks(pair_seeds=True))
    assert topping(world, [line.pipeline]).tick() is None


def test_what_gives_the_same_number_for_each_seed_is_not_measured_further(world: World) -> None:
    line, _ = wanting(world, replicates=2)
    assert topping(world, [line.pipeline]).tick() is None


def test_data_that_moved_on_are_not_measured_further(world: World) -> None:
    line, _ = wanting(world, datasets=(TEST,))
    topper = topping(world, [line.pipeline])
    world.data.write("rows.csv", b"harder\n")
    (run,) = world.detector.scan_dataset(line.pipeline, TEST)
    world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
    world.finish(run, line.server)
    assert topper.tick() is None


def test_retention_is_told_all_runs_of_a_baseline_and_of_its_noise(world: World) -> None:
    line = Line(world, "accuracy not worse than previous by 1", replicates=2)
    noisy = line.push("a", accuracy=0.6)
    first = line.push("b", accuracy=0.7)
    second = again(line, first, accuracy=0.9)
    needed = baselines_now(world.store, [line.pipeline])
    assert set(needed) == {noisy.id, first.id, second.id}
    assert needed[noisy.id] == "the noise ledger of wine"


def test_a_merge_base_that_was_trained_later_is_measured_once(world: World) -> None:
    line = branched(world, "skipped")
    line.push("a", accuracy=0.7)
    world.sources.push("main", "skipped")
    line.push("b", accuracy=0.8)
    wild = line.enqueue("wild", "idea")
    line.leave({"accuracy": 0.75})
    left = Revision("repo", "main", commit_id("skipped"))
    new = NewRun(line.pipeline, Cause.PUSH, left, wild.change.datasets)
    newer = world.store.runs.enqueue(new, (), "wine", world.clock.now())
    assert newer is not None
    world.finish(newer, line.server)
    judged = world.finish(wild, line.server)
    (fresh,) = measuring(world)
    assert evidence(judged).baseline_run == fresh.id


def test_what_cannot_be_compared_with_is_not_measured_without_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "before", lambda runs, judged, merge_base="": [])
    line = branched(world, "skipped")
    line.push("a", accuracy=0.7)
    world.sources.push("main", "skipped")
    line.push("b", accuracy=0.8)
    judged = line.push("wild", "idea", accuracy=0.75)
    (fresh,) = measuring(world)
    assert f"{fresh.title} measured it again, which cannot be compared with" in evidence(judged).sentence


def test_a_best_whose_fresh_runs_lack_the_metric_is_confirmed_once(world: World) -> None:
    line, first, run = confirming(world)
    line.leave({"loss": 0.1})
    world.engine.script(
        Script((), Exit(0), {"/mlci/output/metrics.json": b'{"accuracy": 0.8}'}),
        lambda spec: spec.env.get("MLCI_RUN_ID") == str(run.id),
    )
    judged = world.finish(run, line.server)
    assert len(measuring(world)) == 1
    assert judged.state is RunState.INCONCLUSIVE
    assert f"cannot be compared with {first.title}: it could not be confirmed" in judged.message


def test_of_two_servers_one_has_a_baseline_measured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    line, _, run = confirming(world)

    def waits() -> bool:
        line.server.tick()
        world.evaluator.tick()
        return bool(measuring(world))

    wait_until(waits, "the run that confirms")
    other = references.References(world.store, world.clock)
    monkeypatch.setattr(other, "_under_way", lambda *args, **options: None)
    found = other.of(world.store.runs.get(run.id), line.pipeline)
    (fresh,) = measuring(world)
    assert found == references.Waiting(fresh.id)
    world.finish(run, line.server)


def test_of_two_servers_one_measures_further(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    line, _ = wanting(world)
    one, other = topping(world, [line.pipeline]), topping(world, [line.pipeline])
    enqueue = world.store.runs.enqueue
    late: list[Run | None] = []

    def at_once(*args: object) -> Run | None:
        monkeypatch.setattr(world.store.runs, "enqueue", enqueue)
        late.append(other.tick())
        return enqueue(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store.runs, "enqueue", at_once)
    first = one.tick()
    assert [run is None for run in (first, late[0])].count(True) == 1
    assert len(measuring(world)) == 1


def test_a_stranger_has_no_baseline_measured_and_uses_what_is_there(world: World) -> None:
    top = (BaselineSpec("top", parse_selector("best"), confirm=1),)
    line = Line(world, "accuracy >= 0")
    line.push("a", accuracy=0.7)
    line.pipeline = replace(
        pipeline(gate=Gate((parse_check("accuracy not worse than top by 1"),)), baselines=top), untrusted=True
    )
    run = line.push("b", accuracy=0.7)
    assert run.state is RunState.INCONCLUSIVE
    assert run.message.endswith("for a change of strangers no more is measured")
    assert measuring(world) == []
    line.pipeline = replace(line.pipeline, untrusted=False)
    assert line.push("c", accuracy=0.7).state is RunState.PASSED
    assert len(measuring(world)) == 1
    line.pipeline = replace(line.pipeline, untrusted=True)
    after = line.push("d", accuracy=0.7)
    assert after.state is RunState.PASSED
    assert len(measuring(world)) == 1


def test_a_stranger_has_few_baselines_measured_on_new_data(world: World) -> None:
    line = Line(world, "accuracy >= 0", datasets=(TEST,))
    runs = [line.push(word, accuracy=0.9) for word in "abcd"]
    world.data.write("rows.csv", b"harder\n")
    checks = tuple(parse_check(f"accuracy not worse than run:{run.id} by 1") for run in runs)
    line.pipeline = replace(line.pipeline, gate=Gate(checks), untrusted=True)
    line.leave({"accuracy": 0.8})
    (run,) = world.detector.scan_dataset(line.pipeline, TEST)
    ended = world.finish(run, line.server)
    assert len(measuring(world)) == 2
    assert ended.state is RunState.INCONCLUSIVE
    assert "for a change of strangers no more is measured" in ended.message
