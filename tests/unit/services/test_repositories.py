"""A repository's own file says what runs: at each commit what that commit says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from orchestrator.domain.change import Cause, PullRequest, Revision
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.pipeline import Pipeline, PullRequestRules, Schedule, SourceSpec
from orchestrator.domain.run import Run, RunState
from orchestrator.services.detect import Detector
from orchestrator.services.making import Declined
from orchestrator.services.repository import Defined, RepositoryLooks, RepositoryPipelines
from tests.unit.services.worlds import World, commit_id, pipeline

FILE = ".mlci.yaml"
SOURCE = SourceSpec("repo", "/repo", ("*",), pull_requests=PullRequestRules())


def read(raw: bytes) -> Defined:
    """A file of the tests: a line for each pipeline, its name and its command."""
    lines = raw.decode().splitlines()
    if "wrong" in lines:
        return Defined(problems=(f"{FILE}:1:1: this is wrong",))
    made = {}
    for line in lines:
        name, _, command = line.partition(" ")
        made[name] = named(name, command)
    return Defined(made)


def named(name: str, command: str) -> Pipeline:
    plain = pipeline(sources=(SOURCE,))
    return replace(
        plain,
        name=name,
        execution=replace(plain.execution, command=("sh", "-c", command)),
        schedules=(Schedule("* * * * *"),),
        after=("wine.first",) if command.startswith("follow") else (),
    )


@dataclass
class Repository:
    world: World
    told: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    now: Mapping[str, Pipeline] = field(default_factory=dict)
    look: Callable[[], object] = field(init=False)

    def __post_init__(self) -> None:
        pipelines = RepositoryPipelines("wine", SOURCE, FILE, self.world.sources, read, self.tell, ("main",))

        def define(pipeline: Pipeline, revision: Revision) -> Pipeline | str:
            return pipelines.define(pipeline.name, revision)

        world = self.world
        world.detector = Detector(world.store, world.sources, world.data, world.clock, define)
        self.look = RepositoryLooks(pipelines, self.world.detector, self.changed).look

    def tell(self, source: SourceSpec, commit: str, problems: Sequence[str]) -> None:
        self.told.append((commit, tuple(problems)))

    def changed(self, pipelines: Mapping[str, Pipeline]) -> None:
        self.now = pipelines

    def push(self, branch: str, word: str, file: str) -> str:
        commit = self.world.sources.push(branch, word)
        self.world.sources.contents[commit] = {FILE: file.encode()}
        return commit

    def runs(self, name: str) -> list[Run]:
        return list(self.world.store.runs.listing(name))

    def command(self, run: Run) -> str:
        return self.world.store.runs.definition(run.id).execution.command[-1]


@pytest.fixture
def repository(world: World) -> Repository:
    made = Repository(world)
    made.push("main", "with a file", "wine.quality train\nwine.price price")
    return made


def test_each_pipeline_of_the_file_runs_at_first_sight(repository: Repository) -> None:
    repository.look()
    assert set(repository.now) == {"wine.quality", "wine.price"}
    for name in repository.now:
        assert [run.change.cause for run in repository.runs(name)] == [Cause.FIRST_SIGHT]
    repository.look()
    assert len(repository.runs("wine.quality")) == 1


def test_a_commit_runs_as_its_own_file_says(repository: Repository) -> None:
    repository.look()
    repository.push("try", "another way", "wine.quality train --other")
    repository.look()
    newest = repository.runs("wine.quality")[0]
    assert newest.change.revision.branch == "try"
    assert repository.command(newest) == "train --other"
    assert repository.now["wine.quality"].execution.command[-1] == "train", "the main branch goes first"


def test_a_pipeline_that_a_commit_does_not_define_does_not_run_there(repository: Repository) -> None:
    repository.look()
    repository.push("main", "no price", "wine.quality train")
    repository.look()
    assert len(repository.runs("wine.quality")) == 2
    assert len(repository.runs("wine.price")) == 1
    assert set(repository.now) == {"wine.quality"}


def test_a_pull_request_runs_as_the_branch_defines_it_that_it_is_to_be_merged_into(
    repository: Repository,
) -> None:
    repository.look()
    theirs = commit_id("theirs")
    repository.world.sources.parents[theirs] = repository.world.sources.branches["main"]
    repository.world.sources.contents[theirs] = {FILE: b"wine.quality steal\nwine.mine mine"}
    repository.world.sources.pulls.append(PullRequest(7, "main", theirs, author="eve", author_id=666))
    repository.look()
    (run, _) = repository.runs("wine.quality")
    assert run.change.cause is Cause.PULL_REQUEST
    assert run.state is RunState.AWAITING_APPROVAL
    assert repository.command(run) == "train"
    assert repository.runs("wine.mine") == []


def test_a_wrong_file_is_told_on_its_commit_and_on_the_repository_and_the_other_branches_go_on(
    repository: Repository,
) -> None:
    repository.look()
    wrong = repository.push("try", "oops", "wrong")
    good = repository.push("main", "better", "wine.quality better")
    with pytest.raises(InvalidInput, match=r"try at .*: \.mlci\.yaml:1:1: this is wrong"):
        repository.look()
    assert (wrong, (f"{FILE}:1:1: this is wrong",)) in repository.told
    assert repository.runs("wine.quality")[0].change.revision.commit == good
    told = len(repository.told)
    with pytest.raises(InvalidInput):
        repository.look()
    assert len(repository.told) == told, "told once"


def test_a_file_that_was_mended_is_told_to_be_right(repository: Repository) -> None:
    repository.push("main", "oops", "wrong")
    with pytest.raises(InvalidInput):
        repository.look()
    mended = repository.push("main", "mended", "wine.quality train")
    repository.look()
    assert repository.told[-1] == (mended, ())


def test_a_repository_without_a_file_says_so(world: World) -> None:
    repository = Repository(world)
    with pytest.raises(InvalidInput, match=r"no watched branch of /repo has a file \.mlci\.yaml"):
        repository.look()
    assert repository.told == []


def test_another_branch_adds_no_schedule_and_makes_nothing_of_its_own_run_on_the_main_branch(
    repository: Repository,
) -> None:
    repository.push("try", "a trap", "wine.quality steal\nwine.mine follow")
    repository.look()
    assert repository.now["wine.quality"].schedules != ()
    assert repository.now["wine.mine"].schedules == ()
    assert repository.now["wine.mine"].after == ()
    detector = repository.world.detector
    scheduled = detector.run_due(repository.now["wine.quality"], Cause.SCHEDULE, (), "")
    assert isinstance(scheduled, Run)
    assert repository.command(scheduled) == "train"
    declined = detector.run_due(repository.now["wine.mine"], Cause.SCHEDULE, (), "")
    assert isinstance(declined, Declined)
    assert "has no such pipeline" in declined.why
    repository.push("try", "the trap again", "wine.quality steal\nwine.mine follow")
    repository.look()
    assert {run.change.revision.branch for run in repository.runs("wine.mine")} == {"try"}


def test_the_push_that_brings_a_pipeline_to_a_branch_runs_it_there(repository: Repository) -> None:
    repository.look()
    commit = repository.push("try", "a new one", "wine.quality train\nwine.new train --new")
    repository.look()
    (run,) = repository.runs("wine.new")
    assert (run.change.revision.branch, run.change.revision.commit) == ("try", commit)
    repository.look()
    assert len(repository.runs("wine.new")) == 1


def test_a_pull_request_against_a_branch_that_is_not_watched_runs_as_that_branch_says_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = PullRequestRules(bases=("next",))
    monkeypatch.setitem(globals(), "SOURCE", SourceSpec("repo", "/repo", ("main",), pull_requests=rules))
    repository = Repository(world)
    repository.push("main", "with a file", "wine.quality train")
    repository.push("next", "old", "wine.quality old")
    repository.look()
    repository.push("next", "new", "wine.quality new")
    theirs = commit_id("theirs")
    world.sources.parents[theirs] = world.sources.branches["next"]
    world.sources.pulls.append(PullRequest(8, "next", theirs, author="eve", author_id=666))
    repository.look()
    assert repository.command(repository.runs("wine.quality")[0]) == "new"
