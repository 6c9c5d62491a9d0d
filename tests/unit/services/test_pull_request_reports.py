"""Reports under pull requests: one comment that is changed, whatever happens in between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.action import Action, ActionState, Trigger
from orchestrator.domain.action_spec import GithubAction
from orchestrator.domain.change import Cause, PullRequest, Revision
from orchestrator.domain.collected import Plot, PlotKind
from orchestrator.domain.deployment import Deployment
from orchestrator.domain.errors import NotFound, SourceRefused, SourceUnavailable
from orchestrator.domain.gate import Outcome, Verdict
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.report import ArtifactRow, Report
from orchestrator.domain.run import Run, RunState
from orchestrator.ports.comments import Place
from orchestrator.ports.records import NewAction, NewRun
from orchestrator.services.act import Actor
from orchestrator.services.acting.comment import Commenter
from orchestrator.services.report import ReportBuilder
from tests.unit.services.forges import WINE, FakeForge
from tests.unit.services.worlds import World, commit_id, pipeline

PLACE = Place("acme/wine", "pull/7", "wine")


class Desk:
    """What stands between a run's end and the comment of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.forge = FakeForge()
        self.actor = self.another()

    def another(self) -> Actor:
        """As a server that was started anew has it."""
        made = self.world.actor()
        acts = {
            "github": Commenter(
                self.world.store, self.forge, self.world.reports, self.world.clock, ReportRenderer().comment
            )
        }
        made._acts = {**made._acts, **acts}
        return made

    def ended(
        self,
        word: str,
        state: RunState = RunState.PASSED,
        spec: GithubAction | None = None,
        of: Pipeline | None = None,
        branch: str = "refs/pull/7/head",
    ) -> Action:
        """The action that is owed when a run of that commit has ended."""
        store, now = self.world.store, self.world.clock.now()
        new = NewRun(
            of or pipeline(sources=(WINE,)), Cause.PUSH, Revision("wine", branch, commit_id(word)), ()
        )
        run = store.runs.enqueue(new, (), new.pipeline.name, now)
        assert run is not None
        outcome = Outcome.PASS if state is RunState.PASSED else Outcome.FAIL
        before = RunState.QUEUED
        for after in (RunState.RUNNING, RunState.EVALUATING, state):
            owed = [NewAction(Trigger.PASS, 0, spec or GithubAction())] if after is state else []
            verdict = Verdict(outcome, f"the verdict on {word}") if after is state else None
            store.runs.move(run.id, before, after, now, None, "", verdict=verdict, actions=owed)
            before = after
        (action,) = store.actions.of_run(run.id)
        return action

    def acted(self, action: Action, actor: Actor | None = None) -> Action:
        (actor or self.actor).carry_out(action)
        return self.world.store.actions.get(action.id)

    @property
    def comments(self) -> list[str]:
        return [text for _, text in self.forge.written.values()]


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


def test_the_second_run_of_a_pull_request_changes_the_comment_of_the_first(desk: Desk) -> None:
    first = desk.acted(desk.ended("first"))
    second = desk.acted(desk.ended("second", RunState.REJECTED))
    assert (first.state, second.state) == (ActionState.DONE, ActionState.DONE)
    (text,) = desk.comments
    assert "the verdict on second" in text
    assert "rejected" in text
    assert commit_id("second") in text
    assert "the verdict on first" not in text


def test_each_pipeline_has_a_comment_of_its_own(desk: Desk) -> None:
    desk.acted(desk.ended("first"))
    desk.acted(desk.ended("first", of=pipeline(name="beer", sources=(WINE,))))
    assert len(desk.comments) == 2


def test_a_push_that_is_in_a_pull_request_is_told_there(desk: Desk) -> None:
    desk.forge.pulls = {3: PullRequest(3, "main", commit_id("pushed"), "better", fork=False)}
    desk.acted(desk.ended("pushed", branch="better"))
    assert [number for number, _ in desk.forge.written.values()] == [3]


def test_a_push_without_a_pull_request_is_told_by_its_status_alone(desk: Desk) -> None:
    action = desk.acted(desk.ended("pushed", branch="main"))
    assert (action.state, desk.comments) == (ActionState.SKIPPED, [])
    assert "no open pull request" in action.message


