"""Hooks and programs are told of runs as JSON, each by its own rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from orchestrator.adapters.chat import ReportChats
from orchestrator.domain.action import ActionState, Trigger
from orchestrator.domain.action_spec import ExecAction, Rule, WebhookAction
from orchestrator.domain.errors import ActionRejected, ActionUnavailable
from orchestrator.domain.run import AttemptState, Reason
from orchestrator.ports.messengers import Ended
from orchestrator.ports.records import AttemptResult
from orchestrator.services.act import Actor
from orchestrator.services.acting.program import ProgramStarter
from orchestrator.services.acting.progress import ProgressTeller
from orchestrator.services.acting.webhook import WebhookCaller
from tests.unit.services.test_acting import GOOD
from tests.unit.services.worlds import World, pipeline


class Told:
    """Hooks and programs in memory."""

    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self.ends: list[Ended] = []
        self.calls: list[tuple[str, str, str, bytes, float]] = []
        self.starts: list[tuple[str, bytes, Mapping[str, str], float]] = []

    def call(self, hook: str, key: str, event: str, body: bytes, timeout: float) -> str:
        self.calls.append((hook, key, event, body, timeout))
        if self.faults:
            raise self.faults.pop(0)
        return "HTTP 200"

    def run(self, program: str, body: bytes, variables: Mapping[str, str], timeout: float) -> Ended:
        self.starts.append((program, body, variables, timeout))
        return self.ends.pop(0)


def actor(world: World, told: Told, formats: Mapping[str, str] | None = None) -> Actor:
    made = world.actor()
    made._acts = {
        **made._acts,
        "webhook": WebhookCaller(
            world.store, told, "https://ci.example.org", world.reports, ReportChats(str), formats or {}
        ),
        "exec": ProgramStarter(world.store, told, world.clock, ""),
    }
    return made


def test_a_hook_is_told_all_of_the_run_under_the_same_key_each_time(world: World) -> None:
    told = Told()
    told.faults = [ActionUnavailable("the hook chat does not answer")]
    hook = WebhookAction("chat", rule=Rule(timeout=7, pause=20))
    of = pipeline(actions=((Trigger.PASS, hook),))
    world.engine.script(GOOD)
    run = world.finish(world.first_run(of), world.server())
    at_work = actor(world, told)
    while at_work.tick():
        pass
    (action,) = world.store.actions.of_run(run.id)
    assert (action.state, action.message) == (ActionState.PENDING, "the hook chat does not answer")
    world.clock.advance(20)
    assert at_work.tick() == 1
    (action,) = world.store.actions.of_run(run.id)
    assert (action.state, action.message) == (ActionState.DONE, "chat was told: HTTP 200")
    first, second = told.calls
    assert first[:3] == second[:3] == ("chat", f"{world.store.instance}/run-{run.id}-pass-0", "pass")
    assert second[4] == 7
    document = json.loads(second[3])
    assert document["version"] == 1
    assert (document["event"], document["key"]) == ("pass", action.key)
    assert document["run"]["state"] == "passed"
    assert document["run"]["url"] == f"https://ci.example.org/runs/{run.id}"
    assert document["change"]["commit"] == run.change.revision.commit
    assert document["metrics"] == {"accuracy": 0.93}
    assert "model.bin" in [artifact["path"] for artifact in document["artifacts"]]


def test_a_refused_call_is_not_tried_again(world: World) -> None:
    told = Told()
    told.faults = [ActionRejected("the hook chat answered HTTP 404")]
    of = pipeline(actions=((Trigger.PASS, WebhookAction("chat")),))
    world.engine.script(GOOD)
    run = world.finish(world.first_run(of), world.server())
    at_work = actor(world, told)
    while at_work.tick():
        pass
    (action,) = world.store.actions.of_run(run.id)
    assert (action.state, action.tries) == (ActionState.FAILED, 1)


def test_a_program_that_fails_is_tried_as_often_as_its_rule_says_and_its_words_are_kept(world: World) -> None:
    told = Told()
    told.ends = [Ended(3, "no route\n"), Ended(None, "hanging\n")]
    of = pipeline(actions=((Trigger.PASS, replace(ExecAction("notify"), rule=Rule(tries=2))),))
    world.engine.script(GOOD)
    run = world.finish(world.first_run(of), world.server())
    at_work = actor(world, told)
    while at_work.tick():
        pass
    (action,) = world.store.actions.of_run(run.id)
    assert (action.message, action.output) == ("the program notify ended with code 3", "no route\n")
    world.clock.advance(5)
    while at_work.tick():
        pass
    (action,) = world.store.actions.of_run(run.id)
    assert (action.state, action.output) == (ActionState.FAILED, "hanging\n")
    assert action.message == "the program notify took too long and was killed"
    assert told.starts[0][2]["MLCI_EVENT"] == "pass"


def test_a_long_run_is_told_of_now_and_then_and_only_once_each_time(world: World) -> None:
    told = Told()
    spec = WebhookAction("chat", rule=Rule(every=600))
    of = pipeline(actions=((Trigger.PASS, WebhookAction("chat")), (Trigger.PROGRESS, spec)))
    run = world.first_run(of)
    (attempt,) = world.store.attempts.of_run(run.id)
    host = next(iter(world.engines))
    assert world.store.attempts.claim(attempt.id, host, 2, "box", "me", world.clock.now(), 60)
    tellers = [ProgressTeller(world.store, world.clock) for _ in range(2)]
    assert [teller.tick() for teller in tellers] == [0, 0]
    world.clock.advance(601)
    assert [teller.tick() for teller in tellers] == [1, 0]
    world.clock.advance(1900)
    assert [teller.tick() for teller in tellers] == [1, 0]
    keys = [action.key for action in world.store.actions.of_run(run.id)]
    assert keys == [f"run-{run.id}-progress-0", f"run-{run.id}-progress-3"]
    at_work = actor(world, told)
    while at_work.tick():
        pass
    assert [call[2] for call in told.calls] == ["progress", "progress"]


def test_progress_of_a_run_that_has_ended_is_told_to_nobody(world: World) -> None:
    told = Told()
    of = pipeline(actions=((Trigger.PROGRESS, WebhookAction("chat", rule=Rule(every=600))),))
    run = world.first_run(of)
    (attempt,) = world.store.attempts.of_run(run.id)
    host = next(iter(world.engines))
    lease = world.store.attempts.claim(attempt.id, host, 2, "box", "me", world.clock.now(), 60)
    assert lease is not None
    world.clock.advance(601)
    teller = ProgressTeller(world.store, world.clock)
    assert teller.tick() == 1
    now = world.clock.now()
    world.store.attempts.finish(
        lease, AttemptState.PREPARING, AttemptResult(AttemptState.ERRORED, Reason.REVISION_GONE), now
    )
    world.evaluator.tick()
    assert world.store.runs.get(run.id).state.final
    world.clock.advance(601)
    assert teller.tick() == 0
    at_work = actor(world, told)
    while at_work.tick():
        pass
    (action,) = world.store.actions.of_run(run.id)
    assert (action.state, action.message) == (ActionState.SKIPPED, "the run has ended meanwhile")
    assert told.calls == []


def test_a_hook_of_a_chat_is_told_the_report_in_its_own_form(world: World) -> None:
    told = Told()
    of = pipeline(actions=((Trigger.PASS, WebhookAction("chat")),))
    world.engine.script(GOOD)
    run = world.finish(world.first_run(of), world.server())
    at_work = actor(world, told, {"chat": "discord"})
    while at_work.tick():
        pass
    (call,) = told.calls
    assert call[1] == f"{world.store.instance}/run-{run.id}-pass-0"
    (embed,) = json.loads(call[3])["embeds"]
    assert embed["title"].startswith("wine")
    assert "passed" in embed["title"]
    assert embed["url"] == f"http://ci.example.org/runs/{run.id}"
