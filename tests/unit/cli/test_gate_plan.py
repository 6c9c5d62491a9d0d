"""What ``orchestrator gate plan`` answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from orchestrator.cli.gate import budget_of, lines_of
from orchestrator.domain.baseline import parse_selector
from orchestrator.domain.check import Check, Claim, Comparison, Margin, parse_check
from orchestrator.domain.gate import HoldoutMode
from orchestrator.domain.statistics.noise import Noise
from orchestrator.services.gateplan import CheckPlan, HoldoutPlan, Wish
from tests.unit.cli.conftest import Command


def test_before_any_run_the_plan_says_what_is_not_known(command: Command, folder: Path) -> None:
    ended = command("gate", "plan", "wine")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == "accuracy >= 0.9"
    assert "  noise: not known yet, no run with replicates has passed" in lines
    assert "accuracy not worse than best by 1pp" in lines
    assert "  planned: 1 replicate against 1 (none yet), alpha 0.05" in lines
    assert "6177 rows" in ended.out


def test_a_program_gets_the_plan_as_json(command: Command, folder: Path) -> None:
    ended = command("gate", "plan", "wine", "--margin", "2pp", "--json")
    threshold, guard = json.loads(ended.out)["checks"]
    assert (threshold["check"], threshold["baseline_n"]) == ("accuracy >= 0.9", 0)
    assert (guard["margin"], guard["noise_sd"], guard["looks"]) == (0.02, None, [1])
    assert json.loads(ended.out)["holdout"] is None


def test_a_margin_that_is_none_is_refused(command: Command, folder: Path) -> None:
    ended = command("gate", "plan", "wine", "--margin", "much")
    assert ended.code == 2
    assert "'much' is no margin" in ended.err


def shown(plan: CheckPlan) -> list[str]:
    return list(lines_of(plan, Wish()))


def planned(check: Check, **changes: object) -> CheckPlan:
    """Three replicates against eight of a metric with noise of 0.0038."""
    known = CheckPlan(
        check, False, Noise(0.0038, 20, 10), (3,), "wine#7", 8, 0.05, 0.00655, None, 0.005, 7, 9, None
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def test_noise_sight_and_need_are_told_in_points_where_the_check_is() -> None:
    assert shown(planned(parse_check("accuracy not worse than best by 0.5pp"))) == [
        "noise: 0.38 points between runs of one commit (10 runs, 20 degrees of freedom)",
        "planned: 3 replicates against 8 (wine#7), alpha 0.05",
        "seen with probability 0.8: a loss that exceeds the margin by 0.66 points",
        "a change of 0.5 points beyond the limit needs 7 replicates, or 9 each of candidate and baseline",
    ]


def test_looks_and_what_an_unchanged_commit_shows_are_told() -> None:
    check = Comparison("loss", parse_selector("best"), Claim.NON_INFERIOR, Margin(0.01))
    lines = shown(
        planned(check, looks=(2, 4, 8), unchanged=0.4321, replicates_needed=None, needed_on_both=None)
    )
    assert lines[1] == "planned: 8 replicates (looks at 2, 4, 8) against 8 (wine#7), alpha 0.05"
    assert lines[3] == "a commit that changes nothing passes with probability 0.43"
    assert lines[4] == "a change of 0.005 beyond the limit needs more than 1000 replicates"


def test_what_is_compared_by_ratio_is_told_in_percent() -> None:
    plan = planned(
        parse_check("latency_ms not worse than best by 5%"), ratio=True, visible=0.0488, margin=None
    )
    assert shown(plan)[2] == "seen with probability 0.8: a loss that exceeds the margin by 5 %"


def test_no_noise_at_all_is_told_as_such() -> None:
    plan = planned(
        parse_check("accuracy better than best"), noise=Noise(0.0, 4, 2), visible=None, margin=None
    )
    assert shown(plan)[0] == "noise: none in 2 runs, values are compared as they are"
    assert len(shown(plan)) == 2


def test_a_budget_is_told_with_what_is_left_of_it() -> None:
    limited = HoldoutPlan("test-v3", HoldoutMode.NONE, 40, 100, 0.0005, ((0.01, 165_881),))
    assert list(budget_of(limited)) == [
        "60 of 100 verdicts left (mode none), alpha 0.0005 for each",
        "165881 rows pin a difference of 0.01 for 100 verdicts, whatever the rows are like",
    ]
    counted = HoldoutPlan("test-v3", HoldoutMode.OFF, 1, 100, None, ())
    assert list(budget_of(counted)) == ["1 verdict so far, not limited"]
