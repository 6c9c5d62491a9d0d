"""Comments under pull requests: obeyed once, and only when whoever wrote them may write."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import DeployAction
from orchestrator.domain.change import Cause, PullRequest, Revision
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.errors import SourceUnavailable
from orchestrator.domain.pipeline import Execution, Pipeline, PullRequestRules
from orchestrator.domain.run import Run, RunState
from orchestrator.ports.forge import Comment
from orchestrator.ports.records import CommentMove, NewRun
from orchestrator.services.comments import Comments
from orchestrator.services.hooks import OUTSIDERS_AN_HOUR, Delivery, Hooks, Taking
from tests.unit.services.forges import WINE, FakeForge
from tests.unit.services.worlds import World, commit_id, pipeline

AT = datetime(2026, 11, 23, tzinfo=UTC)
PULL = PullRequest(
    7, "main", commit_id("theirs"), "topic", "evil/wine", True, "evil", 666, "Better trees", owner_id=666
)


class Desk:
    """Everything between a comment and its answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.forge = FakeForge(pulls={7: PULL})
        self.pipelines: list[Pipeline] = [pipeline(sources=(WINE,))]
        self.defined: dict[str, Pipeline | str] = {}
        self.comments = self.another()
        self._ids = iter(range(100, 1000))

    def another(self) -> Comments:
        return Comments(
            self.world.store,
            self.forge,
            self.world.detector,
            lambda repository: [(p, s) for p in self.pipelines for s in p.sources],
            self.world.clock,
            "http://ci.example.org",
            threading.Event(),
            lambda pipeline, revision: self.defined.get(pipeline.name, pipeline),
        )

    def say(self, text: str, author: str = "ana", repository: str = "acme/wine") -> int:
        number = next(self._ids)
        written = Comment(number, 7, author, 1, text, self.world.clock.now())
        self.forge.comments[number] = written
        self.world.store.deliveries.take(
            (f"delivery:{number}",), "issue_comment", repository, self.world.clock.now(), number
        )
        return number

    def runs(self) -> list[Run]:
        return sorted(self.world.store.runs.listing(), key=lambda run: run.id)

    def answer(self) -> str:
        return self.forge.answers[-1][1]


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


def waiting(desk: Desk, pull: PullRequest = PULL, name: str = "wine") -> Run:
    """A run of a fork that was seen by itself."""
    of = next(p for p in desk.pipelines if p.name == name)
    new = NewRun(
        of, Cause.PULL_REQUEST, Revision("wine", pull.ref, pull.commit, pull=pull), (), needs_approval=True
    )
    run = desk.world.store.runs.enqueue(new, (), of.name, desk.world.clock.now())
    assert run is not None
    return run


def test_a_person_who_may_write_gets_a_run_and_a_link(desk: Desk) -> None:
    desk.forge.pulls[7] = replace(PULL, fork=False)
    desk.say("Let us see.\n/mlci run\n")
    assert desk.comments.tick() == 1
    (run,) = desk.runs()
    assert (run.change.requested_by, run.change.revision.commit) == ("github:ana", PULL.commit)
    assert desk.forge.answers == [
        (7, f"[`wine#1`](http://ci.example.org/runs/1) is queued: commit {PULL.commit[:8]}")
    ]
    assert desk.comments.tick() == 0


def test_a_person_who_may_not_write_is_neither_obeyed_nor_answered_and_the_journal_has_it(desk: Desk) -> None:
    for text in ("/mlci run", "/mlci approve", "/mlci reject", "/mlci"):
        desk.say(text, author="evil")
    waiting(desk)
    desk.comments.tick()
    assert [run.state for run in desk.runs()] == [RunState.AWAITING_APPROVAL]
    assert desk.forge.answers == []
    told = [entry.reason for entry in desk.world.store.journal.latest() if "may not write" in entry.reason]
    assert len(told) == 4


def test_who_asks_is_who_wrote_the_comment_and_not_who_a_webhook_names(desk: Desk) -> None:
    number = desk.say("/mlci run", author="ana")
    desk.forge.comments[number] = replace(desk.forge.comments[number], author="evil")
    desk.comments.tick()
    assert desk.runs() == []


def test_a_comment_that_was_deleted_or_says_something_else_now_is_not_obeyed(desk: Desk) -> None:
    del desk.forge.comments[desk.say("/mlci run")]
    number = desk.say("/mlci run")
    desk.forge.comments[number] = replace(desk.forge.comments[number], text="never mind")
    desk.comments.tick()
    assert desk.runs() == []
    assert desk.world.store.deliveries.comments(desk.world.clock.now()) == []


