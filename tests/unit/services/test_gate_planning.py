"""What a gate could show, by the noise that runs have shown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.domain.baseline import BaselineSpec, parse_selector
from orchestrator.domain.check import Claim, Comparison, Margin, parse_check
from orchestrator.domain.gate import Gate, Holdout, HoldoutMode
from orchestrator.domain.pipeline import Looks, MetricSpec, Pipeline, Scale
from orchestrator.domain.run import Exit, Run, RunState
from orchestrator.domain.statistics.planning import detectable, power
from orchestrator.ports.engine import ContainerSpec
from orchestrator.services.gateplan import Wish, plan_gate
from tests.support.fake_engine import Script
from tests.unit.services.test_judging_runs import TEST
from tests.unit.services.worlds import World, pipeline

VALUES = (0.90, 0.91, 0.92)
SD = 0.01


def gated(*checks: str, **changes: object) -> Pipeline:
    """Three replicates, and these checks."""
    return pipeline(**{"gate": Gate(tuple(map(parse_check, checks))), "replicates": 3, **changes})


def trained(world: World, made: Pipeline, ends: RunState = RunState.PASSED) -> Run:
    """A first run of which each replicate left another value."""

    for number, value in enumerate(VALUES):
        content = json.dumps({"accuracy": value, "latency_ms": value}).encode()

        def fits(spec: ContainerSpec, number: int = number) -> bool:
            return dict(spec.env).get("MLCI_REPLICATE") == str(number)

        world.engine.script(Script((), Exit(0), {"/mlci/output/metrics.json": content}), fits)
    run = world.finish(world.first_run(made), world.server())
    assert run.state is ends, run.message
    return run


def test_before_any_run_the_noise_is_unknown_and_so_is_what_it_decides(world: World) -> None:
    (plan,) = plan_gate(world.store, gated("accuracy not worse than best by 1pp"), Wish()).checks
    assert (plan.noise, plan.visible, plan.replicates_needed) == (None, None, None)
    assert (plan.baseline, plan.baseline_n, plan.looks) == ("", 3, (3,))
    assert plan.rows_needed == 6_177


def test_the_noise_of_replicates_says_what_a_guard_sees_and_needs(world: World) -> None:
    made = gated("accuracy not worse than best by 1pp")
    run = trained(world, made)
    (plan,) = plan_gate(world.store, made, Wish()).checks
    assert plan.noise is not None
    assert plan.noise.sd == pytest.approx(SD)
    assert (plan.noise.df, plan.noise.runs) == (2, 1)
    assert (plan.baseline, plan.baseline_n) == (run.title, 3)
    assert plan.visible == pytest.approx(SD * detectable(3, 3, 2))
    # Three runs of the baseline leave its own value so uncertain that no candidate makes up for it.
    assert plan.replicates_needed is None
    both = plan.needed_on_both
    assert both is not None
    assert power(0.01 / SD, both, both, 2) >= 0.8 > power(0.01 / SD, both - 1, both - 1, 2)
    assert plan.unchanged is None


def test_a_wanted_margin_takes_the_place_of_the_checks_own(world: World) -> None:
    made = gated("accuracy not worse than best")
    trained(world, made)
    (own,) = plan_gate(world.store, made, Wish()).checks
    assert (own.margin, own.replicates_needed, own.rows_needed) == (0, None, None)
    (wanted,) = plan_gate(world.store, made, Wish(Margin(0.03, points=True))).checks
    assert wanted.margin == 0.03
    assert wanted.replicates_needed is not None


def test_more_runs_of_the_baseline_are_counted_where_they_are_wanted(world: World) -> None:
    best = BaselineSpec("main", parse_selector("previous"), replicates=8)
    made = gated("accuracy not worse than main by 1pp", baselines=(best,))
    trained(world, made)
    (plan,) = plan_gate(world.store, made, Wish()).checks
    assert plan.baseline_n == 8


def test_proving_that_nothing_was_lost_tells_how_often_it_succeeds(world: World) -> None:
    check = Comparison("accuracy", parse_selector("best"), Claim.NON_INFERIOR, Margin(0.01))
    made = replace(gated(), gate=Gate((check,)))
    trained(world, made)
    (plan,) = plan_gate(world.store, made, Wish()).checks
    assert plan.unchanged == pytest.approx(power(1, 3, 3, 2), abs=1e-6)


def test_several_guards_and_looks_share_alpha(world: World) -> None:
    one = gated("accuracy not worse than best by 1pp")
    trained(world, one)
    two = gated("accuracy not worse than best by 1pp", "latency_ms not worse than best by 1", **LATENCY)
    looking = replace(one, replicates=8, looks=Looks((2, 4, 8)))
    alphas = [plan_gate(world.store, made, Wish()).checks[0].alpha for made in (one, two, looking)]
    assert alphas[:2] == [0.05, 0.025]
    assert 0.05 / 3 < alphas[2] < 0.05


def test_a_threshold_is_compared_with_a_fixed_number(world: World) -> None:
    made = gated("accuracy >= 0.8")
    trained(world, made)
    (plan,) = plan_gate(world.store, made, Wish(Margin(0.01))).checks
    assert plan.baseline_n == 0
    assert plan.visible == pytest.approx(SD * detectable(3, 0, 2))


LATENCY = {
    "metrics": (
        MetricSpec("latency_ms", direction=None, scale=Scale.LOG_RATIO),
        MetricSpec("accuracy"),
    )
}


def test_what_is_compared_by_ratio_is_planned_by_ratio(world: World) -> None:
    made = gated("latency_ms not worse than best by 5%", **LATENCY)
    trained(world, made)
    (plan,) = plan_gate(world.store, made, Wish()).checks
    assert plan.ratio
    assert plan.noise is not None
    assert plan.noise.sd == pytest.approx(SD / 0.91, rel=1e-3)
    assert plan.margin == pytest.approx(0.04879, abs=1e-5)


def test_a_budget_tells_what_is_left_and_what_it_asks_of_the_test_set(world: World) -> None:
    made = gated("accuracy not worse than best by 1pp", datasets=(TEST,))
    budget = Holdout("test", HoldoutMode.NONE, max_uses=100)
    made = replace(made, gate=replace(made.gate, holdout=budget))
    before = plan_gate(world.store, made, Wish()).holdout
    assert before is not None
    assert (before.uses, before.left, before.ended) == (0, 100, "")
    trained(world, made)
    found = plan_gate(world.store, made, Wish())
    assert found.holdout is not None
    assert (found.holdout.uses, found.holdout.left) == (1, 99)
    assert found.holdout.alpha == pytest.approx(0.0005)
    assert found.holdout.rows == ((0.01, 165_881),)
    assert found.checks[0].alpha == pytest.approx(0.0005)


def test_a_budget_that_ends_with_the_first_failure_says_so(world: World) -> None:
    budget = Holdout("test", HoldoutMode.FIRST_CHANGE, max_uses=100)
    made = gated("accuracy >= 0.95", datasets=(TEST,))
    made = replace(made, gate=replace(made.gate, holdout=budget))
    run = trained(world, made, RunState.REJECTED)
    found = plan_gate(world.store, made, Wish()).holdout
    assert found is not None
    assert (found.left, found.ended) == (0, f"{run.title} did not pass, which ended it")
