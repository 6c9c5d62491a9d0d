"""Which runs' results go into buckets and repositories, under which names, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import BinaryIO

import pytest

from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.action import Action, ActionState, Trigger
from orchestrator.domain.action_spec import ActionSpec, Contents, GitAction, UploadAction
from orchestrator.domain.check import parse_check
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.gate import Gate
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.domain.placeholders import filled
from orchestrator.domain.run import Exit, Run
from orchestrator.ports.outlets import Pushed
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.records import Lease
from orchestrator.services.acting.act import Acted
from orchestrator.services.acting.git_push import GitPusher
from orchestrator.services.acting.results import Results
from orchestrator.services.acting.upload import Uploader
from orchestrator.services.deploying.gather import Gatherer
from tests.support.fake_engine import Script
from tests.unit.services.worlds import World, pipeline

LEASE = Lease("action", 1, "me", "token", datetime(2026, 1, 1, tzinfo=UTC))


class FakeStores:
    """Objects in memory, in the order in which they came."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(
        self, store: str, name: str, file: ReleaseFile, read: Callable[[], BinaryIO], progress: ProgressSink
    ) -> bool:
        with closing(read()) as stream:
            content = stream.read()
        sent = self.objects.get(f"{store}:{name}") != content
        self.objects[f"{store}:{name}"] = content
        return sent

    def shown(self, store: str, name: str) -> str:
        return f"s3://{store}/{name}"


class FakeRepositories:
    """What was pushed, in words."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, ...]] = []

    def commit(
        self,
        source: SourceSpec,
        branch: str,
        folder: str,
        files: Sequence[ReleaseFile],
        read: Callable[[ReleaseFile], BinaryIO],
        message: str,
        key: str,
    ) -> Pushed:
        self.pushed.append((source.name, branch, folder, message, key, *(f.path for f in files)))
        return Pushed("c" * 40, made=True)

    def tag(self, source: SourceSpec, name: str, commit: str, message: str) -> Pushed:
        self.pushed.append((source.name, name, commit, message))
        return Pushed(commit, made=True)


class Elsewhere:
    """A run that passed, and the acts that take its results elsewhere."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stores = FakeStores()
        self.repositories = FakeRepositories()
        gatherer = Gatherer(world.store, world.data, world.reports, ReportRenderer(), world.progress.append)
        results = Results(world.store, world.blobs, gatherer)
        self.uploader = Uploader(world.store, results, self.stores, world.progress.append)
        self.pusher = GitPusher(world.store, results, self.repositories)

    def passed(self, **changes: object) -> Run:
        left = {"/mlci/output/metrics.json": b'{"accuracy": 0.93}', "/mlci/output/model.bin": b"weights"}
        self.world.engine.script(Script((), Exit(0), left))
        gate = Gate((parse_check("accuracy >= 0.9"),))
        of: Pipeline = pipeline(**{"gate": gate, **changes})
        return self.world.finish(self.world.first_run(of), self.world.server())

    def act(self, run: Run, spec: ActionSpec) -> Acted:
        action = Action(7, run.id, f"run-{run.id}-pass-0", Trigger.PASS, 0, spec, ActionState.RUNNING, 1)
        act = self.uploader if isinstance(spec, UploadAction) else self.pusher
        return act.carry_out(LEASE, run, action)


@pytest.fixture
def elsewhere(world: World) -> Elsewhere:
    return Elsewhere(world)


UPLOAD = UploadAction("models", contents=Contents(("model.bin",)))
COMMIT = GitAction("repo", branch="results", contents=Contents(("model.bin",)))
TAG = GitAction("repo", tag="model-{number}")


def test_the_manifest_of_an_upload_is_the_last_object(elsewhere: Elsewhere) -> None:
    run = elsewhere.passed()
    acted = elsewhere.act(run, UPLOAD)
    assert list(elsewhere.stores.objects) == [
        f"models:wine/{run.id}/model.bin",
        f"models:wine/{run.id}/release.json",
    ]
    assert acted == Acted(ActionState.DONE, f"2 objects below s3://models/wine/{run.id}")
    again = elsewhere.act(run, UPLOAD)
    assert again.message.endswith(", 2 of them there already")


def test_an_upload_goes_where_its_prefix_says(elsewhere: Elsewhere) -> None:
    run = elsewhere.passed()
    elsewhere.act(run, UploadAction("models", "ci/{number}-{short}", Contents(("model.bin",))))
    commit = run.change.revision.commit
    assert f"models:ci/{run.number}-{commit[:12]}/model.bin" in elsewhere.stores.objects


def test_a_commit_holds_the_files_and_names_the_action(elsewhere: Elsewhere) -> None:
    run = elsewhere.passed()
    acted = elsewhere.act(run, COMMIT)
    assert acted.state is ActionState.DONE
    assert elsewhere.repositories.pushed == [
        (
            "repo",
            "results",
            "results",
            f"Results of run {run.number} of wine",
            f"{elsewhere.world.store.instance}/run-{run.id}-pass-0",
            "model.bin",
            "release.json",
        )
    ]


def test_a_tag_is_put_on_the_runs_commit(elsewhere: Elsewhere) -> None:
    run = elsewhere.passed()
    elsewhere.act(run, TAG)
    ((source, name, commit, _),) = elsewhere.repositories.pushed
    assert (source, name, commit) == ("repo", f"model-{run.number}", run.change.revision.commit)


@pytest.mark.parametrize("spec", [UPLOAD, COMMIT, TAG], ids=["upload", "commit", "tag"])
def test_nothing_goes_anywhere_from_a_branch_that_may_not_deploy(
    elsewhere: Elsewhere, spec: ActionSpec
) -> None:
    acted = elsewhere.act(elsewhere.passed(deploy_branches=("release",)), spec)
    assert acted.state is ActionState.SKIPPED
    assert "not one of the deploy_branches" in acted.message
    assert not elsewhere.stores.objects
    assert not elsewhere.repositories.pushed


@pytest.mark.parametrize(
    ("source", "spec"),
    [
        (SourceSpec("repo", "/repo", ("main", "results")), COMMIT),
        (SourceSpec("repo", "/repo", ("main",), tags=("model-*",)), TAG),
    ],
    ids=["branch", "tag"],
)
def test_no_push_begins_the_next_run_of_the_same_pipeline(
    elsewhere: Elsewhere, source: SourceSpec, spec: ActionSpec
) -> None:
    acted = elsewhere.act(elsewhere.passed(sources=(source,)), spec)
    assert acted.state is ActionState.FAILED
    assert "is watched by this pipeline: each push would begin the next run" in acted.message
    assert elsewhere.repositories.pushed == []


def test_a_source_that_is_no_more_is_told(elsewhere: Elsewhere) -> None:
    with pytest.raises(NotFound, match="pipeline wine has no source other"):
        elsewhere.act(elsewhere.passed(), GitAction("other", branch="results"))


def test_a_word_in_braces_that_stands_for_nothing_is_refused(elsewhere: Elsewhere) -> None:
    with pytest.raises(
        InvalidInput, match=r"\{nmber\} in 'model-\{nmber\}' stands for nothing; one of pipeline"
    ):
        filled("model-{nmber}", elsewhere.passed())