@pytest.mark.parametrize("text", ["/mlci rum", "/mlci", "/mlci approve 1 2", "/mlci run;rm -rf"])
def test_what_is_not_understood_runs_nothing(desk: Desk, text: str) -> None:
    desk.say(text)
    desk.comments.tick()
    assert desk.runs() == []


def test_an_unknown_word_is_answered_with_those_that_there_are(desk: Desk) -> None:
    desk.say("/mlci help")
    desk.comments.tick()
    assert "`/mlci approve [COMMIT]`" in desk.answer()


def test_approving_lets_what_waited_when_the_comment_was_written_go_and_nothing_newer(desk: Desk) -> None:
    seen = waiting(desk)
    desk.world.clock.advance(10)
    desk.say("/mlci approve")
    desk.world.clock.advance(1)
    desk.pipelines.append(pipeline(name="beer", sources=(WINE,)))
    newer = waiting(desk, replace(PULL, commit=commit_id("sneaked in")), "beer")
    desk.comments.tick()
    states = {run.id: run.state for run in desk.runs()}
    assert states == {seen.id: RunState.QUEUED, newer.id: RunState.AWAITING_APPROVAL}
    assert f"`/mlci approve {newer.change.revision.commit}`" in desk.answer()
    (decision,) = desk.world.store.approvals.decisions(seen.id)
    assert (decision.who, decision.ruling.value) == ("github:ana", "approved")


def test_approving_a_commit_lets_that_one_go_alone(desk: Desk) -> None:
    desk.pipelines.append(pipeline(name="beer", sources=(WINE,)))
    one, other = waiting(desk), waiting(desk, replace(PULL, commit=commit_id("other")), "beer")
    desk.say(f"/mlci approve {other.change.revision.short}")
    desk.comments.tick()
    states = {run.id: run.state for run in desk.runs()}
    assert states == {one.id: RunState.AWAITING_APPROVAL, other.id: RunState.QUEUED}


@pytest.mark.parametrize("argument", ["HEAD", "123", "%", "'--", "a" * 65])
def test_what_is_no_commit_approves_nothing(desk: Desk, argument: str) -> None:
    waiting(desk)
    desk.say(f"/mlci approve {argument}")
    desk.comments.tick()
    assert [run.state for run in desk.runs()] == [RunState.AWAITING_APPROVAL]
    assert "is not a commit" in desk.answer()


def alike(digit: str) -> str:
    """One of two commits that begin as each other."""
    return PULL.commit[:8] + digit * 32


def test_a_beginning_of_a_hash_approves_nothing_that_came_after_the_comment(desk: Desk) -> None:
    desk.say(f"/mlci approve {alike('a')[:8]}")
    desk.world.clock.advance(1)
    sneaked_in = waiting(desk, replace(PULL, commit=alike("b")))
    desk.comments.tick()
    assert desk.world.store.runs.get(sneaked_in.id).state is RunState.AWAITING_APPROVAL
    assert f"`/mlci approve {alike('b')}`" in desk.answer()
    desk.say(f"/mlci approve {alike('b')}")
    desk.comments.tick()
    assert desk.world.store.runs.get(sneaked_in.id).state is RunState.QUEUED


def test_a_beginning_that_two_commits_share_approves_neither(desk: Desk) -> None:
    read, sneaked_in = (waiting(desk, replace(PULL, commit=alike(digit))) for digit in "ab")
    desk.say(f"/mlci approve {alike('a')[:8]}")
    desk.comments.tick()
    assert desk.world.store.runs.get(read.id).state is RunState.CANCELLED, "a newer commit came"
    assert desk.world.store.runs.get(sneaked_in.id).state is RunState.AWAITING_APPROVAL


def test_a_beginning_of_a_hash_runs_nothing_that_had_no_run_when_it_was_written(desk: Desk) -> None:
    desk.say(f"/mlci run {PULL.commit[:8]}")
    desk.comments.tick()
    assert desk.runs() == []
    assert f"`/mlci run {PULL.commit}`" in desk.answer()
    desk.world.store.approvals.reject(waiting(desk).id, "ana", "", desk.world.clock.now())
    desk.say(f"/mlci run {PULL.commit[:8]}")
    desk.comments.tick()
    assert [run.state for run in desk.runs()] == [RunState.CANCELLED, RunState.QUEUED]


