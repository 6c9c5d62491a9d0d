"""Which pushes, tags and pull requests make a run, which do not, and what people are told of those."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import DeployAction, EmailAction
from orchestrator.domain.change import Cause, PullRequest
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.errors import SourceUnavailable
from orchestrator.domain.pipeline import DatasetSpec, Execution, Pipeline, PullRequestRules, SourceSpec
from orchestrator.domain.run import Reason, Run, RunState
from orchestrator.services.unwatched import PAUSE
from tests.unit.services.worlds import World, commit_id, pipeline


def watching(**rules: object) -> Pipeline:
    """A pipeline whose one source has these rules."""
    branches = rules.pop("branches", ("main",))
    return pipeline(sources=(SourceSpec("repo", "/repo", branches, **rules),))  # type: ignore[arg-type]


def poll(world: World, watched: Pipeline) -> list[Run]:
    return world.detector.poll_source(watched, watched.sources[0])


def refs(runs: list[Run]) -> list[tuple[Cause, str, str]]:
    return [(r.change.cause, r.change.revision.branch, r.change.revision.commit) for r in runs]


def told(world: World) -> list[str]:
    """What the journal says of the source, newest first."""
    return [line.reason for line in world.store.journal.latest() if line.subject == "source wine/repo"]


@pytest.fixture
def seen(world: World) -> World:
    """A world whose first commit was run already."""
    world.first_run(watching())
    return world


class TestMessages:
    def test_a_push_that_asks_for_no_run_makes_none_and_says_why(self, seen: World) -> None:
        watched = watching()
        commit = seen.sources.push("main", "second")
        seen.sources.messages[commit] = "typo [skip ci]"
        assert poll(seen, watched) == []
        assert told(seen) == [f"main: no run: [skip ci] in the message of {commit[:8]}"]
        assert poll(seen, watched) == []
        third = seen.sources.push("main", "third")
        assert refs(poll(seen, watched)) == [(Cause.PUSH, "main", third)]

    def test_a_last_commit_that_asks_for_no_run_does_not_hide_the_one_before(self, seen: World) -> None:
        fix = seen.sources.push("main", "fix")
        version = seen.sources.push("main", "version")
        seen.sources.messages[version] = "version 2 [skip ci]"
        (run,) = poll(seen, watching())
        assert run.change.revision.commit == fix
        assert run.change.note == f"{fix[:8]} is the newest commit whose message asks for a run"
        assert poll(seen, watching()) == []

    def test_a_tag_is_a_wish_of_its_own(self, seen: World) -> None:
        watched = watching(tags=("v*",))
        poll(seen, watched)
        commit = seen.sources.push("main", "second")
        seen.sources.messages[commit] = "release [skip ci]"
        seen.sources.tags["v1"] = commit
        assert refs(poll(seen, watched)) == [(Cause.TAG, "refs/tags/v1", commit)]


class TestPaths:
    RULES = ("**", "!docs/**")

    def test_a_push_that_changes_nothing_that_counts_makes_no_run_and_says_so(self, seen: World) -> None:
        watched = watching(paths=self.RULES)
        commit = seen.sources.push("main", "second")
        seen.sources.changed[commit] = ["docs/index.md"]
        assert poll(seen, watched) == []
        assert told(seen) == [f"main: no run: {commit[:8]} changes one file, and none that counts"]

    def test_one_file_that_counts_is_enough(self, seen: World) -> None:
        commit = seen.sources.push("main", "second")
        seen.sources.changed[commit] = ["docs/index.md", "train.py"]
        assert len(poll(seen, watching(paths=self.RULES))) == 1

    def test_where_nobody_can_say_what_changed_there_is_a_run(self, seen: World) -> None:
        seen.sources.push("main", "other history", rewrite=True)
        assert len(poll(seen, watching(paths=self.RULES))) == 1

    def test_a_new_branch_is_compared_with_where_it_left_the_main_one(self, seen: World) -> None:
        watched = watching(branches=("*",), paths=self.RULES)
        commit = commit_id("words")
        seen.sources.branches["side"] = commit
        seen.sources.parents[commit] = seen.sources.branches["main"]
        seen.sources.changed[commit] = ["docs/index.md"]
        assert poll(seen, watched) == []
        assert told(seen) == [f"side: no run: {commit[:8]} changes one file, and none that counts"]


class TestBursts:
    def test_ten_pushes_in_a_minute_make_one_run_of_the_newest(self, seen: World) -> None:
        watched = watching(settle=10)
        newest = ""
        for number in range(10):
            newest = seen.sources.push("main", f"push {number}")
            assert poll(seen, watched) == []
            assert seen.detector.again(watched, watched.sources[0]) == 10
            seen.clock.advance(6)
        assert poll(seen, watched) == []
        assert seen.detector.again(watched, watched.sources[0]) == pytest.approx(4)
        seen.clock.advance(4)
        assert refs(poll(seen, watched)) == [(Cause.PUSH, "main", newest)]
        assert seen.detector.again(watched, watched.sources[0]) is None
        assert poll(seen, watched) == []

    def test_a_branch_that_is_never_still_runs_all_the_same(self, seen: World) -> None:
        watched = watching(settle=10)
        runs = 0
        for number in range(66):
            seen.sources.push("main", f"push {number}")
            runs += len(poll(seen, watched))
            seen.clock.advance(5)
        assert runs == 1

    def test_a_push_that_was_taken_back_within_the_burst_makes_no_run(self, seen: World) -> None:
        watched = watching(settle=10)
        before = seen.sources.branches["main"]
        seen.sources.push("main", "oops")
        assert poll(seen, watched) == []
        seen.sources.branches["main"] = before
        seen.clock.advance(11)
        assert poll(seen, watched) == []
        # The next push begins to wait anew.
        seen.sources.push("main", "later")
        assert poll(seen, watched) == []

    def test_a_server_that_starts_anew_waits_anew_and_loses_nothing(self, seen: World) -> None:
        watched = watching(settle=10)
        new = seen.sources.push("main", "second")
        poll(seen, watched)
        seen.clock.advance(9)
        seen.restart()
        assert poll(seen, watched) == []
        seen.clock.advance(10)
        assert refs(poll(seen, watched)) == [(Cause.PUSH, "main", new)]

    def test_each_commit_runs_in_order_where_that_is_wanted(self, seen: World) -> None:
        watched = watching(every_commit=True)
        commits = [seen.sources.push("main", f"push {number}") for number in range(4)]
        seen.sources.messages[commits[1]] = "[ci skip]"
        runs = poll(seen, watched)
        assert [r.change.revision.commit for r in runs] == [commits[0], commits[2], commits[3]]
        assert poll(seen, watched) == []
        assert told(seen) == [f"main: no run: [ci skip] in the message of {commits[1][:8]}"]

    def test_a_branch_that_goes_back_runs_once_although_each_commit_is_wanted(self, seen: World) -> None:
        watched = watching(every_commit=True)
        first = seen.sources.branches["main"]
        seen.sources.push("main", "second")
        poll(seen, watched)
        seen.sources.branches["main"] = first
        assert refs(poll(seen, watched)) == [(Cause.PUSH, "main", first)]


class TestIntervals:
    def test_what_is_pushed_too_soon_waits_and_then_the_newest_runs(self, seen: World) -> None:
        watched = watching(min_interval=3600)
        seen.clock.advance(3600)
        seen.sources.push("main", "second")
        assert len(poll(seen, watched)) == 1
        seen.clock.advance(1000)
        seen.sources.push("main", "third")
        assert poll(seen, watched) == []
        assert seen.detector.again(watched, watched.sources[0]) == 2600
        fourth = seen.sources.push("main", "fourth")
        seen.clock.advance(2600)
        assert refs(poll(seen, watched)) == [(Cause.PUSH, "main", fourth)]

    def test_a_branch_does_not_wait_for_another_nor_for_a_run_that_a_person_wanted(self, seen: World) -> None:
        watched = watching(branches=("*",), min_interval=3600)
        seen.clock.advance(3600)
        seen.detector.run_now(watched, "main", "ana")
        seen.sources.push("main", "second")
        seen.sources.push("side", "aside")
        assert len(poll(seen, watched)) == 2


class TestTags:
    def test_a_new_tag_makes_a_run_that_only_a_rule_for_tags_lets_deploy(self, seen: World) -> None:
        watched = replace(watching(tags=("v*",)), deploy_branches=("*",))
        poll(seen, watched)
        seen.sources.tags |= {"v1": commit_id("first"), "nightly": commit_id("first")}
        (run,) = poll(seen, watched)
        assert refs([run]) == [(Cause.TAG, "refs/tags/v1", commit_id("first"))]
        assert why_not_trusted(run, watched) is not None
        assert why_not_trusted(run, replace(watched, deploy_branches=("refs/tags/v*",))) is None

    def test_tags_that_were_there_before_are_not_run_and_are_told(self, seen: World) -> None:
        seen.sources.tags = {"v1": commit_id("old"), "v2": commit_id("first")}
        watched = watching(tags=("v*",))
        assert poll(seen, watched) == []
        assert told(seen) == ["no runs of what was there before it was watched: refs/tags/v1, refs/tags/v2"]
        seen.sources.tags["v3"] = commit_id("first")
        assert [r.change.revision.branch for r in poll(seen, watched)] == ["refs/tags/v3"]

    def test_tags_that_other_rules_bring_are_not_new(self, seen: World) -> None:
        seen.sources.tags = {"v1": commit_id("old"), "w1": commit_id("first")}
        poll(seen, watching(tags=("v*",)))
        assert poll(seen, watching(tags=("v*", "w*"))) == []
        seen.sources.tags["w2"] = commit_id("first")
        assert len(poll(seen, watching(tags=("v*", "w*")))) == 1

    def test_a_tag_that_is_moved_runs_again_and_one_that_is_deleted_does_not(self, seen: World) -> None:
        watched = watching(tags=("v*",))
        poll(seen, watched)
        seen.sources.tags["v1"] = commit_id("first")
        poll(seen, watched)
        seen.sources.tags["v1"] = seen.sources.push("side", "second")
        assert len(poll(seen, watched)) == 1
        del seen.sources.tags["v1"]
        assert poll(seen, watched) == []
        assert told(seen)[0] == "refs/tags/v1 is gone"

    def test_changed_data_train_a_branch_and_never_a_tag(self, world: World) -> None:
        wine = DatasetSpec("wine", "/data/wine", settle=0)
        watched = replace(watching(tags=("v*",)), deploy_branches=("refs/tags/v1", "main"), datasets=(wine,))
        world.sources.tags["v1"] = commit_id("old")
        world.first_run(watched)
        world.data.write("more.csv", b"3,4\n")
        (run,) = world.detector.scan_dataset(watched, wine)
        assert run.change.revision.branch == "main"

    def test_a_tag_that_is_seen_with_new_data_leaves_them_to_the_branch(self, world: World) -> None:
        wine = DatasetSpec("wine", "/data/wine", settle=0)
        watched = replace(watching(tags=("v*",)), datasets=(wine,))
        world.first_run(watched)
        world.data.write("more.csv", b"3,4\n")
        world.sources.tags["v1"] = commit_id("first")
        (tagged,) = poll(world, watched)
        (run,) = world.detector.scan_dataset(watched, wine)
        assert tagged.change.datasets == run.change.datasets
        assert (run.change.cause, run.change.revision.branch) == (Cause.DATA, "main")


def pull(commit: str, number: int = 7, **facts: object) -> PullRequest:
    known = {"number": number, "base": "main", "commit": commit, "branch": "idea", "fork": False}
    people = {"author": "ann", "author_id": 5, "owner_id": 5}
    return PullRequest(**(known | people | facts))  # type: ignore[arg-type]


class TestPullRequests:
    def opened(self, world: World, word: str = "idea", **facts: object) -> PullRequest:
        commit = commit_id(word)
        world.sources.parents[commit] = commit_id("first")
        made = pull(commit, **facts)  # type: ignore[arg-type]
        world.sources.pulls = [made]
        return made

    def test_a_pull_request_runs_with_secrets_and_never_deploys(self, seen: World) -> None:
        watched = replace(
            watching(pull_requests=PullRequestRules()),
            execution=Execution(("true",), secrets=("TOKEN",)),
            deploy_branches=("*", "refs/*"),
        )
        poll(seen, watched)
        made = self.opened(seen)
        (run,) = poll(seen, watched)
        assert refs([run]) == [(Cause.PULL_REQUEST, "refs/pull/7/head", made.commit)]
        assert (run.change.revision.pull, run.state) == (made, RunState.QUEUED)
        assert seen.store.runs.definition(run.id).execution.secrets == ("TOKEN",)
        assert why_not_trusted(run, watched) is not None
        assert poll(seen, watched) == []

    def test_one_from_a_fork_waits_for_approval_without_secrets_and_attempts(self, seen: World) -> None:
        mail = EmailAction(("team@example.org",))
        watched = replace(
            watching(pull_requests=PullRequestRules(trusted=(9,))),
            execution=Execution(("true",), secrets=("TOKEN",)),
            actions=((Trigger.START, mail), (Trigger.PASS, DeployAction("prod", ("model",)))),
        )
        poll(seen, watched)
        self.opened(seen, fork=True)
        (run,) = poll(seen, watched)
        assert run.state is RunState.AWAITING_APPROVAL
        definition = seen.store.runs.definition(run.id)
        assert (definition.untrusted, definition.execution.secrets) == (True, ())
        assert [spec for _, spec in definition.actions] == [mail]
        assert seen.store.attempts.of_run(run.id) == []
        assert seen.store.actions.of_run(run.id) == []

    def test_one_from_a_fork_of_a_trusted_person_waits_for_nobody_and_still_gets_no_secrets(
        self, seen: World
    ) -> None:
        watched = replace(
            watching(pull_requests=PullRequestRules(trusted=(5,))),
            execution=Execution(("true",), secrets=("TOKEN",)),
        )
        poll(seen, watched)
        self.opened(seen, fork=True)
        (run,) = poll(seen, watched)
        assert run.state is RunState.QUEUED
        assert seen.store.runs.definition(run.id).execution.secrets == ()

    def test_running_one_from_a_fork_again_gives_it_no_secrets_either(self, seen: World) -> None:
        watched = replace(
            watching(pull_requests=PullRequestRules(trusted=(5,))),
            execution=Execution(("true",), secrets=("TOKEN",)),
        )
        poll(seen, watched)
        made = self.opened(seen, fork=True)
        (run,) = poll(seen, watched)
        again = seen.detector.run_now(watched, None, "ana", rerun_of=run)
        asked = seen.detector.run_pull(watched, watched.sources[0], made, "ana")
        assert asked is not None
        for other in (again, asked):
            assert seen.store.runs.definition(other.id).execution.secrets == ()

    def test_a_newer_commit_takes_the_place_of_one_that_waits_for_approval(self, seen: World) -> None:
        mail = EmailAction(("team@example.org",))
        rules = watching(pull_requests=PullRequestRules())
        watched = replace(rules, actions=((Trigger.CANCELLED, mail),))
        poll(seen, watched)
        self.opened(seen, fork=True)
        (old,) = poll(seen, watched)
        self.opened(seen, "better idea", fork=True)
        (new,) = poll(seen, watched)
        old = seen.store.runs.get(old.id)
        assert (old.state, old.reason) == (RunState.CANCELLED, Reason.SUPERSEDED)
        assert old.message == f"{new.title} came after it"
        assert seen.store.actions.of_run(old.id) == [], "strangers make nobody mail"
        assert new.state is RunState.AWAITING_APPROVAL

    def test_one_that_is_closed_is_not_to_be_approved_any_more(self, seen: World) -> None:
        watched = watching(pull_requests=PullRequestRules())
        poll(seen, watched)
        self.opened(seen, fork=True)
        (run,) = poll(seen, watched)
        seen.sources.pulls = []
        assert poll(seen, watched) == []
        assert seen.store.runs.get(run.id).message == "the pull request is closed"
        assert told(seen)[0] == "pull request 7 is closed"

    def test_those_that_were_open_before_are_not_run_until_they_change(self, seen: World) -> None:
        watched = watching(pull_requests=PullRequestRules())
        self.opened(seen)
        assert poll(seen, watched) == []
        self.opened(seen, "better idea")
        assert len(poll(seen, watched)) == 1

    def test_a_draft_runs_once_it_is_ready(self, seen: World) -> None:
        watched = watching(pull_requests=PullRequestRules())
        poll(seen, watched)
        made = self.opened(seen, draft=True)
        assert poll(seen, watched) == []
        seen.sources.pulls = [replace(made, draft=False)]
        assert len(poll(seen, watched)) == 1

    def test_its_files_are_those_that_differ_from_its_base(self, seen: World) -> None:
        watched = watching(pull_requests=PullRequestRules(), paths=("**", "!docs/**"))
        poll(seen, watched)
        made = self.opened(seen)
        seen.sources.changed[made.commit] = ["docs/index.md"]
        assert poll(seen, watched) == []
        assert told(seen)[0] == (
            f"refs/pull/7/head: no run: {made.commit[:8]} changes one file, and none that counts"
        )


class TestSuperseding:
    def test_only_runs_of_the_same_source_and_branch_are_asked_to_end(self, world: World) -> None:
        sources = tuple(SourceSpec(name, f"/{name}", ("*",)) for name in ("one", "two"))
        watched = pipeline(sources=sources, cancel_in_progress=True)
        first = [world.detector.poll_source(watched, source)[0] for source in sources]
        world.sources.push("side", "aside")
        (aside,) = world.detector.poll_source(watched, sources[0])
        world.sources.push("main", "second")
        world.detector.poll_source(watched, sources[0])
        reasons = [world.store.runs.cancel_reason(run.id) for run in (*first, aside)]
        assert reasons == [Reason.SUPERSEDED, None, None]

    def test_runs_of_each_commit_do_not_end_each_other(self, seen: World) -> None:
        watched = replace(watching(every_commit=True), cancel_in_progress=True)
        for number in range(3):
            seen.sources.push("main", f"push {number}")
        runs = poll(seen, watched)
        assert [seen.store.runs.cancel_reason(run.id) for run in runs] == [None, None, None]


def test_trouble_with_one_branch_keeps_up_no_other(seen: World) -> None:
    watched = watching(branches=("*",))
    broken = seen.sources.push("a-branch", "broken")
    seen.sources.push("main", "second")
    seen.sources.troubled.add(broken)
    with pytest.raises(SourceUnavailable):
        poll(seen, watched)
    assert [run.change.revision.branch for run in seen.store.runs.listing()] == ["main", "main"]
    seen.sources.troubled.clear()
    assert refs(poll(seen, watched)) == [(Cause.PUSH, "a-branch", broken)]


def test_a_deleted_branch_is_told(seen: World) -> None:
    watched = watching(branches=("*",))
    seen.sources.push("side", "aside")
    poll(seen, watched)
    del seen.sources.branches["side"]
    assert poll(seen, watched) == []
    assert told(seen) == ["side is gone"]


def test_an_occasion_runs_the_main_branch_with_the_data_as_they_are(seen: World) -> None:
    watched = watching()
    run = seen.detector.run_due(watched, Cause.SCHEDULE, (), "due at 03:00")
    assert isinstance(run, Run)
    assert (run.change.cause, run.change.note) == (Cause.SCHEDULE, "due at 03:00")
    assert run.change.revision.branch == "main"


class TestUnwatched:
    def test_a_push_to_what_is_not_watched_is_told_once_with_the_rule(self, seen: World) -> None:
        watched = watching(tags=("v*",))
        commit = seen.sources.push("other", "wild")
        seen.sources.tags["notver"] = commit
        assert poll(seen, watched) == []
        assert poll(seen, watched) == []
        line = (
            f"no run of other at {commit[:8]}, refs/tags/notver at {commit[:8]}, which are not watched "
            "(branches: main; tags: v*)"
        )
        assert told(seen) == [line]

    def test_what_is_pushed_again_and_again_unwatched_makes_one_line_in_a_while(self, seen: World) -> None:
        watched = watching()
        poll(seen, watched)
        for number in range(20):
            seen.sources.push(f"try/{number % 8}", f"wild {number}")
            poll(seen, watched)
        assert len(told(seen)) == 1
        seen.clock.advance(PAUSE)
        poll(seen, watched)
        poll(seen, watched)
        newest, _ = told(seen)
        assert newest.count(" at ") == 5
        assert ", 3 more, which are not watched" in newest
