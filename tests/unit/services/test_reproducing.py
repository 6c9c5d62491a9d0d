"""A run is done again with what it had, and judged by its own numbers."""

from __future__ import annotations

import json

import pytest

from orchestrator.domain.check import parse_check
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.gate import Gate
from orchestrator.domain.run import Exit, Run, RunState
from orchestrator.services.reproduce import Reproducer
from tests.support.fake_engine import Script
from tests.unit.services.worlds import World, pipeline

PLAN = pipeline(gate=Gate((parse_check("accuracy not worse than best"),)), replicates=2)


def leave(world: World, accuracy: float) -> None:
    content = json.dumps({"accuracy": accuracy}).encode()
    world.engine.script(Script((), Exit(0), {"/mlci/output/metrics.json": content}))


def trained(world: World, accuracy: float = 0.9) -> Run:
    leave(world, accuracy)
    return world.finish(world.first_run(PLAN), world.server())


def again(world: World, run: Run) -> Run:
    return world.finish(Reproducer(world.store, world.clock).enqueue(run, "ada"), world.server())


def test_a_reproduction_has_the_commit_the_data_the_image_and_the_seeds(world: World) -> None:
    run = trained(world)
    world.sources.push("main", "newer")
    made = again(world, run)
    assert made.state is RunState.PASSED
    assert made.change.revision == run.change.revision
    assert made.change.datasets == run.change.datasets
    old, new = (world.store.attempts.of_run(each.id) for each in (run, made))
    assert [a.seed for a in new] == [a.seed for a in old]
    assert [a.image_digest for a in new] == [a.image_digest for a in old]


def test_the_image_is_the_old_one_though_its_name_has_moved_on(world: World) -> None:
    run = trained(world)
    (digest,) = {a.image_digest for a in world.store.attempts.of_run(run.id)}
    world.engine.images["image:1"] = "sha256:newer"
    world.engine.images[digest] = digest
    made = again(world, run)
    assert {a.image_digest for a in world.store.attempts.of_run(made.id)} == {digest}
    assert made.verdict is not None
    assert made.verdict.warnings == ()


def test_an_image_that_is_gone_is_told(world: World) -> None:
    run = trained(world)
    world.engine.images["image:1"] = "sha256:newer"
    made = again(world, run)
    assert made.state is RunState.PASSED
    assert made.verdict is not None
    (warning,) = made.verdict.warnings
    assert warning.startswith("the image is another one: newer")


def test_other_numbers_are_no_reproduction(world: World) -> None:
    run = trained(world, 0.9)
    leave(world, 0.91)
    made = again(world, run)
    assert made.state is RunState.REJECTED
    assert world.store.runs.previous_state(made) is None, "it breaks nothing"
    assert made.message == ("wine #1 is not reproduced: accuracy is 0.91 and was 0.9 in replicate 0")


def test_a_reproduction_owes_no_actions_and_is_nobodys_baseline(world: World) -> None:
    run = trained(world, 0.9)
    made = again(world, run)
    assert not world.store.actions.of_run(made.id)
    leave(world, 0.9)
    world.sources.push("main", "next")
    (fresh,) = world.detector.poll_source(PLAN, PLAN.sources[0])
    judged = world.finish(fresh, world.server())
    assert judged.verdict is not None
    assert judged.verdict.checks[0].baseline_run == run.id


def test_a_reproduction_of_a_reproduction_has_the_first_ones_seeds(world: World) -> None:
    run = trained(world)
    twice = again(world, again(world, run))
    assert {a.seed for a in world.store.attempts.of_run(twice.id)} == {
        a.seed for a in world.store.attempts.of_run(run.id)
    }


def test_what_has_not_been_trained_cannot_be_reproduced(world: World) -> None:
    with pytest.raises(InvalidInput, match="left no numbers"):
        Reproducer(world.store, world.clock).enqueue(world.first_run(PLAN), "ada")
