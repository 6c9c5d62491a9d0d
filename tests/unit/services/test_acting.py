"""What a verdict owes is carried out: deployments first, then the mails that tell of them."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.action import MAX_ACTION_TRIES, Action, ActionState, Trigger
from orchestrator.domain.action_spec import DeployAction, EmailAction, Rule
from orchestrator.domain.change import DatasetRole
from orchestrator.domain.check import parse_check
from orchestrator.domain.deployment import RELEASE_PATTERN, DeploymentState
from orchestrator.domain.errors import (
    MailRejected,
    MailUnavailable,
    ServerRejected,
    ServerUnavailable,
)
from orchestrator.domain.gate import Gate
from orchestrator.domain.mailing import Refusal
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec, Limits, Pipeline, SourceSpec
from orchestrator.domain.run import Exit, Run, RunState
from orchestrator.services import act
from orchestrator.services.act import LEASE_SECONDS
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import Killed, World, commit_id, pipeline

DEPLOY = DeployAction("prod", ("model.bin",), report=True)
MAIL = EmailAction(("team@example.org", "author"))
GOOD = Script(
    (),
    Exit(0),
    {"/mlci/output/metrics.json": b'{"accuracy": 0.93}', "/mlci/output/model.bin": b"weights"},
)


def acting(*actions: DeployAction | EmailAction, **changes: object) -> Pipeline:
    gate = Gate((parse_check("accuracy >= 0.9"),))
    owed = tuple((Trigger.PASS, a) for a in actions)
    return pipeline(**{"gate": gate, "actions": owed, **changes})


def asked_for(world: World, of: Pipeline, ref: str) -> Run:
    """A run of a ref that a person named, and all that it owes."""
    run = world.detector.run_now(of, ref, "ana")
    world.engine.script(GOOD)
    ended = world.finish(run, world.server())
    while world.actor().tick():
        pass
    return ended


def passed(world: World, of: Pipeline, word: str = "", left: Script = GOOD) -> Run:
    world.engine.script(left)
    if word:
        world.sources.push("main", word)
        (run,) = world.detector.poll_source(of, of.sources[0])
    else:
        run = world.first_run(of)
    ended = world.finish(run, world.server())
    assert ended.state is RunState.PASSED
    return ended


def actions(world: World, run: Run) -> list[Action]:
    return list(world.store.actions.of_run(run.id))


def work_off(world: World, owner: str = "me") -> int:
    """As the service does it: until nothing is due."""
    actor = world.actor(owner)
    looks = 0
    while actor.tick():
        looks += 1
        assert looks < 50, "it spins"
    return looks


def test_a_passed_run_is_deployed_and_then_told_of(world: World) -> None:
    run = passed(world, acting(MAIL, DEPLOY))
    work_off(world)
    (deployment,) = world.store.deployments.of_run(run.id)
    prod = world.servers.prod
    assert deployment.state is DeploymentState.ACTIVE
    assert prod.live == deployment.release
    assert RELEASE_PATTERN.fullmatch(deployment.release)
    files = prod.releases[deployment.release]
    assert files["model.bin"] == b"weights"
    assert sorted(files) == ["model.bin", "release.json", "report.html"]
    manifest = json.loads(files["release.json"])
    assert (manifest["commit"], manifest["metrics"]) == (run.change.revision.commit, {"accuracy": 0.93})
    (mail,) = world.mailer.sent if world.mailer else []
    assert str(mail["Subject"]).endswith("accuracy 0.93, deployed to prod")
    assert mail["To"] == "team@example.org, ana@example.org"
    assert [a.state for a in actions(world, run)] == [ActionState.DONE, ActionState.DONE]


def test_a_mail_waits_for_a_deployment_that_has_to_be_tried_again(world: World) -> None:
    run = passed(world, acting(MAIL, DEPLOY))
    world.servers.prod.faults["connect"] = [ServerUnavailable("prod does not answer")]
    work_off(world)
    assert world.mailer is not None
    assert world.mailer.sent == []
    deploy = actions(world, run)[1]
    assert (deploy.state, deploy.tries) == (ActionState.PENDING, 1)
    assert deploy.not_before == world.clock.now() + timedelta(seconds=5)
    world.clock.advance(5)
    work_off(world)
    assert [a.state for a in actions(world, run)] == [ActionState.DONE, ActionState.DONE]
    assert len(world.mailer.sent) == 1


def test_a_postponed_action_does_not_spin(world: World) -> None:
    passed(world, acting(DEPLOY))
    world.servers.prod.faults["connect"] = [ServerUnavailable("prod does not answer")] * 9
    assert work_off(world) == 1
    assert work_off(world) == 0


def test_a_server_that_never_answers_is_given_up_and_the_mail_says_so(world: World) -> None:
    run = passed(world, acting(DEPLOY, MAIL))
    world.servers.prod.faults["connect"] = [ServerUnavailable("prod does not answer")] * 99
    for _ in range(MAX_ACTION_TRIES["deploy"]):
        work_off(world)
        world.clock.advance(600)
    deploy, mail = actions(world, run)
    assert (deploy.state, deploy.tries) == (ActionState.FAILED, MAX_ACTION_TRIES["deploy"])
    (deployment,) = world.store.deployments.of_run(run.id)
    assert (deployment.state, deployment.message) == (DeploymentState.FAILED, "prod does not answer")
    assert mail.state is ActionState.DONE
    assert world.mailer is not None
    assert "not deployed" in str(world.mailer.sent[0]["Subject"])
    assert "prod does not answer" in world.mailer.sent[0].get_body(("plain",)).get_content()  # type: ignore[union-attr]


@pytest.mark.parametrize("call", ["connect", "upload", "verify", "activate"])
def test_a_server_that_refuses_fails_the_deployment_at_once_and_says_why(world: World, call: str) -> None:
    run = passed(world, acting(DEPLOY))
    world.servers.prod.faults[call] = [ServerRejected("permission denied")]
    work_off(world)
    (action,) = actions(world, run)
    (deployment,) = world.store.deployments.of_run(run.id)
    assert (action.state, action.tries, action.message) == (ActionState.FAILED, 1, "permission denied")
    assert (deployment.state, deployment.message) == (DeploymentState.FAILED, "permission denied")
    assert world.servers.prod.live is None


def test_a_switch_whose_answer_was_lost_for_good_is_told_by_what_is_live(world: World) -> None:
    run = passed(world, acting(DEPLOY))
    world.servers.prod.late["activate"] = [ServerRejected("the disk filled up after the switch")]
    work_off(world)
    (deployment,) = world.store.deployments.of_run(run.id)
    assert world.servers.prod.live == deployment.release
    assert deployment.state is DeploymentState.ACTIVE
    assert actions(world, run)[0].state is ActionState.DONE


def test_an_artifact_beyond_a_limit_fails_the_deployment_with_the_limit_named(world: World) -> None:
    limited = replace(acting(DEPLOY), limits=Limits(file_size=30))
    world.engine.script(
        Script(files={"/mlci/output/metrics.json": b'{"accuracy": 0.9}', "/mlci/output/model.bin": b"1" * 31})
    )
    run = world.finish(world.first_run(limited), world.server())
    assert run.state is RunState.PASSED
    work_off(world)
    message = actions(world, run)[0].message
    assert message.startswith("'model.bin' was not kept: model.bin: its 31 bytes are more than one file")
    assert "storage.limits.file_size" in message
    assert world.servers.prod.releases == {}


def test_an_artifact_that_the_run_did_not_leave_fails_the_deployment_before_anything_is_sent(
    world: World,
) -> None:
    run = passed(world, acting(replace(DEPLOY, files=("*.onnx",))))
    work_off(world)
    assert (
        actions(world, run)[0].message
        == "no artifact matches '*.onnx'; the run left: metrics.json, model.bin"
    )
    assert world.servers.prod.calls == []


def test_data_that_are_deployed_must_still_be_those_of_the_run(world: World) -> None:
    rows = DatasetSpec("rows", "/data/rows", DatasetRole.TRAIN, settle=0)
    watched = acting(DeployAction("prod", data=("rows",)), datasets=(rows,))
    run = passed(world, watched)
    world.data.write("rows.csv", b"other\n")
    work_off(world)
    assert actions(world, run)[0].state is ActionState.FAILED
    world.data.files["rows.csv"] = b"1,2\n"
    again = passed(world, watched, "second")
    work_off(world)
    assert actions(world, again)[0].state is ActionState.DONE
    assert world.servers.prod.live is not None
    assert world.servers.prod.releases[world.servers.prod.live]["data/rows/rows.csv"] == b"1,2\n"


def test_a_release_waits_for_data_that_are_out_of_reach_for_a_while(world: World) -> None:
    world.data.elsewhere = True
    rows = DatasetSpec("rows", "s3://data/rows", DatasetRole.TRAIN, settle=0, kind=DatasetKind.S3)
    run = passed(world, acting(DeployAction("prod", data=("rows",)), datasets=(rows,)))
    world.data.missing = True
    work_off(world)
    assert actions(world, run)[0].state is ActionState.PENDING
    world.data.missing = False
    world.clock.advance(600)
    work_off(world)
    assert actions(world, run)[0].state is ActionState.DONE
    assert world.servers.prod.live is not None
    assert world.servers.prod.releases[world.servers.prod.live]["data/rows/rows.csv"] == b"1,2\n"


def test_an_artifact_cannot_pass_for_a_file_of_a_dataset_in_a_release(world: World) -> None:
    rows = DatasetSpec("rows", "/data/rows", DatasetRole.TRAIN, settle=0)
    forged = Script((), Exit(0), {**GOOD.files, "/mlci/output/data/rows/more.csv": b"9,9\n"})
    watched = acting(DeployAction("prod", ("**",), data=("rows",)), datasets=(rows,))
    run = passed(world, watched, left=forged)
    work_off(world)
    (action,) = actions(world, run)
    assert action.state is ActionState.FAILED
    assert "data/rows/more.csv lies where the release holds a dataset" in action.message
    assert world.servers.prod.live is None


def test_a_run_on_another_branch_is_not_deployed_and_the_action_says_why(world: World) -> None:
    run = passed(world, acting(DEPLOY, deploy_branches=("release",)))
    work_off(world)
    (action,) = actions(world, run)
    assert (action.state, action.message) == (
        ActionState.SKIPPED,
        "branch main is not one of the deploy_branches (release)",
    )
    assert world.servers.prod.calls == []


def test_a_run_that_did_not_pass_is_not_deployed_whatever_its_actions_say(world: World) -> None:
    watched = replace(acting(), actions=((Trigger.FAIL, DEPLOY),), gate=Gate((parse_check("accuracy >= 1"),)))
    world.engine.script(GOOD)
    run = world.finish(world.first_run(watched), world.server())
    work_off(world)
    (action,) = actions(world, run)
    assert (action.state, action.message) == (ActionState.SKIPPED, "the run has not passed (rejected)")


def test_an_older_change_never_replaces_a_newer_release(world: World) -> None:
    watched = acting(DEPLOY)
    old = passed(world, watched)
    new = passed(world, watched, "second")
    world.servers.prod.faults["connect"] = [ServerUnavailable("not now")]
    work_off(world)
    (live,) = world.store.deployments.of_run(new.id)
    world.clock.advance(5)
    work_off(world)
    (action,) = actions(world, old)
    (deployment,) = world.store.deployments.of_run(old.id)
    assert (action.state, deployment.state) == (ActionState.SKIPPED, DeploymentState.SUPERSEDED)
    assert live.release in action.message
    assert world.servers.prod.live == live.release


@pytest.mark.parametrize("until", ["upload", "activate"])
def test_a_release_that_was_overtaken_on_its_way_is_not_activated(world: World, until: str) -> None:
    watched = acting(DEPLOY)
    old = passed(world, watched)
    new = passed(world, watched, "second")
    overtaken: list[int] = []

    def overtake(call: str) -> None:
        if call != until or overtaken:
            return
        overtaken.append(1)
        if until == "activate":
            raise Killed
        work_off(world, "another server")

    world.servers.prod.before = overtake
    if until == "activate":
        with pytest.raises(Killed):
            work_off(world)
        work_off(world, "another server")
        world.store.actions.release_dead(["me"], world.clock.now())
    work_off(world)
    (deployment,) = world.store.deployments.of_run(old.id)
    (live,) = world.store.deployments.of_run(new.id)
    assert (deployment.state, live.state) == (DeploymentState.SUPERSEDED, DeploymentState.ACTIVE)
    assert world.servers.prod.live == live.release


@pytest.mark.parametrize(
    ("call", "late"),
    [
        ("connect", False),
        ("upload", False),
        ("upload", True),
        ("verify", False),
        ("verify", True),
        ("activate", False),
        ("activate", True),
        ("prune", False),
    ],
    ids=lambda value: {True: "after", False: "before"}.get(value, value),
)
def test_a_deployment_is_resumed_under_the_same_name_after_a_kill(
    world: World, call: str, late: bool
) -> None:
    rows = DatasetSpec("rows", "/data/rows", DatasetRole.TRAIN, settle=0)
    run = passed(world, acting(replace(DEPLOY, data=("rows",)), datasets=(rows,)))
    (world.servers.prod.late if late else world.servers.prod.faults)[call] = [Killed()]
    with pytest.raises(Killed):
        work_off(world)
    (begun,) = world.store.deployments.of_run(run.id)
    if begun.state in (DeploymentState.ACTIVATING, DeploymentState.ACTIVE):
        world.data.write("rows.csv", b"what is live already does not need its data again\n")
    world.store.actions.release_dead(["me"], world.clock.now())
    work_off(world, "another server")
    (deployment,) = world.store.deployments.of_run(run.id)
    assert (deployment.release, deployment.state) == (begun.release, DeploymentState.ACTIVE)
    assert list(world.servers.prod.releases) == [begun.release]
    assert world.servers.prod.live == begun.release
    assert actions(world, run)[0].state is ActionState.DONE


def test_an_action_of_a_live_server_is_left_to_it_until_its_lease_runs_out(world: World) -> None:
    run = passed(world, acting(DEPLOY))
    world.servers.prod.faults["upload"] = [Killed()]
    with pytest.raises(Killed):
        work_off(world)
    assert work_off(world, "another server") == 0
    world.clock.advance(LEASE_SECONDS)
    assert work_off(world, "another server") == 1
    assert actions(world, run)[0].state is ActionState.DONE


def test_an_action_that_kills_every_server_is_given_up(world: World) -> None:
    run = passed(world, acting(DEPLOY))
    world.servers.prod.faults["upload"] = [Killed() for _ in range(99)]
    for _ in range(MAX_ACTION_TRIES["deploy"]):
        with pytest.raises(Killed):
            work_off(world)
        world.store.actions.release_dead(["me"], world.clock.now())
    work_off(world)
    (action,) = actions(world, run)
    assert (action.state, action.message) == (ActionState.FAILED, "6 tries began and none came to an end")
    assert world.store.deployments.of_run(run.id)[0].state is DeploymentState.FAILED


def test_a_long_act_keeps_its_lease(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act, "_HEARTBEAT", 0.01)
    run = passed(world, acting(DEPLOY))
    beats = threading.Event()
    extend = world.store.actions.heartbeat

    def heartbeat(*args: object) -> object:
        extended = extend(*args)  # type: ignore[arg-type]
        beats.set()
        return extended

    monkeypatch.setattr(world.store.actions, "heartbeat", heartbeat)

    def slow(call: str) -> None:
        if call == "upload":
            world.clock.advance(LEASE_SECONDS - 1)
            beats.clear()
            assert beats.wait(5)
            world.clock.advance(LEASE_SECONDS - 1)
            assert work_off(world, "another server") == 0

    world.servers.prod.before = slow
    work_off(world)
    assert actions(world, run)[0].state is ActionState.DONE
    assert world.servers.prod.calls.count("upload") == 1


def test_without_a_mail_server_reports_are_skipped_and_say_so(world: World) -> None:
    world.mailer = None
    run = passed(world, acting(MAIL))
    work_off(world)
    (action,) = actions(world, run)
    assert (action.state, action.message) == (
        ActionState.SKIPPED,
        "no mail server is configured (email: in orchestrator.yaml)",
    )


def test_an_author_without_an_address_gets_no_mail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = world.sources.fetch
    monkeypatch.setattr(world.sources, "fetch", lambda *a: replace(fetch(*a), author_email=""))
    run = passed(world, acting(EmailAction(("author",))))
    work_off(world)
    (action,) = actions(world, run)
    assert (action.state, action.message) == (
        ActionState.SKIPPED,
        "nobody to mail: the commit's author has no usable address (none)",
    )


def test_an_author_whose_address_is_a_trick_gets_no_mail(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = world.sources.fetch
    trick = "a@example.org\nBcc: all@example.org"
    monkeypatch.setattr(world.sources, "fetch", lambda *a: replace(fetch(*a), author_email=trick))
    run = passed(world, acting(EmailAction(("author",)), DEPLOY))
    work_off(world)
    assert [a.state for a in actions(world, run)] == [ActionState.SKIPPED, ActionState.DONE]
    assert world.mailer is not None
    assert world.mailer.sent == []


def test_a_mail_is_kept_until_the_server_takes_it(world: World) -> None:
    run = passed(world, acting(MAIL))
    assert world.mailer is not None
    world.mailer.faults = [MailUnavailable("try later")] * 3
    for _ in range(4):
        work_off(world)
        world.clock.advance(300)
    (mail,) = world.store.actions.outbox_of_run(run.id)
    assert (mail.state, mail.tries) == ("delivered", 4)
    assert [m["Message-ID"] for m in world.mailer.sent] == [mail.key]


def test_a_mail_that_is_refused_is_given_up_with_the_reason(world: World) -> None:
    run = passed(world, acting(MAIL))
    assert world.mailer is not None
    world.mailer.faults = [MailRejected("no such user")]
    work_off(world)
    (mail,) = world.store.actions.outbox_of_run(run.id)
    assert (mail.state, mail.last_error) == ("given_up", "no such user")


def test_who_has_a_mail_is_not_sent_it_again_for_the_sake_of_others(world: World) -> None:
    run = passed(world, acting(EmailAction(("Ada <ada@x.org>", "bo@x.org", "gone@x.org"))))
    assert world.mailer is not None
    busy, gone = Refusal("bo@x.org", "450 busy", False), Refusal("gone@x.org", "550 no such user", True)
    world.mailer.refusals = [[busy, gone], [busy]]
    work_off(world)
    (mail,) = world.store.actions.outbox_of_run(run.id)
    assert (mail.state, mail.reached, mail.refused) == (
        "pending",
        ("ada@x.org",),
        (("gone@x.org", "550 no such user"),),
    )
    assert mail.last_error == "gone@x.org is refused: 550 no such user; bo@x.org is put off: 450 busy"
    for _ in range(2):
        world.clock.advance(300)
        work_off(world)
    (mail,) = world.store.actions.outbox_of_run(run.id)
    assert (mail.state, mail.reached) == ("delivered", ("ada@x.org", "bo@x.org"))
    assert mail.refused == (("gone@x.org", "550 no such user"),)
    everybody = ("ada@x.org", "bo@x.org", "gone@x.org")
    assert world.mailer.asked == [everybody, ("bo@x.org",), ("bo@x.org",)]
    assert len({m["Message-ID"] for m in world.mailer.sent}) == 1


def test_a_kill_after_a_mail_was_sent_doubles_it_under_the_same_id(world: World) -> None:
    passed(world, acting(MAIL))
    assert world.mailer is not None
    world.mailer.late = [Killed()]
    with pytest.raises(Killed):
        work_off(world)
    world.store.actions.release_dead(["me"], world.clock.now())
    work_off(world, "another server")
    assert len(world.mailer.sent) == 2
    assert len({m["Message-ID"] for m in world.mailer.sent}) == 1


def test_a_mail_at_the_start_does_not_wait_for_the_end(world: World) -> None:
    world.engine.script(Script((), None))
    run = world.first_run(pipeline(actions=((Trigger.START, MAIL), (Trigger.PASS, DEPLOY))))
    server = world.server()
    server.tick()
    world.engine.wait_for_start(world.name_of(run))
    work_off(world)
    assert world.mailer is not None
    assert "started" in str(world.mailer.sent[0]["Subject"])
    wait_until(lambda: world.store.runs.get(run.id).state is RunState.RUNNING, "the run to go on")


def test_a_stopping_server_begins_nothing_new(world: World) -> None:
    run = passed(world, acting(DEPLOY))
    world.stopping.set()
    assert work_off(world) == 0
    assert actions(world, run)[0].state is ActionState.PENDING


def test_untrusted_branches_pass_without_being_deployed(world: World) -> None:
    sources = (SourceSpec("repo", "/repo", ("main", "idea")),)
    watched = acting(DEPLOY, sources=sources)
    passed(world, watched)
    work_off(world)
    live = world.servers.prod.live
    world.sources.push("idea", "wild")
    (run,) = world.detector.poll_source(watched, sources[0])
    world.finish(run, world.server())
    work_off(world)
    assert actions(world, run)[0].state is ActionState.SKIPPED
    assert world.servers.prod.live == live


def test_an_old_commit_that_somebody_names_deploys_over_nothing_newer(world: World) -> None:
    of = acting(DEPLOY)
    first = passed(world, of)
    second = passed(world, of, "second")
    while world.actor().tick():
        pass
    live = world.servers.target("prod").live
    old = asked_for(world, of, first.change.revision.commit)
    assert old.state is RunState.PASSED
    assert world.servers.target("prod").live == live
    (action,) = world.store.actions.of_run(old.id)
    assert (action.state, "of a newer change, is live" in action.message) == (ActionState.SKIPPED, True)
    assert old.change.note == (
        f"{first.change.revision.short} is not the newest commit of a branch: it counts as no newer than "
        f"{first.title}"
    )
    assert (old.change.rank, second.change.rank > old.change.rank) == (first.change.rank, True)


def test_the_newest_commit_of_a_branch_deploys_when_somebody_names_it(world: World) -> None:
    of = acting(DEPLOY)
    passed(world, of)
    newest = world.sources.push("main", "second")
    again = asked_for(world, of, newest)
    assert (again.change.note, again.change.rank) == ("", again.change.id)
    (action,) = world.store.actions.of_run(again.id)
    assert action.state is ActionState.DONE


def test_a_commit_between_two_that_ran_is_as_old_as_the_one_that_it_rests_on(world: World) -> None:
    of = acting(DEPLOY)
    first = passed(world, of)
    between = world.sources.push("main", "between")
    passed(world, of, "third")
    named = world.detector.run_now(of, between, "ana")
    assert named.change.rank == first.change.rank
    unknown = world.detector.run_now(of, commit_id("long ago"), "ana")
    assert (unknown.change.rank, "older than all that ran here" in unknown.change.note) == (0, True)


def test_a_tag_that_somebody_names_deploys_as_a_tag_does(world: World) -> None:
    of = acting(DEPLOY)
    first = passed(world, of)
    world.sources.tags["v1"] = first.change.revision.commit
    tagged = asked_for(world, of, "v1")
    assert tagged.change.revision.branch == "refs/tags/v1"
    (action,) = world.store.actions.of_run(tagged.id)
    assert (action.state, "refs/tags/v1 is not one of the deploy_branches" in action.message) == (
        ActionState.SKIPPED,
        True,
    )


def test_what_needs_an_action_that_failed_is_skipped_and_says_why(world: World) -> None:
    first = replace(DEPLOY, rule=Rule(name="live", tries=1))
    run = passed(world, acting(first, replace(MAIL, rule=Rule(needs=("live",)))))
    world.servers.prod.faults["connect"] = [ServerUnavailable("prod does not answer")]
    work_off(world)
    deploy, mail = actions(world, run)
    assert (deploy.state, deploy.tries) == (ActionState.FAILED, 1)
    assert (mail.state, mail.message) == (ActionState.SKIPPED, "it needs live, which was failed")


def test_an_action_pauses_as_its_rule_says(world: World) -> None:
    run = passed(world, acting(replace(DEPLOY, rule=Rule(tries=3, pause=40))))
    world.servers.prod.faults["connect"] = [ServerUnavailable("prod does not answer")] * 2
    work_off(world)
    (deploy,) = actions(world, run)
    assert deploy.not_before == world.clock.now() + timedelta(seconds=40)


def test_a_pause_doubles_up_to_an_hour() -> None:
    spec = replace(DEPLOY, rule=Rule(pause=30))
    assert [act.pause_after(spec, n).total_seconds() for n in (1, 2, 3, 20)] == [30, 60, 120, 3600]
    assert act.pause_after(DEPLOY, 1).total_seconds() == 5
