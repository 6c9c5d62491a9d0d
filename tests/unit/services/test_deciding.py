"""Inconclusive runs whose gate leaves it to people: who decides, why, and what is owed then."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import EmailAction
from orchestrator.domain.check import Test, parse_check
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.gate import Gate, OnInconclusive, Outcome
from orchestrator.domain.run import Exit, Run, RunState
from orchestrator.ports.engine import ContainerSpec
from orchestrator.ports.hooks import Ruling
from orchestrator.services.approve import Approver
from tests.support.fake_engine import Script
from tests.unit.services.forges import WINE
from tests.unit.services.worlds import World, pipeline

MAILS = (
    (Trigger.PASS, EmailAction(("passed@example.org",))),
    (Trigger.FAIL, EmailAction(("failed@example.org",))),
    (Trigger.INCONCLUSIVE, EmailAction(("unsure@example.org",))),
)


@pytest.fixture
def approver(world: World) -> Approver:
    return Approver(world.store, world.clock)


def of_replicate(number: int) -> Callable[[ContainerSpec], bool]:
    return lambda spec: spec.env["MLCI_REPLICATE"] == str(number)


def undecided(world: World, says: OnInconclusive = OnInconclusive.MANUAL) -> Run:
    """A run whose replicates are too few to show anything."""
    check = replace(parse_check("accuracy >= 0.9"), test=Test.REPLICATES)
    for replicate, value in enumerate((0.95, 0.86)):
        files = {"/mlci/output/metrics.json": json.dumps({"accuracy": value}).encode()}
        world.engine.script(Script((), Exit(0), files), of_replicate(replicate))
    gate, server = Gate((check,), says), world.server()
    run = world.finish(
        world.first_run(pipeline(gate=gate, actions=MAILS, replicates=2, sources=(WINE,))), server
    )
    assert run.state is RunState.INCONCLUSIVE
    return run


def owed(world: World, run: Run) -> list[str]:
    return [action.trigger.value for action in world.store.actions.of_run(run.id)]


def test_a_decided_pass_is_owed_what_any_pass_is(world: World, approver: Approver) -> None:
    run = undecided(world)
    assert owed(world, run) == ["inconclusive"]
    decided = approver.decide(run, True, "ana@desk", "looked at  the f1\nby hand")
    assert decided is not None
    assert decided.state is RunState.PASSED
    assert owed(world, run) == ["inconclusive", "pass"]
    (said,) = world.store.approvals.decisions(run.id)
    assert (said.ruling, said.who, said.reason) == (
        Ruling.DECIDED_PASS,
        "ana@desk",
        "looked at the f1 by hand",
    )
    entry = world.store.journal.of_run(run.id)[-2]
    assert (entry.before, entry.after, entry.who) == ("inconclusive", "passed", "ana@desk")
    assert "looked at the f1 by hand" in entry.reason


def test_the_verdict_says_who_decided_and_what_the_gate_had_said(world: World, approver: Approver) -> None:
    run = undecided(world)
    decided = approver.decide(run, False, "ana@desk", "too risky")
    assert decided is not None
    assert decided.verdict is not None
    assert decided.state is RunState.REJECTED
    assert decided.verdict.outcome is Outcome.FAIL
    assert decided.verdict.sentence == (
        "fail by decision of ana@desk: too risky; the gate had said: accuracy 0.905 (2 runs) against the "
        "limit >= 0.9: 0.005 above it, within noise (0.064 per run); neither that it meets the limit "
        "nor that it misses it is shown: inconclusive (a person decides)"
    )
    assert decided.verdict.checks[0].outcome is Outcome.INCONCLUSIVE
    assert owed(world, run)[-1] == "fail"
    assert world.reports.build(decided).headline == decided.verdict.sentence


def test_a_run_is_decided_once(world: World, approver: Approver) -> None:
    run = undecided(world)
    assert approver.decide(run, True, "ana@desk", "fine") is not None
    assert approver.decide(run, False, "bob@desk", "no") is None
    assert len(world.store.approvals.decisions(run.id)) == 1


@pytest.mark.parametrize("says", [OnInconclusive.HOLD])
def test_only_a_gate_that_leaves_it_to_people_can_be_decided(
    world: World, approver: Approver, says: OnInconclusive
) -> None:
    run = undecided(world, says)
    with pytest.raises(InvalidInput, match="does not leave it to people: on_inconclusive is hold"):
        approver.decide(run, True, "ana@desk", "fine")
    assert world.store.runs.get(run.id).state is RunState.INCONCLUSIVE


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_decision_without_a_reason_is_none(world: World, approver: Approver, reason: str) -> None:
    run = undecided(world)
    with pytest.raises(InvalidInput, match="needs a reason"):
        approver.decide(run, True, "ana@desk", reason)


def test_a_forge_that_was_told_inconclusive_is_told_again(world: World, approver: Approver) -> None:
    run = undecided(world)
    (owes,) = world.store.statuses.due(world.clock.now())
    now = world.clock.now()
    claimed = world.store.statuses.claim(owes, now, now + timedelta(minutes=1))
    assert claimed is not None
    world.store.statuses.told(claimed, "inconclusive", "7")
    assert not world.store.statuses.any_owed()
    approver.decide(run, True, "ana@desk", "fine")
    (again,) = world.store.statuses.due(now)
    assert (again.run_id, again.external_id) == (run.id, "7")
