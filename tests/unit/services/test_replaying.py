"""What a gate would have said about runs of the past."""

from __future__ import annotations

import json
from dataclasses import replace

from orchestrator.domain.check import parse_check
from orchestrator.domain.gate import Gate, Outcome
from orchestrator.domain.pipeline import Looks, Pipeline
from orchestrator.domain.run import Exit, Run, RunState
from orchestrator.ports.engine import ContainerSpec
from orchestrator.services.replay import replay
from tests.support.fake_engine import Script
from tests.unit.services.worlds import World, pipeline

LENIENT = Gate((parse_check("accuracy not worse than previous by 1"),))
NOISE = (0.001, -0.001, 0.0, 0.002, -0.002, 0.0005, -0.0005, 0.0)


def train(world: World, of: Pipeline, word: str, mean: float) -> Run:
    """A run of a new commit whose replicates lie around a mean."""
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
    first, second, third = replay(world.store, strict, 10)
    assert first.verdict.checks[0].outcome is Outcome.SKIPPED
    assert (second.verdict.outcome, second.differs) == (Outcome.PASS, False)
    assert (third.verdict.outcome, third.differs) == (Outcome.FAIL, True)
    assert third.verdict.checks[0].test == "t with noise ledger"
    assert "a regression beyond 0.5 points is shown: fail" in third.verdict.sentence


def test_only_the_last_runs_are_replayed_and_nothing_is_written(world: World) -> None:
    of = history(world)
    head, runs = world.store.journal.head(), len(world.store.runs.listing())
    (only,) = replay(world.store, of, 1)
    assert only.run.number == 3
    assert not only.differs
    assert (world.store.journal.head(), len(world.store.runs.listing())) == (head, runs)


def test_a_clear_case_would_have_needed_fewer_replicates(world: World) -> None:
    of = history(world)
    looked = replace(
        of, gate=Gate((parse_check("accuracy not worse than previous by 0.5pp"),)), looks=Looks((2, 4))
    )
    third = replay(world.store, looked, 1)[0]
    assert (third.verdict.outcome, third.replicates) == (Outcome.FAIL, 2)


def test_a_pipeline_that_was_never_judged_has_nothing_to_replay(world: World) -> None:
    assert replay(world.store, pipeline(gate=LENIENT), 5) == []
