"""What a gate would have said about runs of the past."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.adapters.collectors import format_readers
from orchestrator.domain.baseline import BaselineSpec, parse_selector
from orchestrator.domain.check import parse_check
from orchestrator.domain.errors import NotFound
from orchestrator.domain.gate import Gate, OnInconclusive, Outcome
from orchestrator.domain.pipeline import Looks, Pipeline
from orchestrator.domain.run import Exit, Run, RunState
from orchestrator.ports.engine import ContainerSpec
from orchestrator.services.approve import Approver
from orchestrator.services.predictions import RowReader
from orchestrator.services.replay import Replayed, Replayer
from tests.support.fake_engine import Script
from tests.unit.services.test_judging_runs import Line
from tests.unit.services.test_row_judging import by_rows
from tests.unit.services.test_row_judging import train as predict
from tests.unit.services.worlds import World, pipeline


def replay(world: World, of: Pipeline, last: int = 10) -> list[Replayed]:
    rows = RowReader(world.store, world.blobs, format_readers())
    return Replayer(world.store, world.clock, rows).replay(of, last)


LENIENT = Gate((parse_check("accuracy not worse than previous by 1"),))
NOISE = (0.001, -0.001, 0.0, 0.002, -0.002, 0.0005, -0.0005, 0.0)


def train(world: World, of: Pipeline, word: str, mean: float) -> Run:
    """A run of a new commit whose replicates lie around a mean."""
    world.clock.advance(60)
    for replicate in range(of.replicates):
        content = json.dumps({"accuracy": mean + NOISE[replicate]}).encode()

        def wanted(spec: ContainerSpec, number: str = str(replicate)) -> bool:
            return spec.env["MLCI_REPLICATE"] == number

        world.engine.script(Script((), Exit(0), {"/mlci/output/metrics.json": content}), wanted)
    if not world.store.detection.heads(of.name, "repo"):
        return world.finish(world.first_run(of), world.server())
    world.sources.push("main", word)
    (run,) = world.detector.poll_source(of, of.sources[0])
    return world.finish(run, world.server())


def history(world: World, replicates: int = 4) -> Pipeline:
    """A pipeline whose lenient gate let three runs pass, the last of which had lost much."""
    of = pipeline(gate=LENIENT, replicates=replicates)
    for word, mean in (("a", 0.9), ("b", 0.901), ("c", 0.85)):
        assert train(world, of, word, mean).state is RunState.PASSED
    return of


def test_a_stricter_gate_tells_which_runs_it_would_have_failed(world: World) -> None:
    of = history(world)
    strict = replace(of, gate=Gate((parse_check("accuracy not worse than previous by 0.5pp"),)))
    first, second, third = replay(world, strict)
    assert first.verdict.checks[0].outcome is Outcome.SKIPPED
    assert (second.verdict.outcome, second.differs) == (Outcome.PASS, False)
    assert (third.verdict.outcome, third.differs) == (Outcome.FAIL, True)
    assert third.verdict.checks[0].test == "t with noise ledger"
    assert "a regression beyond 0.5 points is shown: fail" in third.verdict.sentence


def test_only_the_last_runs_are_replayed_and_nothing_is_written(world: World) -> None:
    of = history(world)
    head, runs = world.store.journal.head(), len(world.store.runs.listing())
    (only,) = replay(world, of, 1)
    assert only.run.number == 3
    assert not only.differs
    assert (world.store.journal.head(), len(world.store.runs.listing())) == (head, runs)


def test_a_clear_case_would_have_needed_fewer_replicates(world: World) -> None:
    of = history(world)
    looked = replace(
        of, gate=Gate((parse_check("accuracy not worse than previous by 0.5pp"),)), looks=Looks((2, 4))
    )
    third = replay(world, looked, 1)[0]
    assert (third.verdict.outcome, third.replicates) == (Outcome.FAIL, 2)


def test_a_pipeline_that_was_never_judged_has_nothing_to_replay(world: World) -> None:
    assert replay(world, pipeline(gate=LENIENT)) == []


def asked(*checks: str, **changes: object) -> Pipeline:
    return pipeline(gate=Gate(tuple(map(parse_check, checks))), **changes)


def test_what_was_measured_later_is_not_compared_with(world: World) -> None:
    line = Line(world, "accuracy not worse than previous by 1")
    first = line.push("a", accuracy=0.7)
    world.clock.advance(60)
    line.push("b", accuracy=0.8)
    world.clock.advance(60)
    line.leave({"accuracy": 0.9})
    world.finish(world.detector.run_now(line.pipeline, None, "ana", rerun_of=first), line.server)
    for of in (line.pipeline, asked("accuracy not worse than best by 1")):
        told = [each.verdict.checks[0].baseline_runs for each in replay(world, of)]
        assert told[:2] == [(), (first.id,)]


def test_the_noise_is_that_which_was_known_then(world: World) -> None:
    of = history(world, replicates=2)
    # Not the gate of then, so that its noise is not just what was written down.
    strict = replace(of, gate=Gate((parse_check("accuracy not worse than previous by 0.5pp"),)))
    then = [each.verdict.checks[0].ledger_runs for each in replay(world, strict)]
    for word in range(8):
        train(world, of, f"later {word}", 0.9)
    assert then == [0, 0, 1]
    assert [each.verdict.checks[0].ledger_runs for each in replay(world, strict, 11)][:3] == then


def test_baselines_that_began_anew_later_had_not_begun_then(world: World) -> None:
    line = Line(world, "accuracy >= 0")
    first = line.push("a", accuracy=0.7)
    second = line.push("b", accuracy=0.8)
    world.clock.advance(60)
    world.store.baselines.rebase("wine", second.id, "ana", "new labels", world.clock.now())
    replayed = replay(world, asked("accuracy not worse than best"))
    assert replayed[1].verdict.checks[0].baseline_run == first.id


def test_a_best_that_would_have_been_confirmed_first_is_undecided(world: World) -> None:
    line = Line(world, "accuracy >= 0")
    line.push("a", accuracy=0.7)
    line.push("b", accuracy=0.8)
    top = (BaselineSpec("top", parse_selector("best"), confirm=2),)
    second = replay(world, asked("accuracy better than top", baselines=top))[1]
    assert second.verdict.outcome is Outcome.INCONCLUSIVE
    assert "could not be confirmed as the best: it would have been measured first" in second.verdict.sentence
    assert len(world.store.runs.listing()) == 2


def test_pairs_of_seeds_are_those_of_the_chosen_run_alone(world: World) -> None:
    paired = asked("accuracy not worse than previous by 1", replicates=2, looks=Looks(pair_seeds=True))
    first = train(world, paired, "a", 0.9)
    world.clock.advance(60)
    world.finish(world.detector.run_now(paired, None, "ana", rerun_of=first), world.server())
    train(world, paired, "b", 0.9)
    other = replace(paired, gate=Gate((parse_check("accuracy not worse than best by 1"),)))
    assert [each.verdict.checks[0].baseline_n for each in replay(world, other)] == [0, 2, 2]


def test_a_pin_set_later_says_nothing_of_then(world: World) -> None:
    line = Line(world, "accuracy >= 0")
    line.push("a", accuracy=0.7)
    world.clock.advance(60)
    second = line.push("b", accuracy=0.8)
    world.store.runs.pin("wine", "gold", second.id, "ana", "", world.clock.now())
    for each in replay(world, asked("accuracy not worse than pinned:gold")):
        assert each.verdict.outcome is Outcome.INCONCLUSIVE
        assert "which is pinned now, was no baseline yet" in each.verdict.sentence
        assert each.notes == ("pins count as they are now",)


def test_predictions_are_read_again(world: World) -> None:
    for word, wrong in (("a", 2), ("b", 20)):
        predict(
            world, pipeline(gate=LENIENT, metrics=by_rows().metrics, artifacts=("preds.csv",)), word, wrong
        )
    (only,) = replay(world, by_rows(), 1)
    assert (only.verdict.outcome, only.verdict.checks[0].test) == (Outcome.FAIL, "exact McNemar")


def test_replicates_that_the_gate_would_have_trained_on_leave_it_undecided(world: World) -> None:
    of = history(world)
    check = parse_check("accuracy better than previous by 0.05pp")
    more = replace(of, gate=Gate((check,)), looks=Looks((2, 4, 8)), replicates=8)
    second = replay(world, more)[1]
    assert second.verdict.outcome is Outcome.INCONCLUSIVE
    assert not second.verdict.settled
    assert second.notes == ("it has 4 of the 8 replicates that this gate would have trained",)
    assert second.replicates == 4


def test_a_gate_without_looks_takes_as_many_replicates_as_it_asks_for(world: World) -> None:
    of = history(world)
    assert [each.replicates for each in replay(world, replace(of, replicates=3))] == [3, 3, 3]
    (third,) = replay(world, replace(of, replicates=5), 1)
    assert third.notes == ("it has 4 of the 5 replicates that this gate would have trained",)


def test_what_a_person_decided_was_inconclusive_to_the_gate(world: World) -> None:
    line = Line(world, "accuracy >= 0")
    line.push("a", accuracy=0.7)
    unsure = "accuracy proven not worse than run:99"
    line.pipeline = pipeline(gate=Gate((parse_check(unsure),), OnInconclusive.MANUAL))
    run = line.push("b", accuracy=0.7)
    decided = Approver(world.store, world.clock).decide(run, True, "ana", "fine")
    assert decided is not None
    assert decided.state is RunState.PASSED
    last = replay(world, line.pipeline, 1)[0]
    assert (last.then, last.verdict.outcome, last.differs) == (
        Outcome.INCONCLUSIVE,
        Outcome.INCONCLUSIVE,
        False,
    )


def test_a_run_that_was_removed_since_is_said_to_be(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(world, "accuracy not worse than previous by 1")
    first = line.push("a", accuracy=0.7)
    line.push("b", accuracy=0.8)
    get = world.store.runs.get

    def gone(run_id: int) -> Run:
        if run_id == first.id:
            raise NotFound("removed")
        return get(run_id)

    monkeypatch.setattr(world.store.runs, "get", gone)
    (second,) = replay(world, line.pipeline, 1)
    assert second.verdict.outcome is Outcome.INCONCLUSIVE
    assert "a run that it was compared with was removed since" in second.verdict.sentence
