"""What goes live is proved, and what does not serve is taken back by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from orchestrator.domain.action import ActionState
from orchestrator.domain.action_spec import DeployAction
from orchestrator.domain.activation import (
    Activation,
    Answer,
    Command,
    Health,
    HttpRequest,
    Probe,
    Smoke,
)
from orchestrator.domain.deployment import Deployment, DeploymentState
from orchestrator.domain.errors import ServerRejected, ServerUnavailable
from orchestrator.domain.run import Run
from orchestrator.services.deploying.proving import Proof
from tests.unit.services.test_acting import acting, actions, passed
from tests.unit.services.worlds import FakeTarget, Killed, World, serves

URL = "http://localhost:9000/health"
RESTART = Command(("restart", "wine"))
HEALTH = Health(HttpRequest(URL), tries=3, interval=2.0)
LOGS = Command(("journalctl", "--unit", "wine"))
ALL = Activation(
    before=(Command(("warm", "up")),),
    commands=(RESTART,),
    after=(Command(("tell", "them")),),
    health=(HEALTH,),
    smoke=(Smoke(HttpRequest("http://localhost:9000/predict", '{"x": 1}'), '{"y": 2}'),),
    bake=30.0,
    logs=(LOGS,),
)
DEPLOY = DeployAction("prod", ("model.bin",))


def answers(**said: Answer) -> Callable[[Probe], Answer]:
    """Answers by a word in what is asked; all else serves."""

    def answer(probe: Probe) -> Answer:
        for word, told in said.items():
            if word in str(probe):
                return told
        if "predict" in str(probe):
            return Answer(200, '{"y": 2}')
        return serves(probe)

    return answer


def deployed(world: World, activation: Activation = ALL, word: str = "") -> tuple[Run, Deployment]:
    """A run that passed, of the commit of that word, and whose deployment was tried once."""
    world.servers.activations["prod"] = activation
    run = passed(world, acting(DEPLOY), word)
    world.actor().carry_out_due()
    (deployment,) = world.store.deployments.of_run(run.id)
    return run, deployment


def first_then(world: World, **said: Answer) -> tuple[Deployment, Run, Deployment]:
    """One release that went live well, and a second one for which the server gives these answers."""
    target = world.servers.prod
    target.answer = answers()
    _, first = deployed(world)
    assert first.state is DeploymentState.ACTIVE
    target.calls.clear()
    bad = answers(**said)

    def answer(probe: Probe) -> Answer:
        return (answers() if target.live == first.release else bad)(probe)

    target.answer = answer
    run, second = deployed(world, word="second")
    return first, run, second


def test_a_release_is_proved_in_order_and_then_told_as_live(world: World) -> None:
    target = world.servers.prod
    target.answer = answers()
    run, deployment = deployed(world)
    assert deployment.state is DeploymentState.ACTIVE
    seen = list(dict.fromkeys(target.calls))
    assert seen == [
        "connect",
        "upload",
        "verify",
        "run warm up",
        "activate",
        "run restart wine",
        f"ask GET {URL}",
        "ask POST http://localhost:9000/predict",
        "run tell them",
        "prune",
    ]
    assert "$ restart wine\nok\n[status 0, 0.0 s]" in deployment.output
    assert "smoke: POST http://localhost:9000/predict answers as expected" in deployment.output
    (action,) = [a for a in actions(world, run) if a.spec.kind == "deploy"]
    assert (action.state, action.output) == (ActionState.DONE, deployment.output)


def test_commands_are_told_what_they_are_run_for(world: World) -> None:
    first, run, second = first_then(world)
    told = {
        name: variables for name, release, variables in world.servers.prod.told if release == second.release
    }
    assert second.state is DeploymentState.ACTIVE
    assert told["restart wine"] == {
        "MLCI_RELEASE": second.release,
        "MLCI_RUN_ID": str(run.id),
        "MLCI_PREVIOUS_RELEASE": first.release,
        "MLCI_FAILED_RELEASE": "",
        "MLCI_PIPELINE": run.pipeline,
        "MLCI_SERVER": "prod",
        "MLCI_ENVIRONMENT": "",
    }
    assert world.servers.prod.spared == (first.release,)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"restart": Answer(1, "boom\nno such unit\n")}, "restart wine ended with status 1: no such unit"),
        ({"restart": Answer(124, "", "did not end within 60 s")}, "restart wine: did not end within 60 s"),
        (
            {"health": Answer(503, "starting")},
            "not healthy after 3 looks: GET ",
        ),
        ({"health": Answer(problem="no answer within 5 s")}, "no answer within 5 s"),
        ({"predict": Answer(200, '{"y": 3}')}, "2 is expected at y, and it is '3'"),
        ({"tell": Answer(2, "gone")}, "tell them ended with status 2: gone"),
    ],
    ids=["activation", "activation hangs", "health", "health never answers", "smoke", "after"],
)
def test_a_release_that_does_not_serve_is_put_back_with_its_logs_kept(
    world: World, said: dict[str, Answer], why: str
) -> None:
    first, run, second = first_then(world, **said, journalctl=Answer(0, "Traceback: no model"))
    target = world.servers.prod
    assert target.live == first.release
    assert second.state is DeploymentState.ROLLED_BACK
    assert why in second.message
    assert second.message.endswith(f"release {first.release} is live again")
    assert "Traceback: no model" in second.output
    # The release before it was activated anew, and looked at.
    assert target.told[-1][:2] == ("restart wine", first.release)
    assert target.calls[-1] == f"ask GET {URL}"
    live = world.store.deployments.live(run.pipeline, "prod")
    assert live is not None
    assert live.id == first.id
    (action,) = [a for a in actions(world, run) if a.spec.kind == "deploy"]
    assert (action.state, "live again" in action.message) == (ActionState.FAILED, True)


def test_health_that_comes_late_is_waited_for(world: World) -> None:
    looks = [Answer(problem="refused"), Answer(503), Answer(200)]
    target = world.servers.prod
    target.answer = lambda probe: looks.pop(0) if looks and isinstance(probe, HttpRequest) else serves(probe)
    before = world.clock.monotonic()
    _, deployment = deployed(world, Activation(health=(HEALTH,)))
    assert deployment.state is DeploymentState.ACTIVE
    assert world.clock.monotonic() - before == 2 * HEALTH.interval


def test_a_release_that_falls_ill_on_probation_is_put_back(world: World) -> None:
    target = world.servers.prod
    _, first = deployed(world, Activation())
    started = world.clock.monotonic()

    def ill_later(probe: Probe) -> Answer:
        late = world.clock.monotonic() - started > 10 and target.live != first.release
        return Answer(500, "out of memory") if late else serves(probe)

    target.answer = ill_later
    _, second = deployed(world, Activation(health=(HEALTH,), bake=60.0), "second")
    assert (second.state, target.live) == (DeploymentState.ROLLED_BACK, first.release)
    assert "status 500: 'out of memory'" in second.message


def test_a_switch_by_somebody_else_on_probation_is_no_success(world: World) -> None:
    target = world.servers.prod
    _, first = deployed(world, Activation())

    def meddle(probe: Probe) -> Answer:
        if target.live != first.release:
            target.live = "20200101T000000Z-1"
        return serves(probe)

    target.answer = meddle
    _, second = deployed(world, Activation(health=(HEALTH,), bake=60.0), "second")
    assert second.state is DeploymentState.ROLLED_BACK
    assert target.live == "20200101T000000Z-1"
    assert "somebody switched to another release" in second.message
    assert "20200101T000000Z-1 was live, and stays" in second.message


def test_nothing_is_live_after_a_first_release_that_fails(world: World) -> None:
    target = world.servers.prod
    target.answer = answers(health=Answer(500))
    _, deployment = deployed(world)
    assert (deployment.state, target.live) == (DeploymentState.ROLLED_BACK, None)
    assert deployment.message.endswith("no release was live before, and none is now")


def test_a_command_before_the_switch_that_fails_changes_nothing(world: World) -> None:
    _, _, second = first_then(world)
    assert second.state is DeploymentState.ACTIVE
    target = world.servers.prod
    target.answer = answers(warm=Answer(3, "disk is slow"))
    _, third = deployed(world, word="third")
    assert (third.state, target.live) == (DeploymentState.FAILED, second.release)
    assert third.message == "nothing was switched: warm up ended with status 3: disk is slow"
    assert "disk is slow" in third.output


def test_what_cannot_be_put_back_is_told_loudly_with_what_is_live(world: World) -> None:
    target = world.servers.prod
    target.answer = answers()
    _, first = deployed(world)
    target.answer = answers(health=Answer(500))
    _, second = deployed(world, word="second")
    assert (second.state, target.live) == (DeploymentState.FAILED, first.release)
    assert f"release {first.release} was put back and does not serve either" in second.message
    calls = 0

    def refused(call: str) -> None:
        nonlocal calls
        calls += call == "activate"
        if call == "activate" and calls > 1:
            raise ServerRejected("prod: the release is gone")

    target.before = refused
    _, third = deployed(world, word="third")
    assert third.state is DeploymentState.FAILED
    assert "the release is gone" in third.message
    assert third.message.endswith(f"release {third.release} is live there")
    assert target.live == third.release


def test_an_account_that_may_only_move_files_is_refused_before_anything_is_sent(world: World) -> None:
    world.servers.prod.has_shell = False
    _, deployment = deployed(world)
    assert deployment.state is DeploymentState.FAILED
    assert "its account may only move files" in deployment.message
    assert world.servers.prod.calls == ["connect"]


def test_secrets_in_what_commands_say_are_blanked(world: World) -> None:
    target = FakeTarget()
    target.answer = lambda probe: Answer(0, "password=hunter2")
    _, deployment = deployed(world, Activation())
    proof = Proof(
        target,
        Activation(commands=(RESTART,)),
        deployment,
        world.clock,
        threading.Event(),
        lambda text: text.replace("hunter2", "***"),
    )
    proof.activate(deployment.release)
    assert "password=***" in proof.output
    assert "hunter2" not in proof.output


FAULTS = (Killed(), ServerUnavailable("prod: the connection was lost"))
STEPS = (
    "upload",
    "verify",
    "run warm up",
    "activate",
    "run restart wine",
    f"ask GET {URL}",
    "ask POST http://localhost:9000/predict",
    "run tell them",
    "prune",
)
BACK = ("run journalctl --unit wine", "activate", "run restart wine", f"ask GET {URL}")


@pytest.mark.parametrize("call", STEPS)
@pytest.mark.parametrize(
    "fault", [Killed(), ServerUnavailable("prod: the connection was lost")], ids=["kill", "cut"]
)
def test_a_deployment_goes_on_where_it_was_cut_off(world: World, call: str, fault: BaseException) -> None:
    target = world.servers.prod
    target.answer = answers()
    target.faults[call] = [fault]
    world.servers.activations["prod"] = ALL
    run = passed(world, acting(DEPLOY))
    cut_off(world)
    (deployment,) = world.store.deployments.of_run(run.id)
    assert (deployment.state, target.live) == (DeploymentState.ACTIVE, deployment.release)
    assert len(target.releases) == 1


@pytest.mark.parametrize(
    "call", ["run journalctl --unit wine", "activate", "run restart wine", f"ask GET {URL}"]
)
@pytest.mark.parametrize(
    "fault", [Killed(), ServerUnavailable("prod: the connection was lost")], ids=["kill", "cut"]
)
def test_putting_back_goes_on_where_it_was_cut_off(world: World, call: str, fault: BaseException) -> None:
    target = world.servers.prod
    target.answer = answers()
    _, first = deployed(world)
    target.answer = lambda probe: (
        Answer(500) if isinstance(probe, HttpRequest) and target.live != first.release else answers()(probe)
    )
    switched = False

    def at(name: str) -> None:
        nonlocal switched
        if name == "run journalctl --unit wine":
            switched = True
        if switched and name == call and fault not in done:
            done.append(fault)
            raise fault

    done: list[BaseException] = []
    target.before = at
    run = passed(world, acting(DEPLOY), "second")
    cut_off(world)
    assert done
    (second,) = world.store.deployments.of_run(run.id)
    assert (second.state, target.live) == (DeploymentState.ROLLED_BACK, first.release)
    live = world.store.deployments.live(run.pipeline, "prod")
    assert live is not None
    assert live.id == first.id


def cut_off(world: World) -> None:
    """One try that ends as it may, and then others until nothing is owed."""
    try:
        world.actor().carry_out_due()
    except Killed:
        world.clock.advance(1000)
    world.actor().carry_out_due()
    world.clock.advance(1000)
    world.actor().carry_out_due()


def test_a_release_that_is_given_up_unproved_is_put_back(world: World) -> None:
    target = world.servers.prod
    target.answer = answers()
    _, first = deployed(world)

    def lost(probe: Probe) -> Answer:
        if target.live != first.release:
            raise ServerUnavailable("prod: the connection was lost")
        return answers()(probe)

    target.answer = lost
    run = passed(world, acting(DEPLOY), "second")
    for _ in range(8):
        world.actor().carry_out_due()
        world.clock.advance(4000)
    (second,) = world.store.deployments.of_run(run.id)
    assert (second.state, target.live) == (DeploymentState.ROLLED_BACK, first.release)
    assert "the connection was lost" in second.message
