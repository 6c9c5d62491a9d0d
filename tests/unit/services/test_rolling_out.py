"""Environments: all servers or none, in batches, by leave of a person, in windows, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from orchestrator.domain.action import Action, ActionState, Trigger
from orchestrator.domain.action_spec import DeployAction
from orchestrator.domain.check import parse_check
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.environment import Environment, Strategy, Window
from orchestrator.domain.errors import InvalidInput, NotFound, ServerRejected, ServerUnavailable
from orchestrator.domain.gate import Gate
from orchestrator.domain.model_registry import Stage
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Exit, Run, RunState
from orchestrator.services.deploying.desk import Desk
from tests.support.fake_engine import Script
from tests.unit.services.worlds import Killed, World, pipeline

WEBS = ("web1", "web2", "web3")
GOOD = Script(
    (),
    Exit(0),
    {"/mlci/output/metrics.json": b'{"accuracy": 0.93}', "/mlci/output/model.bin": b"weights"},
)
ACTIVE, RETIRED = DeploymentState.ACTIVE, DeploymentState.RETIRED


def deploying(*places: str, files: tuple[str, ...] = ("model.bin",)) -> Pipeline:
    owed = tuple((Trigger.PASS, DeployAction(files=files, environment=place)) for place in places)
    return pipeline(gate=Gate((parse_check("accuracy >= 0.9"),)), actions=owed)


def passed(world: World, of: Pipeline, word: str = "") -> Run:
    world.engine.script(GOOD)
    if word:
        world.clock.advance(10)
        world.sources.push("main", word)
        (run,) = world.detector.poll_source(of, of.sources[0])
    else:
        run = world.first_run(of)
    ended = world.finish(run, world.server())
    assert ended.state is RunState.PASSED
    return ended


def work_off(world: World) -> None:
    actor = world.actor()
    for _ in range(50):
        if not actor.tick():
            return
    raise AssertionError("it spins")


def desk(world: World) -> Desk:
    return Desk(world.store, world.clock, tuple(world.servers.targets), world.environments)


def states(world: World, run: Run) -> Mapping[str, DeploymentState]:
    return {row.server: row.state for row in world.store.deployments.of_run(run.id)}


def live(world: World) -> list[str | None]:
    return [world.servers.targets[name].live for name in WEBS]


def only(world: World, run: Run) -> Action:
    (action,) = world.store.actions.of_run(run.id)
    return action


@pytest.fixture
def webs(world: World) -> World:
    world.servers.add(*WEBS, "stage")
    return world


def with_prod(world: World, **changes: object) -> World:
    world.environments["prod"] = Environment("prod", WEBS, stage=Stage.PRODUCTION, **changes)  # type: ignore[arg-type]
    return world


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_server_of_an_environment_gets_the_same_release(webs: World, strategy: Strategy) -> None:
    with_prod(webs, strategy=strategy)
    run = passed(webs, deploying("prod"))
    work_off(webs)
    releases = {row.release for row in webs.store.deployments.of_run(run.id)}
    assert len(releases) == 1
    assert set(live(webs)) == releases
    assert set(states(webs, run).values()) == {ACTIVE}
    action = only(webs, run)
    assert action.state is ActionState.DONE
    assert action.message == f"release {releases.pop()} went live in prod: web1, web2, web3"


@pytest.mark.parametrize("strategy", list(Strategy))
def test_what_one_server_refuses_no_server_keeps(webs: World, strategy: Strategy) -> None:
    with_prod(webs, strategy=strategy)
    old = passed(webs, deploying("prod"))
    work_off(webs)
    before = live(webs)
    run = passed(webs, deploying("prod"), "second")
    webs.servers.targets["web2"].faults["upload"] = [ServerRejected("permission denied")]
    work_off(webs)
    assert live(webs) == before
    assert states(webs, run) == {
        "web1": DeploymentState.ROLLED_BACK,
        "web2": DeploymentState.FAILED,
        "web3": DeploymentState.CANCELLED,
    }
    assert set(states(webs, old).values()) == {ACTIVE}
    action = only(webs, run)
    assert (action.state, action.message) == (
        ActionState.FAILED,
        "web2: permission denied; taken back on web1",
    )
    version = webs.store.models.of_run(old.id)
    assert version is not None
    assert version.stages == (Stage.PRODUCTION,)
    assert list(webs.store.runs.deployed_ids("wine")) == [old.id]


def test_a_server_that_never_answers_takes_the_release_from_the_others_as_well(webs: World) -> None:
    with_prod(webs)
    passed(webs, deploying("prod"))
    work_off(webs)
    before = live(webs)
    run = passed(webs, deploying("prod"), "second")
    webs.servers.targets["web3"].faults["connect"] = [ServerUnavailable("web3 does not answer")] * 99
    for _ in range(8):
        work_off(webs)
        webs.clock.advance(900)
    assert live(webs) == before
    assert states(webs, run)["web3"] is DeploymentState.FAILED
    assert only(webs, run).state is ActionState.FAILED


def test_batches_follow_each_other_after_the_pause(webs: World) -> None:
    with_prod(webs, strategy=Strategy.ROLLING, batch=2, pause=60.0)
    run = passed(webs, deploying("prod"))
    work_off(webs)
    assert [name is not None for name in live(webs)] == [True, True, False]
    action = only(webs, run)
    assert action.state is ActionState.PENDING
    assert action.waits == "prod: web1, web2 went first, the others follow after a pause"
    assert list(webs.store.runs.deployed_ids("wine")) == []
    webs.clock.advance(61)
    work_off(webs)
    assert None not in live(webs)
    assert list(webs.store.runs.deployed_ids("wine")) == [run.id]


def test_a_canary_that_was_overtaken_leaves_the_others_to_the_newer_release(webs: World) -> None:
    with_prod(webs, strategy=Strategy.CANARY, pause=60.0)
    old = passed(webs, deploying("prod"))
    work_off(webs)
    new = passed(webs, deploying("prod"), "second")
    work_off(webs)
    webs.clock.advance(61)
    work_off(webs)
    webs.clock.advance(61)
    work_off(webs)
    assert set(states(webs, new).values()) == {ACTIVE}
    assert states(webs, old) == {
        "web1": RETIRED,
        "web2": DeploymentState.SUPERSEDED,
        "web3": DeploymentState.SUPERSEDED,
    }


@pytest.mark.parametrize("call", ["upload", "verify", "activate"])
@pytest.mark.parametrize("server", WEBS)
def test_a_process_that_dies_anywhere_is_followed_by_one_that_ends_it(
    webs: World, server: str, call: str
) -> None:
    with_prod(webs, strategy=Strategy.ROLLING)
    run = passed(webs, deploying("prod"))
    webs.servers.targets[server].late[call] = [Killed()]
    with pytest.raises(Killed):
        work_off(webs)
    webs.store.actions.release_dead(["me"], webs.clock.now())
    work_off(webs)
    assert set(states(webs, run).values()) == {ACTIVE}
    assert len(set(live(webs))) == 1


def test_nothing_is_sent_before_a_person_approves_and_the_record_says_who(webs: World) -> None:
    with_prod(webs, approval=True, approvers=("ana",))
    run = passed(webs, deploying("prod"))
    work_off(webs)
    assert set(states(webs, run).values()) == {DeploymentState.AWAITING_APPROVAL}
    assert all(not webs.servers.targets[name].calls for name in WEBS)
    (waiting,) = desk(webs).awaiting()
    assert waiting.run.id == run.id
    assert waiting.action.waits == "waits for approval by ana"
    with pytest.raises(InvalidInput, match="eve may not decide on prod"):
        desk(webs).decide(waiting.action.id, True, "eve", "")
    assert desk(webs).decide(waiting.action.id, True, "ana", "looks good") is not None
    assert desk(webs).decide(waiting.action.id, False, "ana", "no") is None
    work_off(webs)
    assert set(states(webs, run).values()) == {ACTIVE}
    assert desk(webs).awaiting() == ()
    told = [entry.reason for entry in webs.store.journal.of_run(run.id)]
    assert "approved by ana: looks good" in told


def test_what_a_person_rejects_is_never_sent(webs: World) -> None:
    with_prod(webs, approval=True)
    run = passed(webs, deploying("prod"))
    work_off(webs)
    (waiting,) = desk(webs).awaiting()
    desk(webs).decide(waiting.action.id, False, "ana", "not on a Friday")
    work_off(webs)
    assert set(states(webs, run).values()) == {DeploymentState.REJECTED}
    action = only(webs, run)
    assert (action.state, action.message) == (ActionState.SKIPPED, "rejected by ana: not on a Friday")
    assert all(not webs.servers.targets[name].calls for name in WEBS)


def test_a_newer_change_that_is_live_ends_the_wait_for_an_approval(webs: World) -> None:
    with_prod(webs, approval=True)
    old = passed(webs, deploying("prod"))
    work_off(webs)
    new = passed(webs, deploying("prod"), "second")
    work_off(webs)
    newest = next(each for each in desk(webs).awaiting() if each.run.id == new.id)
    desk(webs).decide(newest.action.id, True, "ana", "")
    work_off(webs)
    webs.clock.advance(3601)
    work_off(webs)
    assert set(states(webs, new).values()) == {ACTIVE}
    assert set(states(webs, old).values()) == {DeploymentState.SUPERSEDED}


def test_outside_its_windows_an_environment_waits_until_one_opens(webs: World) -> None:
    # The world begins at midnight on a Thursday.
    with_prod(webs, windows=(Window((3,), 60, 120),))
    run = passed(webs, deploying("prod"))
    work_off(webs)
    action = only(webs, run)
    assert action.waits == "prod may be deployed to from 2026-01-01 01:00 UTC on"
    assert action.tries == 0
    webs.clock.advance(timedelta(hours=1).total_seconds())
    work_off(webs)
    assert set(states(webs, run).values()) == {ACTIVE}


def test_production_follows_only_where_staging_went_before(webs: World) -> None:
    webs.environments["staging"] = Environment("staging", ("stage",), stage=Stage.CANDIDATE)
    with_prod(webs, after="staging")
    webs.servers.targets["stage"].faults["upload"] = [ServerRejected("disk full")]
    run = passed(webs, deploying("staging", "prod"))
    work_off(webs)
    first, second = webs.store.actions.of_run(run.id)
    assert (first.state, second.state) == (ActionState.FAILED, ActionState.SKIPPED)
    assert second.message == "it is not live in staging, where it has to be before prod"
    with pytest.raises(NotFound, match="nothing is live on staging"):
        desk(webs).promote("staging", "prod", "ana", "")
    desk(webs).deploy(run, "staging", "ana", "there is room now")
    work_off(webs)
    version = webs.store.models.of_run(run.id)
    assert version is not None
    assert version.stages == (Stage.CANDIDATE,)
    promoted = desk(webs).promote("staging", "prod", "ana", "it is good")
    assert promoted.run_id == run.id
    work_off(webs)
    assert len(set(live(webs)) - {None}) == 1
    version = webs.store.models.of_run(run.id)
    assert version is not None
    assert version.stages == (Stage.PRODUCTION,)


def test_a_rollback_switches_without_sending_and_moves_the_stages(webs: World) -> None:
    with_prod(webs)
    old = passed(webs, deploying("prod"))
    work_off(webs)
    first = live(webs)
    new = passed(webs, deploying("prod"), "second")
    work_off(webs)
    assert live(webs) != first
    for name in WEBS:
        webs.servers.targets[name].calls.clear()
    action = desk(webs).roll_back("prod", "ana", "users complain")
    work_off(webs)
    assert webs.store.actions.get(action.id).state is ActionState.DONE
    assert live(webs) == first
    assert all("upload" not in webs.servers.targets[name].calls for name in WEBS)
    stages = {v.run_id: v.stages for v in webs.store.models.versions("wine")}
    assert stages == {old.id: (Stage.PRODUCTION,), new.id: (Stage.ARCHIVED,)}
    with pytest.raises(NotFound, match="no release was live on web1 before"):
        desk(webs).roll_back("prod", "ana", "further")


def test_a_release_that_is_gone_from_a_server_is_sent_again_for_a_rollback(webs: World) -> None:
    with_prod(webs)
    passed(webs, deploying("prod"))
    work_off(webs)
    first = live(webs)
    passed(webs, deploying("prod"), "second")
    work_off(webs)
    webs.servers.targets["web2"].releases.pop(str(first[1]))
    desk(webs).roll_back("prod", "ana", "")
    work_off(webs)
    assert live(webs) == first
    assert webs.servers.targets["web2"].releases[str(first[1])]["model.bin"] == b"weights"


def test_a_person_deploys_an_older_run_that_passed_but_none_that_may_not(webs: World) -> None:
    with_prod(webs)
    old = passed(webs, deploying("prod"))
    work_off(webs)
    passed(webs, deploying("prod"), "second")
    work_off(webs)
    action = desk(webs).deploy(old, "prod", "ana", "the old one was better")
    work_off(webs)
    assert webs.store.actions.get(action.id).state is ActionState.DONE
    assert {webs.store.deployments.live("wine", name).run_id for name in WEBS} == {old.id}  # type: ignore[union-attr]
    with pytest.raises(NotFound, match="there is no environment and no server nowhere"):
        desk(webs).deploy(old, "nowhere", "ana", "")
    elsewhere = passed(webs, pipeline(name="other", deploy_branches=()))
    with pytest.raises(InvalidInput, match="may not be deployed: branch main is not one of"):
        desk(webs).deploy(elsewhere, "prod", "ana", "")


def test_a_rollback_waits_for_no_deployment_that_awaits_approval(webs: World) -> None:
    with_prod(webs)
    old = passed(webs, deploying("prod"))
    work_off(webs)
    first = live(webs)
    passed(webs, deploying("prod"), "second")
    work_off(webs)
    webs.environments["lab"] = Environment("lab", ("stage",), approval=True)
    desk(webs).deploy(old, "lab", "ana", "")
    work_off(webs)
    desk(webs).roll_back("prod", "ana", "now")
    work_off(webs)
    assert live(webs) == first


def test_no_server_of_an_environment_is_reached_round_its_approval(webs: World) -> None:
    with_prod(webs, approval=True, approvers=("ana",))
    run = passed(webs, deploying("prod"))
    with pytest.raises(InvalidInput, match="web1 is a server of prod"):
        desk(webs).deploy(run, "web1", "mallory", "at once")
    action = webs.store.actions.owe(
        run.id, DeployAction(files=("model.bin",), server="web1"), "mallory", "", webs.clock.now()
    )
    work_off(webs)
    ended = webs.store.actions.get(action.id)
    assert (ended.state, ended.message) == (ActionState.SKIPPED, "web1 is a server of prod now")
    assert live(webs) == [None, None, None]


def test_what_stands_before_the_environment_that_it_comes_after_holds_nothing_up(webs: World) -> None:
    with_prod(webs, after="staging")
    webs.environments["staging"] = Environment("staging", ("stage",))
    run = passed(webs, deploying("prod", "staging"))
    work_off(webs)
    first, second = webs.store.actions.of_run(run.id)
    why = "its turn is before that of staging, where it has to be live first"
    assert (first.state, first.message) == (ActionState.SKIPPED, why)
    assert second.state is ActionState.DONE
    assert live(webs) == [None, None, None]