@pytest.mark.parametrize(
    ("rules", "pull", "why"),
    [
        (PullRequestRules(forks=False), PULL, "it comes from a fork"),
        (PullRequestRules(drafts=False), replace(PULL, draft=True), "it is a draft"),
        (PullRequestRules(bases=("release",)), PULL, "those that are to be merged into main"),
        (PullRequestRules(), replace(PULL, base="other"), "those that are to be merged into other"),
    ],
)
def test_a_comment_runs_nothing_that_the_administrator_shut_out(
    desk: Desk, rules: PullRequestRules, pull: PullRequest, why: str
) -> None:
    desk.pipelines = [pipeline(sources=(replace(WINE, branches=("main",), pull_requests=rules),))]
    desk.forge.pulls[7] = pull
    for argument in (pull.commit, "", "wine"):
        desk.say(f"/mlci run {argument}".rstrip())
        desk.comments.tick()
        assert desk.answer().startswith(f"This pull request does not run: {why}")
    assert desk.runs() == []


def test_rejecting_ends_what_waits(desk: Desk) -> None:
    run = waiting(desk)
    desk.say("/mlci reject")
    desk.comments.tick()
    ended = desk.world.store.runs.get(run.id)
    assert (ended.state, ended.message) == (RunState.CANCELLED, "rejected by github:ana")


def test_another_pull_requests_runs_are_never_approved_by_a_comment_here(desk: Desk) -> None:
    other = waiting(desk, replace(PULL, number=8))
    desk.say("/mlci approve")
    desk.comments.tick()
    assert desk.world.store.runs.get(other.id).state is RunState.AWAITING_APPROVAL


def test_another_repositorys_runs_are_never_approved_by_a_comment_here(desk: Desk) -> None:
    desk.pipelines = [pipeline(sources=(replace(WINE, github="acme/secret"),))]
    other = waiting(desk)
    desk.pipelines = [pipeline(sources=(WINE,))]
    desk.say(f"/mlci approve {other.change.revision.short}")
    desk.comments.tick()
    assert desk.world.store.runs.get(other.id).state is RunState.AWAITING_APPROVAL


def test_running_what_waits_says_how_it_is_approved_and_lets_nothing_go(desk: Desk) -> None:
    run = waiting(desk)
    desk.say("/mlci run")
    desk.comments.tick()
    assert [each.id for each in desk.runs()] == [run.id]
    assert f"`/mlci approve {run.change.revision.commit}`" in desk.answer()


def test_a_commit_of_a_fork_that_nobody_has_let_go_runs_only_when_it_is_named(desk: Desk) -> None:
    desk.say("/mlci run")
    desk.comments.tick()
    assert desk.runs() == []
    assert f"`/mlci run {PULL.commit}`" in desk.answer()
    desk.say(f"/mlci run {commit_id('another')[:8]}")
    desk.comments.tick()
    assert desk.runs() == []
    desk.say(f"/mlci run {PULL.commit}")
    desk.comments.tick()
    assert [run.state for run in desk.runs()] == [RunState.QUEUED]


def test_a_run_that_a_comment_asks_for_of_a_fork_has_no_secrets_and_deploys_nothing(desk: Desk) -> None:
    secret = Execution(("true",), secrets=("TOKEN",))
    deploy = ((Trigger.PASS, DeployAction("prod", ("model.pkl",))),)
    desk.pipelines = [pipeline(sources=(WINE,), execution=secret, actions=deploy, deploy_branches=("*",))]
    desk.say(f"/mlci run {PULL.commit}")
    desk.comments.tick()
    (run,) = desk.runs()
    frozen = desk.world.store.runs.definition(run.id)
    assert (frozen.untrusted, frozen.execution.secrets, frozen.actions) == (True, (), ())
    assert why_not_trusted(run, desk.pipelines[0]) is not None


def test_a_repositorys_own_file_is_read_where_the_pull_request_goes(desk: Desk) -> None:
    desk.defined["wine"] = ".mlci.yaml at 1a2b3c4 is wrong: @ana"
    desk.say(f"/mlci run {PULL.commit}")
    desk.comments.tick()
    assert desk.runs() == []
    assert desk.answer().startswith("wine does not run: ")
    assert "@ana" not in desk.answer()
    desk.defined["wine"] = pipeline(sources=(WINE,), project="as the base branch says")
    desk.say(f"/mlci run {PULL.commit}")
    desk.comments.tick()
    assert [run.project for run in desk.runs()] == ["as the base branch says"]


