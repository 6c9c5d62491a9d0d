"""Environments that change, and servers that go away, while a release is rolled out or taken back."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.activation import Activation, Probe
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.errors import ServerRejected, ServerUnavailable
from orchestrator.domain.run import Run
from orchestrator.services.act import LEASE_SECONDS
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
from tests.unit.services.worlds import World

ACTIVE = DeploymentState.ACTIVE
AWAITING = DeploymentState.AWAITING_APPROVAL
ROLLED_BACK = DeploymentState.ROLLED_BACK
DAY = 24 * 3600


@pytest.fixture
def webs(world: World) -> World:
    world.servers.add(*WEBS)
    return world


def out_of_reach(world: World, server: str) -> None:
    faults = world.servers.targets[server].faults
    faults["connect"] = [ServerUnavailable(f"{server}: no route to host")] * 999


def hours(world: World, count: int) -> None:
    for _ in range(count * 4):
        work_off(world)
        world.clock.advance(900)


def recorded(world: World) -> list[str | None]:
    rows = [world.store.deployments.live("wine", server) for server in WEBS]
    return [None if row is None else row.release for row in rows]


def one_try(world: World, action: Action) -> None:
    assert world.actor().carry_out(world.store.actions.get(action.id)) == 1


def cut_off_while_proved(world: World, word: str) -> Run:
    """A run whose release is live on web1, and switched to on web2 without an answer to the health check."""
    for name in WEBS:
        world.servers.activations[name] = Activation(health=(HEALTH,))
        world.servers.targets[name].answer = answers()

    def cut(probe: Probe) -> object:
        raise ServerUnavailable("the link was cut")

    world.servers.targets["web2"].answer = cut  # type: ignore[assignment]
    run = passed(world, deploying("prod"), word)
    work_off(world)
    world.servers.targets["web2"].answer = answers()
    assert states(world, run)["web2"] is DeploymentState.ACTIVATING
    return run


def test_what_was_switched_to_is_proved_although_a_newer_release_takes_the_rest(webs: World) -> None:
    with_prod(webs)
    passed(webs, deploying("prod"))
    work_off(webs)
    second = cut_off_while_proved(webs, "second")
    third = passed(webs, deploying("prod"), "third")
    webs.servers.targets["web2"].faults["connect"] = [ServerUnavailable("busy")]
    one_try(webs, only(webs, third))
    assert states(webs, third)["web1"] is ACTIVE
    webs.clock.advance(60)
    one_try(webs, only(webs, second))
    assert states(webs, second)["web2"] is ACTIVE
    assert states(webs, second)["web3"] is DeploymentState.SUPERSEDED
    assert only(webs, second).state is ActionState.SKIPPED
    assert recorded(webs) == live(webs)
    work_off(webs)
    assert set(states(webs, third).values()) == {ACTIVE}
    assert recorded(webs) == live(webs)


def test_what_was_switched_to_is_put_back_on_a_server_that_left_its_environment(webs: World) -> None:
    with_prod(webs)
    passed(webs, deploying("prod"))
    work_off(webs)
    before = live(webs)
    run = cut_off_while_proved(webs, "second")
    with_web2 = webs.environments["prod"]
    webs.environments["prod"] = dataclasses.replace(with_web2, servers=("web1", "web3"))
    webs.clock.advance(60)
    work_off(webs)
    assert states(webs, run) == {"web1": ACTIVE, "web2": ROLLED_BACK, "web3": ACTIVE}
    assert live(webs)[1] == before[1]
    assert recorded(webs) == live(webs)


def test_a_release_is_taken_back_as_soon_as_its_server_answers_again(webs: World) -> None:
    with_prod(webs)
    passed(webs, deploying("prod"))
    work_off(webs)
    before = live(webs)
    run = passed(webs, deploying("prod"), "second")
    out_of_reach(webs, "web2")
    work_off(webs)
    out_of_reach(webs, "web1")
    hours(webs, 4)
    action = only(webs, run)
    assert (action.state, states(webs, run)["web1"]) == (ActionState.PENDING, DeploymentState.PUTTING_BACK)
    assert action.waits == "prod: to be taken back, but web1: no route to host"
    for name in ("web1", "web2"):
        webs.servers.targets[name].faults.clear()
    work_off(webs)
    assert live(webs) == before == recorded(webs)
    assert states(webs, run)["web1"] is ROLLED_BACK
    action = only(webs, run)
    assert (action.state, action.message) == (
        ActionState.FAILED,
        "web2: web2: no route to host; taken back on web1",
    )


def test_a_server_that_stays_away_ends_as_failed_after_a_day(webs: World) -> None:
    with_prod(webs)
    passed(webs, deploying("prod"))
    work_off(webs)
    run = passed(webs, deploying("prod"), "second")
    out_of_reach(webs, "web2")
    work_off(webs)
    out_of_reach(webs, "web1")
    hours(webs, 3)
    webs.clock.advance(DAY)
    work_off(webs)
    assert only(webs, run).state is ActionState.FAILED
    row = next(row for row in webs.store.deployments.of_run(run.id) if row.server == "web1")
    assert row.state is DeploymentState.FAILED
    assert row.message.endswith("what is live there could not be found out")


def test_one_server_that_is_away_keeps_no_other_one_from_being_taken_back(webs: World) -> None:
    with_prod(webs)
    passed(webs, deploying("prod"))
    work_off(webs)
    before = live(webs)
    run = passed(webs, deploying("prod"), "second")

    def then_away(call: str) -> None:
        if call == "upload":
            out_of_reach(webs, "web2")

    webs.servers.targets["web3"].before = then_away
    webs.servers.targets["web3"].faults["upload"] = [ServerRejected("disk full")]
    work_off(webs)
    assert live(webs)[0] == before[0]
    assert states(webs, run)["web2"] is DeploymentState.PUTTING_BACK
    webs.servers.targets["web2"].faults.clear()
    webs.clock.advance(60)
    work_off(webs)
    assert live(webs) == before
    assert only(webs, run).message == "web3: disk full; taken back on web1, web2"


def test_a_server_that_left_and_came_back_waits_for_the_approval_as_before(webs: World) -> None:
    with_prod(webs, approval=True)
    run = passed(webs, deploying("prod"))
    work_off(webs)
    prod = webs.environments["prod"]
    webs.environments["prod"] = dataclasses.replace(prod, servers=("web1", "web3"))
    hours(webs, 2)
    webs.environments["prod"] = prod
    hours(webs, 2)
    assert states(webs, run) == dict.fromkeys(WEBS, AWAITING)
    assert live(webs) == [None] * 3
    webs.environments["prod"] = dataclasses.replace(prod, servers=("web1", "web3"))
    assert desk(webs).decide(only(webs, run).id, True, "ana", "") is not None
    work_off(webs)
    assert states(webs, run) == {"web1": ACTIVE, "web2": DeploymentState.CANCELLED, "web3": ACTIVE}


def test_a_row_that_was_cancelled_lets_nothing_pass_the_approval_and_fails_with_its_words(
    webs: World,
) -> None:
    with_prod(webs, approval=True)
    run = passed(webs, deploying("prod"))
    work_off(webs)
    now = webs.clock.now
    action = only(webs, run)
    webs.clock.advance(600)
    lease = webs.store.actions.claim(action.id, "me", now(), LEASE_SECONDS)
    assert lease is not None
    row = next(row for row in webs.store.deployments.of_run(run.id) if row.server == "web2")
    webs.store.deployments.move(lease, row, DeploymentState.CANCELLED, now(), "it was taken out")
    webs.store.actions.wait(lease, now(), "waits", now())
    work_off(webs)
    assert live(webs) == [None] * 3
    assert only(webs, run).state is ActionState.PENDING
    assert desk(webs).decide(action.id, True, "ana", "") is not None
    work_off(webs)
    assert live(webs) == [None] * 3
    ended = only(webs, run)
    assert (ended.state, ended.message) == (
        ActionState.FAILED,
        "web2: it was taken out; taken back on web1",
    )
