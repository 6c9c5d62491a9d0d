"""What the record says is live is what serves, whatever went wrong on the way, and rollback finds it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from orchestrator.domain.action import ActionState, Trigger
from orchestrator.domain.action_spec import DeployAction, Rule
from orchestrator.domain.activation import Activation, Answer, Probe
from orchestrator.domain.check import parse_check
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.errors import InvalidInput, ServerRejected, ServerUnavailable
from orchestrator.domain.gate import Gate
from orchestrator.services.deploying.site import Site
from tests.unit.services.test_putting_back import HEALTH, answers
from tests.unit.services.test_rolling_out import (
    WEBS,
    deploying,
    desk,
    live,
    only,
    passed,
    states,
    with_prod,
    work_off,
)
from tests.unit.services.worlds import World, pipeline

ACTIVE, FAILED = DeploymentState.ACTIVE, DeploymentState.FAILED


@pytest.fixture
def webs(world: World) -> World:
    world.servers.add(*WEBS)
    return with_prod(world)


def recorded(world: World) -> dict[str, str]:
    return {row.server: row.release for row in desk(world).live()}


def test_a_release_put_back_that_does_not_serve_is_still_what_is_live(webs: World) -> None:
    passed(webs, deploying("prod"))
    work_off(webs)
    (first, *_) = live(webs)
    targets = webs.servers.targets
    for name in WEBS:
        webs.servers.activations[name] = Activation(health=(HEALTH,))
        targets[name].answer = answers()

    def only_the_new_one(probe: Probe) -> Answer:
        return Answer(503, "broken") if targets["web1"].live == first else Answer(200, "ok")

    targets["web1"].answer = only_the_new_one
    targets["web2"].faults["upload"] = [ServerRejected("full")]
    bad = passed(webs, deploying("prod"), "second")
    work_off(webs)
    assert states(webs, bad)["web1"] is FAILED
    assert recorded(webs) == dict.fromkeys(WEBS, first)


def test_a_release_that_somebody_else_switched_to_is_not_taken_for_the_one_before(webs: World) -> None:
    passed(webs, deploying("prod"))
    work_off(webs)
    (first, *_) = live(webs)
    targets = webs.servers.targets

    def by_hand(call: str) -> None:
        if call == "upload":
            targets["web1"].live = "20990101T000000Z-77"
            raise ServerRejected("full")

    targets["web2"].before = by_hand
    bad = passed(webs, deploying("prod"), "second")
    work_off(webs)
    assert states(webs, bad)["web1"] is DeploymentState.ROLLED_BACK
    assert recorded(webs) == {"web2": first, "web3": first}


def test_rollback_switches_every_server_that_answers(webs: World) -> None:
    passed(webs, deploying("prod"))
    work_off(webs)
    (first, *_) = live(webs)
    passed(webs, deploying("prod"), "second")
    work_off(webs)
    second = live(webs)[0]
    webs.servers.targets["web1"].faults["connect"] = [ServerUnavailable("web1 does not answer")] * 99
    action = desk(webs).roll_back("prod", "ana", "broken")
    work_off(webs)
    assert live(webs) == [second, first, first]
    assert webs.store.actions.get(action.id).state is ActionState.PENDING
    webs.servers.targets["web1"].faults.clear()
    webs.clock.advance(900)
    work_off(webs)
    assert live(webs) == [first] * 3
    assert webs.store.actions.get(action.id).state is ActionState.DONE


def test_rollback_that_one_server_never_answers_fails_and_says_which(webs: World) -> None:
    passed(webs, deploying("prod"))
    work_off(webs)
    (first, *_) = live(webs)
    passed(webs, deploying("prod"), "second")
    work_off(webs)
    webs.servers.targets["web1"].faults["connect"] = [ServerUnavailable("web1 does not answer")] * 99
    action = desk(webs).roll_back("prod", "ana", "broken")
    for _ in range(8):
        work_off(webs)
        webs.clock.advance(900)
    assert live(webs)[1:] == [first] * 2
    ended = webs.store.actions.get(action.id)
    assert (ended.state, "web1" in ended.message) == (ActionState.FAILED, True)


def test_stopping_the_orchestrator_is_no_failed_try_and_probation_goes_on_where_it_was(
    webs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in WEBS:
        webs.servers.activations[name] = Activation(health=(HEALTH,), bake=3600.0)
        webs.servers.targets[name].answer = answers()
    once = DeployAction(files=("model.bin",), environment="prod", rule=Rule(tries=1))
    owed = pipeline(gate=Gate((parse_check("accuracy >= 0.9"),)), actions=((Trigger.PASS, once),))
    stopping = threading.Event()
    made = Site.__init__
    monkeypatch.setattr(
        Site, "__init__", lambda self, *args, **more: made(self, *args, **{**more, "stopping": stopping})
    )
    run = passed(webs, owed)
    began = webs.clock.now()
    target = webs.servers.targets["web1"]

    def after_a_while(call: str) -> None:
        if call.startswith("ask") and (webs.clock.now() - began).total_seconds() > 1800:
            stopping.set()

    target.before = after_a_while
    webs.actor().carry_out_due()
    action = only(webs, run)
    assert (action.state, action.tries) == (ActionState.PENDING, 0)
    assert states(webs, run)["web1"] is DeploymentState.BAKING
    target.before = lambda call: None
    stopping.clear()
    target.calls.clear()
    work_off(webs)
    assert only(webs, run).state is ActionState.DONE
    (first, *_) = webs.store.deployments.of_run(run.id)
    assert first.activated_at is not None
    assert 3600 <= (first.activated_at - began).total_seconds() < 3700


def test_what_is_decided_does_not_wait_any_more(webs: World) -> None:
    with_prod(webs, approval=True)
    run = passed(webs, deploying("prod"))
    work_off(webs)
    assert only(webs, run).waits
    desk(webs).decide(only(webs, run).id, True, "ana", "")
    assert only(webs, run).waits == ""


def test_a_server_has_one_live_release_whichever_pipeline_it_is_of(webs: World) -> None:
    passed(webs, deploying("prod"))
    work_off(webs)
    other = passed(webs, replace(deploying("prod"), name="cheese"))
    work_off(webs)
    assert [row.run_id for row in desk(webs).live()] == [other.id] * 3


def test_nobody_deploys_by_hand_where_another_pipeline_is_live(webs: World) -> None:
    passed(webs, deploying("prod"))
    work_off(webs)
    stranger = passed(webs, replace(deploying(), name="cheese"))
    with pytest.raises(InvalidInput, match="wine is live on prod"):
        desk(webs).deploy(stranger, "prod", "ana", "")