def test_a_comment_whose_making_was_not_confirmed_is_found_again(desk: Desk) -> None:
    desk.forge.lost_answers = [SourceUnavailable("the answer was lost")]
    action = desk.acted(desk.ended("first"))
    assert action.state is ActionState.PENDING
    desk.world.clock.advance(3600)
    assert desk.acted(action).state is ActionState.DONE
    assert len(desk.comments) == 1


def test_a_server_that_died_between_the_comment_and_its_row_makes_none_twice(desk: Desk) -> None:
    action = desk.ended("first")
    desk.acted(action)
    now = desk.world.clock.now()
    desk.world.store.comments.missing(PLACE, "1", now)
    later = desk.ended("second")
    waits = desk.acted(later, desk.another())
    assert (waits.state, waits.tries) == (ActionState.PENDING, 0)
    assert "another report is being written" in waits.waits
    desk.world.clock.advance(121)
    assert desk.acted(later).state is ActionState.DONE
    assert len(desk.comments) == 1


def test_a_comment_that_was_deleted_is_made_again(desk: Desk) -> None:
    desk.acted(desk.ended("first"))
    desk.forge.written.clear()
    desk.acted(desk.ended("second"))
    assert len(desk.comments) == 1


def test_a_try_that_is_repeated_writes_nothing_new(desk: Desk) -> None:
    action = desk.ended("first")
    commenter = desk.actor._acts["github"]
    lease = desk.world.store.actions.claim(action.id, "me", desk.world.clock.now(), 60)
    assert lease is not None
    run = desk.world.store.runs.get(action.run_id)
    commenter.carry_out(lease, run, action)
    calls = len(desk.forge.calls)
    commenter.carry_out(lease, run, action)
    assert len(desk.forge.calls) == calls


def test_an_older_run_that_ends_late_does_not_take_the_comment_back(desk: Desk) -> None:
    old = desk.ended("old")
    desk.acted(desk.ended("new"))
    action = desk.acted(old)
    assert (action.state, len(desk.comments)) == (ActionState.SKIPPED, 1)
    assert "the verdict on new" in desk.comments[0]


def test_an_older_run_that_writes_while_a_newer_one_does_leaves_the_newer_one_standing(desk: Desk) -> None:
    desk.acted(desk.ended("first"))
    old, new = desk.ended("old"), desk.ended("new")
    change = desk.forge.change_comment

    def overtaken(source: object, comment: str, text: str) -> bool:
        desk.forge.change_comment = change  # type: ignore[method-assign]
        assert desk.acted(new, desk.another()).state is ActionState.DONE
        return change(WINE, comment, text)

    desk.forge.change_comment = overtaken  # type: ignore[method-assign]
    desk.acted(old)
    assert "the verdict on new" in desk.comments[0]
    assert len(desk.comments) == 1


def test_with_changed_the_same_word_again_is_not_told(desk: Desk) -> None:
    spec = GithubAction(comment="changed")
    desk.acted(desk.ended("first", spec=spec))
    same = desk.acted(desk.ended("second", spec=spec))
    assert (same.state, same.message) == (
        ActionState.SKIPPED,
        "nothing changed under acme/wine#7: still passed",
    )
    assert "the verdict on first" in desk.comments[0]
    assert desk.acted(desk.ended("third", RunState.REJECTED, spec=spec)).state is ActionState.DONE
    assert "the verdict on third" in desk.comments[0]


def test_no_comment_is_made_where_none_is_wished(desk: Desk) -> None:
    assert desk.acted(desk.ended("first", spec=GithubAction(comment="never"))).state is ActionState.SKIPPED
    assert desk.forge.calls == []


def test_statuses_are_owed_unless_the_pipeline_switches_them_off(desk: Desk) -> None:
    of = pipeline(sources=(WINE,), actions=((Trigger.PASS, GithubAction(status=False)),))
    silent = desk.ended("first", of=of)
    told = desk.ended("second")
    assert desk.world.store.statuses.of_run(silent.run_id) == []
    assert len(desk.world.store.statuses.of_run(told.run_id)) == 1