def test_who_is_trusted_by_id_needs_nobody(desk: Desk) -> None:
    trusting = replace(WINE, pull_requests=PullRequestRules(trusted=(666,)))
    desk.pipelines = [pipeline(sources=(trusting,))]
    desk.say("/mlci run")
    desk.comments.tick()
    assert [run.state for run in desk.runs()] == [RunState.QUEUED]


def test_a_commit_that_went_once_goes_again_without_being_approved_once_more(desk: Desk) -> None:
    run = waiting(desk)
    store, at = desk.world.store, desk.world.clock.now()
    store.approvals.approve(run.id, "ana", "", at)
    for before, after in (
        (RunState.QUEUED, RunState.RUNNING),
        (RunState.RUNNING, RunState.FAILED),
    ):
        store.runs.move(run.id, before, after, at)
    desk.say("/mlci run")
    desk.comments.tick()
    assert [each.state for each in desk.runs()] == [RunState.FAILED, RunState.QUEUED]


def test_a_commit_that_was_rejected_did_not_go(desk: Desk) -> None:
    run = waiting(desk)
    desk.world.store.approvals.reject(run.id, "ana", "", desk.world.clock.now())
    desk.say("/mlci run")
    desk.comments.tick()
    assert [each.state for each in desk.runs()] == [RunState.CANCELLED]


def test_each_pipeline_of_the_repository_runs_or_the_one_that_is_named(desk: Desk) -> None:
    desk.forge.pulls[7] = replace(PULL, fork=False)
    desk.pipelines += [
        pipeline(name="beer", sources=(WINE,)),
        pipeline(name="pushes", sources=(replace(WINE, pull_requests=None),)),
        pipeline(name="elsewhere", sources=(replace(WINE, github="acme/other"),)),
    ]
    desk.say("/mlci run beer")
    desk.comments.tick()
    assert [run.pipeline for run in desk.runs()] == ["beer"]
    at = desk.world.clock.now()
    desk.world.store.runs.move(desk.runs()[0].id, RunState.QUEUED, RunState.CANCELLED, at)
    desk.say("/mlci run")
    desk.comments.tick()
    assert sorted(run.pipeline for run in desk.runs()[1:]) == ["beer", "wine"]
    desk.say("/mlci run pushes")
    desk.comments.tick()
    assert desk.answer() == "No pipeline called pushes runs pull requests of this repository."


def test_a_comment_makes_one_run_however_often_servers_die_over_it(desk: Desk) -> None:
    number = desk.say(f"/mlci run {PULL.commit}")
    now = desk.world.clock.now()
    store = desk.world.store
    # One server makes the run and dies before it says that the comment was dealt with.
    (seen,) = store.deliveries.comments(now)
    assert store.deliveries.claim(seen, now + timedelta(minutes=5)) is not None
    moves = (CommentMove(number),)
    desk.world.detector.run_pull(desk.pipelines[0], WINE, PULL, "github:ana", moves=moves)
    assert desk.another().tick() == 0, "another one waits first"
    desk.world.clock.advance(301)
    assert desk.another().tick() == 1
    assert len(desk.runs()) == 1
    assert desk.world.detector.run_pull(desk.pipelines[0], WINE, PULL, "github:ana", moves=moves) is None


def test_a_forge_that_does_not_answer_is_asked_again_and_the_comment_is_obeyed_then(desk: Desk) -> None:
    desk.say(f"/mlci run {PULL.commit}")
    desk.forge.faults["may_write"] = [
        SourceUnavailable("no answer"),
        SourceUnavailable("none", retry_after=60),
    ]
    desk.comments.tick()
    assert desk.comments.tick() == 0
    desk.world.clock.advance(6)
    desk.comments.tick()
    desk.world.clock.advance(59)
    assert desk.comments.tick() == 0
    desk.world.clock.advance(2)
    desk.comments.tick()
    assert len(desk.runs()) == 1


def test_an_answer_that_cannot_be_given_repeats_nothing(desk: Desk) -> None:
    desk.say(f"/mlci run {PULL.commit}")
    desk.forge.faults["comment"] = [SourceUnavailable("no answer")]
    desk.comments.tick()
    desk.world.clock.advance(3600)
    assert desk.comments.tick() == 0
    assert len(desk.runs()) == 1


