"""Runs that wait for a person: who is told what, and what becomes of them."""

from __future__ import annotations

import pytest

from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import EmailAction
from orchestrator.domain.change import Cause, PullRequest
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.pipeline import Execution, Pipeline
from orchestrator.domain.run import Reason, Run, RunState
from orchestrator.services.approve import Approver
from tests.unit.services.forges import WINE
from tests.unit.services.worlds import World, commit_id, pipeline

MAILS = ((Trigger.START, EmailAction(("team@example.org",))), (Trigger.CANCELLED, EmailAction(("a@b.org",))))
PULL = PullRequest(7, "main", commit_id("theirs"), "topic", "evil/wine", True, "evil", 666)


@pytest.fixture
def approver(world: World) -> Approver:
    return Approver(world.store, world.clock)


def watched() -> Pipeline:
    return pipeline(sources=(WINE,), actions=MAILS)


def waiting(world: World) -> Run:
    """The run of a stranger's pull request, after the main branch has had its own."""
    of = watched()
    world.detector.poll_source(of, of.sources[0])
    world.sources.pulls.append(PULL)
    (run,) = world.detector.poll_source(of, of.sources[0])
    assert run.state is RunState.AWAITING_APPROVAL
    return run


def test_nobody_is_mailed_and_nothing_done_for_a_run_that_waits(world: World) -> None:
    run = waiting(world)
    world.server().tick()
    world.evaluator.tick()
    actor = world.actor()
    actor.tick()
    assert world.store.runs.get(run.id).state is RunState.AWAITING_APPROVAL
    assert [action.run_id for action in world.store.actions.pending(world.clock.now())] == []
    assert world.mailer is not None
    assert [str(mail["Subject"]).count("refs/pull/7") for mail in world.mailer.sent] == [0]


def test_an_approved_run_is_carried_out_and_its_mail_says_who_let_it_go(
    world: World, approver: Approver
) -> None:
    run = waiting(world)
    approver.approve(run, "ana@desk", "read it")
    ended = world.finish(run, world.server())
    assert ended.state is RunState.PASSED
    report = world.reports.build(ended)
    assert report.approved_by == "ana@desk"
    assert "ana@desk" in ReportRenderer().render(report).text


def test_a_rejected_run_owes_what_a_cancelled_one_does(world: World, approver: Approver) -> None:
    run = waiting(world)
    rejected = approver.reject(run, "ana@desk", "mines bitcoin")
    assert rejected is not None
    owed = [action.trigger for action in world.store.actions.of_run(run.id)]
    assert owed == [Trigger.CANCELLED]
    assert world.reports.build(rejected).headline.startswith("rejected by ana@desk: mines bitcoin")


def test_why_a_run_waits_names_whom_nobody_trusts_and_the_command(world: World) -> None:
    run = waiting(world)
    world.server()
    (why,) = world.waiting(run)
    assert why.startswith("somebody has to approve it, because evil is not among the trusted: ")
    assert why.endswith(f"orchestrator runs approve wine#{run.number}")


def test_a_run_that_waits_ends_when_it_is_asked_to(world: World) -> None:
    run = waiting(world)
    world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
    world.evaluator.tick()
    ended = world.store.runs.get(run.id)
    assert (ended.state, ended.reason) == (RunState.CANCELLED, Reason.CANCELLED_BY_PERSON)


def test_a_pull_request_that_is_closed_ends_what_waits_for_approval(world: World, approver: Approver) -> None:
    run = waiting(world)
    world.sources.pulls.clear()
    world.detector.poll_source(watched(), WINE)
    assert world.store.runs.get(run.id).state is RunState.CANCELLED
    assert approver.approve(run, "ana") is None


def named(world: World, monkeypatch: pytest.MonkeyPatch, branch: str) -> None:
    """Whatever is asked for by a name is the stranger's commit, on that ref."""
    monkeypatch.setattr(
        world.sources, "resolve", lambda source, ref: world.sources.fetch(source, PULL.commit, branch)
    )


def secretive() -> Pipeline:
    return pipeline(sources=(WINE,), execution=Execution(("true",), secrets=("TOKEN",)))


@pytest.mark.parametrize("cause", [None, Cause.TRIGGER])
def test_a_pull_request_that_is_asked_for_by_its_ref_runs_as_the_strangers_that_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch, cause: Cause | None
) -> None:
    named(world, monkeypatch, PULL.ref)
    with pytest.raises(NotFound, match="no open pull request"):
        world.detector.run_now(secretive(), PULL.ref, "ana", cause=cause)
    world.sources.pulls.append(PULL)
    run = world.detector.run_now(secretive(), PULL.ref, "ana", cause=cause)
    frozen = world.store.runs.definition(run.id)
    assert (run.change.revision.pull, frozen.untrusted, frozen.execution.secrets) == (PULL, True, ())
    again = world.detector.run_now(secretive(), None, "ana", rerun_of=run)
    assert world.store.runs.definition(again.id).execution.secrets == ()


@pytest.mark.parametrize(
    ("branch", "strangers"),
    [("refs/merge-requests/7/head", True), ("", True), ("main", False), ("refs/tags/v1", False)],
)
def test_what_strangers_may_have_written_gets_no_secrets_because_somebody_names_it(
    world: World, monkeypatch: pytest.MonkeyPatch, branch: str, strangers: bool
) -> None:
    named(world, monkeypatch, branch)
    run = world.detector.run_now(secretive(), "named", "ana")
    frozen = world.store.runs.definition(run.id)
    assert frozen.untrusted is strangers
    assert frozen.execution.secrets == (() if strangers else ("TOKEN",))
    assert ("push it to a branch to run it with them" in run.change.note) is strangers
    again = world.detector.run_now(secretive(), None, "ana", rerun_of=run)
    assert world.store.runs.definition(again.id).untrusted is strangers


@pytest.mark.parametrize("branch", ["refs/merge-requests/7/head", ""])
def test_a_program_cannot_start_what_strangers_may_have_written(
    world: World, monkeypatch: pytest.MonkeyPatch, branch: str
) -> None:
    named(world, monkeypatch, branch)
    with pytest.raises(InvalidInput, match=f"no branch and no watched tag of wine has {PULL.commit[:8]}"):
        world.detector.run_now(secretive(), PULL.commit, "a program", cause=Cause.TRIGGER)
    assert world.store.runs.listing() == []


def test_a_commit_that_only_a_watched_tag_names_is_the_repositorys_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(world, monkeypatch, "")
    world.sources.tags["v1"] = PULL.commit
    run = world.detector.run_now(secretive(), "v1", "a program", cause=Cause.TRIGGER)
    assert run.change.revision.branch == "refs/tags/v1"
    assert world.store.runs.definition(run.id).execution.secrets == ("TOKEN",)


def test_a_run_that_is_not_there_cannot_be_approved(world: World, approver: Approver) -> None:
    run = waiting(world)
    with pytest.raises(NotFound):
        world.store.approvals.approve(run.id + 1, "ana", "", world.clock.now())


def test_runs_that_may_go_do_not_wait_behind_one_that_may_not(world: World) -> None:
    waiting(world)
    of = watched()
    world.sources.push("main", "second")
    (mine,) = world.detector.poll_source(of, of.sources[0])
    assert world.finish(mine, world.server()).state is RunState.PASSED