def test_a_used_up_quota_costs_no_try_and_says_when_it_goes_on(desk: Desk) -> None:
    desk.forge.faults["own_comment"] = [SourceUnavailable("used up", "later", 900.0)]
    action = desk.acted(desk.ended("first"))
    assert (action.state, action.tries) == (ActionState.PENDING, 0)
    assert "used up" in action.waits
    assert action.not_before is not None
    assert (action.not_before - desk.world.clock.now()).total_seconds() == 900


def test_a_refusal_is_shown_on_the_run_and_leaves_its_outcome_alone(desk: Desk) -> None:
    refused = SourceRefused("GitHub does not allow this for acme/wine", "Pull requests: write")
    desk.forge.faults["comment"] = [again(refused) for _ in range(12)]
    action = desk.ended("first")
    for _ in range(12):
        action = desk.acted(action)
        desk.world.clock.advance(7200)
    assert action.state is ActionState.FAILED
    assert "does not allow" in action.message
    assert desk.world.store.runs.get(action.run_id).state is RunState.PASSED


def again(error: SourceRefused) -> SourceRefused:
    return SourceRefused(error.message, error.remedy)


def test_a_pull_request_that_is_gone_is_no_failure(desk: Desk) -> None:
    desk.forge.faults["comment"] = [NotFound("acme/wine has no pull request #7")]
    action = desk.acted(desk.ended("first"))
    assert (action.state, action.message) == (ActionState.SKIPPED, "acme/wine has no pull request #7")


def test_what_a_repository_writes_calls_nobody_and_is_no_markup(desk: Desk) -> None:
    action = desk.ended("@everyone <img src=x> [a](b) #1 /mlci run")
    desk.acted(action)
    (text,) = desk.comments
    for markup in ("@everyone", "<img", "[a](b)", " #1"):
        assert markup not in text
    assert not any(line.startswith("/mlci") for line in text.splitlines())


def test_a_database_that_was_lost_finds_its_comment_again_by_its_marker(desk: Desk) -> None:
    desk.acted(desk.ended("first"))
    now = desk.world.clock.now()
    desk.world.store.comments.missing(PLACE, "1", now)
    desk.world.store.comments.release(PLACE, now)
    desk.acted(desk.ended("second"))
    assert len(desk.comments) == 1
    assert desk.forge.calls.count("own_comment") == 2


def with_pictures(action: Action, desk: Desk, public: str) -> str:
    """What is commented on a run that left a picture, a page and a picture that was not kept."""
    store, world = desk.world.store, desk.world
    made = Commenter(
        store, desk.forge, Pictured(world.reports), world.clock, ReportRenderer().comment, public
    )
    lease = store.actions.claim(action.id, "me", world.clock.now(), 60)
    assert lease is not None
    made.carry_out(lease, store.runs.get(action.run_id), action)
    return desk.comments[-1]


class Pictured(ReportBuilder):
    """Builds reports of runs that left pictures."""

    def __init__(self, reports: ReportBuilder) -> None:
        self._reports = reports

    def build(
        self,
        run: Run,
        trigger: Trigger | None = None,
        releasing: Deployment | None = None,
        pictured: bool = False,
    ) -> Report:
        plots = (
            Plot("page.svg", PlotKind.ACTIVE),
            Plot("roc.png", PlotKind.IMAGE, "ROC](x) of **all**"),
            Plot("gone.png", PlotKind.IMAGE),
        )
        artifacts = (ArtifactRow("roc.png", 9_000), ArtifactRow("gone.png", 9_000, "removed"))
        return replace(self._reports.build(run, trigger), plots=plots, artifacts=artifacts)


def test_pictures_are_shown_where_the_pages_are_public_and_nowhere_else(desk: Desk) -> None:
    private = with_pictures(desk.ended("first"), desk, "")
    assert "![" not in private
    action = desk.ended("second")
    text = with_pictures(action, desk, "https://ci.example.org")
    assert text.count("![") == 1
    assert f"(https://ci.example.org/runs/{action.run_id}/plots/0/1)" in text
    assert "](x)" not in text