def test_an_old_comment_is_not_obeyed(desk: Desk) -> None:
    desk.say(f"/mlci run {PULL.commit}")
    desk.world.clock.advance(25 * 3600)
    desk.comments.tick()
    assert desk.runs() == []


def test_a_replayed_delivery_wakes_nobody_whatever_id_it_is_given(world: World) -> None:
    woken: list[str] = []
    hooks = Hooks(world.store, world.clock, _watches, woken.append, lambda: None)
    sent = Delivery("one", "d" * 64, "push", "acme/wine")
    assert hooks.receive(sent) is Taking.TAKEN
    assert hooks.receive(sent) is Taking.REPLAYED
    assert hooks.receive(replace(sent, id="two")) is Taking.REPLAYED, "the id is not signed"
    assert hooks.receive(replace(sent, digest="e" * 64)) is Taking.REPLAYED
    assert woken == ["acme/wine"]


@pytest.mark.parametrize("event", ["push", "pull_request", "create", "delete"])
def test_what_moves_a_ref_wakes_the_look_at_its_repository_alone(world: World, event: str) -> None:
    woken: list[str] = []
    hooks = Hooks(world.store, world.clock, _watches, woken.append, lambda: None)
    assert hooks.receive(Delivery("1", "d" * 64, event, "acme/beer")) is Taking.TAKEN
    assert hooks.receive(Delivery("2", "e" * 64, event, "acme/unknown")) is Taking.NOT_WATCHED
    assert woken == ["acme/beer"]


def test_what_concerns_nobody_is_not_remembered(world: World) -> None:
    hooks = Hooks(world.store, world.clock, _watches, _never, lambda: None)
    assert hooks.receive(Delivery("1", "d" * 64, "star", "acme/wine")) is Taking.IGNORED
    assert hooks.receive(Delivery("1", "d" * 64, "issue_comment", "acme/wine")) is Taking.IGNORED
    assert hooks.receive(Delivery("1", "d" * 64, "ping", "")) is Taking.PONG
    assert world.store.deliveries.take(("delivery:1", "body:" + "d" * 64), "push", "acme/wine", AT)


def test_deliveries_are_forgotten_after_a_week_but_no_comment_that_waits(desk: Desk) -> None:
    store, clock = desk.world.store, desk.world.clock
    hooks = Hooks(store, clock, _watches, lambda repository: None, lambda: None)
    first = Delivery("1", "d" * 64, "push", "acme/wine")
    hooks.receive(first)
    desk.say("/mlci run")
    clock.advance(6 * 86400)
    hooks.receive(Delivery("2", "e" * 64, "push", "acme/wine"))
    assert hooks.receive(first) is Taking.REPLAYED
    clock.advance(2 * 86400)
    hooks.receive(Delivery("3", "f" * 64, "push", "acme/wine"))
    assert hooks.receive(first) is Taking.TAKEN
    assert len(store.deliveries.comments(clock.now())) == 1


def test_where_nobody_can_be_asked_what_a_comment_says_it_is_not_taken(world: World) -> None:
    hooks = Hooks(world.store, world.clock, _watches, _never, None)
    assert hooks.receive(Delivery("1", "d" * 64, "issue_comment", "acme/wine", 99)) is Taking.IGNORED
    assert world.store.deliveries.comments(world.clock.now()) == []


def _never(repository: str) -> None:
    raise AssertionError(repository)


def test_comments_of_outsiders_are_looked_into_so_many_times_an_hour(world: World) -> None:
    hooks = Hooks(world.store, world.clock, _watches, _never, lambda: None)

    def comment(number: int, outsider: bool) -> Taking:
        name = f"{number} {outsider}"
        return hooks.receive(Delivery(name, name, "issue_comment", "acme/wine", number, outsider))

    first = [comment(number, outsider=True) for number in range(1, OUTSIDERS_AN_HOUR + 1)]
    assert set(first) == {Taking.TAKEN}
    assert comment(100, outsider=True) is Taking.IGNORED
    assert comment(101, outsider=False) is Taking.TAKEN
    assert 100 not in [seen.id for seen in world.store.deliveries.comments(world.clock.now())]
    world.clock.advance(3600)
    assert comment(102, outsider=True) is Taking.TAKEN


def _watches(repository: str) -> bool:
    return repository in ("acme/wine", "acme/beer")
