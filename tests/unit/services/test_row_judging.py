"""Runs that are judged by their predictions, row by row, from the files that they left."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.domain.check import Comparison, Test, parse_check
from orchestrator.domain.gate import Gate
from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import MetricSpec, Pipeline
from orchestrator.domain.run import Exit, Run, RunState
from orchestrator.services import predictions
from tests.support.fake_engine import Script
from tests.unit.services.worlds import World, pipeline

ROWS = 60


def by_rows(slices: str = "") -> Pipeline:
    check = replace(parse_check("accuracy not worse than previous"), test=Test.PAIRED_ROWS)
    assert isinstance(check, Comparison)
    gate = Gate((replace(check, slices=slices),))
    return pipeline(
        gate=gate,
        metrics=(MetricSpec("accuracy", Direction.HIGHER, predictions="preds.csv", row_id="row_id"),),
        artifacts=("preds.csv",),
    )


def train(world: World, of: Pipeline, word: str, wrong: int, ids: str = "r", *, keep: bool = True) -> Run:
    """A run of a new commit that gets so many of the rows wrong, those of dogs first."""
    lines = [
        f"{ids}{row},1,{int(row >= wrong)},{'dog' if row < ROWS // 2 else 'cat'}"
        for row in reversed(range(ROWS))
    ]
    files = {"/mlci/output/metrics.json": json.dumps({"accuracy": 1 - wrong / ROWS}).encode()}
    if keep:
        files["/mlci/output/preds.csv"] = "\n".join(["row_id,label,prediction,animal", *lines]).encode()
    world.engine.script(Script((), Exit(0), files))
    if not world.store.detection.heads(of.name, "repo"):
        return world.finish(world.first_run(of), world.server())
    world.sources.push("main", word)
    (run,) = world.detector.poll_source(of, of.sources[0])
    return world.finish(run, world.server())


def test_a_model_that_loses_rows_is_rejected_by_the_files_of_both_runs(world: World) -> None:
    train(world, by_rows(), "a", 2)
    same = train(world, by_rows(), "b", 4)
    assert same.state is RunState.PASSED
    worse = train(world, by_rows(), "c", 20)
    assert worse.state is RunState.REJECTED
    assert worse.verdict is not None
    (check,) = worse.verdict.checks
    assert (check.test, check.rows) == ("exact McNemar", ROWS)
    assert "16 rows lost, 0 gained" in check.sentence
    assert "of these two models alone" in check.sentence


def test_a_slice_that_drops_is_found_among_those_that_do_not(world: World) -> None:
    train(world, by_rows("animal"), "a", 0)
    worse = train(world, by_rows("animal"), "b", 12)
    assert worse.verdict is not None
    assert [(c.slice, c.outcome.value) for c in worse.verdict.checks] == [
        ("animal cat", "pass"),
        ("animal dog", "fail"),
    ]


def test_predictions_of_other_rows_are_never_compared(world: World) -> None:
    train(world, by_rows(), "a", 2)
    other = train(world, by_rows(), "b", 2, ids="x")
    assert other.state is RunState.INCONCLUSIVE
    assert other.verdict is not None
    assert "other rows" in other.verdict.sentence


def test_a_run_without_its_predictions_is_undecided_and_says_so(world: World) -> None:
    of = replace(by_rows(), artifacts=())
    train(world, of, "a", 2)
    without = train(world, of, "b", 2, keep=False)
    assert without.state is RunState.INCONCLUSIVE
    assert without.verdict is not None
    assert "did not keep its preds.csv of replicate 0" in without.verdict.sentence


@pytest.mark.parametrize(
    ("bound", "most", "said"),
    [
        ("_MOST_HELD", ROWS * 3 * 8 * 2, "bytes that are left for the predictions of all files"),
        ("_MOST_READ", 1000, "predictions of all runs together have more than 1000 bytes"),
    ],
)
def test_predictions_that_are_too_large_together_are_undecided_and_say_so(
    world: World, monkeypatch: pytest.MonkeyPatch, bound: str, most: int, said: str
) -> None:
    monkeypatch.setattr(predictions, bound, most)
    train(world, by_rows(), "a", 2)
    second = train(world, by_rows(), "b", 2)
    assert second.state is RunState.INCONCLUSIVE
    assert second.verdict is not None
    assert said in second.verdict.sentence
