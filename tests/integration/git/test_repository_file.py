"""A real repository that says itself what runs, under what its administrator granted to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.bootstrap import Application
from orchestrator.bootstrap.configured import read_configuration
from orchestrator.bootstrap.repositories import repository_watches
from orchestrator.cli.main import execute
from orchestrator.domain.change import Cause
from orchestrator.domain.errors import InvalidInput, NotFound
from tests.support.git import GitRepository

MAIN = """\
storage: {path: ../var}
secrets: {WANDB_API_KEY: "${{ env.WANDB_API_KEY }}", THEIRS: "${{ env.THEIRS }}"}
repositories:
  wine: {git: REPOSITORY, branches: ["*"], settle: 0s}
datasets:
  grapes: {path: ../data, settle: 0s}
grants:
  wine: {secrets: [WANDB_API_KEY], runners: [cpu], datasets: [grapes]}
"""
FILE = """\
pipeline: quality
datasets: [grapes]
run: {runner: cpu, command: "python train.py", secrets: [WANDB_API_KEY]}
"""


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository.create(tmp_path)


@pytest.fixture
def app(tmp_path: Path, repository: GitRepository) -> Iterator[Application]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("1,2\n")
    config = tmp_path / "config"
    (config / "runners").mkdir(parents=True)
    (config / "orchestrator.yaml").write_text(MAIN.replace("REPOSITORY", repository.url))
    (config / "runners" / "cpu.yaml").write_text("runner: cpu\nimage: python:3.12-slim\n")
    made = Application(read_configuration(config))
    try:
        yield made
    finally:
        made.close()


def look(app: Application) -> None:
    [watch] = repository_watches(app)
    watch.look()


def test_the_file_of_each_commit_says_what_that_commit_runs(
    app: Application, repository: GitRepository
) -> None:
    repository.commit({".mlci.yaml": FILE, "train.py": "print(1)\n"})
    look(app)
    [first] = app.store.runs.listing("wine.quality")
    assert first.change.cause is Cause.FIRST_SIGHT
    assert [version.dataset for version in first.change.datasets] == ["grapes"]
    assert app.store.runs.definition(first.id).execution.secrets == ("WANDB_API_KEY",)

    repository.commit({".mlci.yaml": FILE.replace("train.py", "train.py --longer")})
    look(app)
    second = app.store.runs.listing("wine.quality")[0]
    assert (second.number, second.change.cause) == (2, Cause.PUSH)
    assert app.store.runs.definition(second.id).execution.command[-1] == "python train.py --longer"


def test_a_file_that_asks_for_more_than_was_granted_runs_nothing_and_says_where(
    app: Application, repository: GitRepository
) -> None:
    greedy = FILE.replace("[WANDB_API_KEY]", "[THEIRS]").replace("train.py", "${{ env.THEIRS }}")
    commit = repository.commit({".mlci.yaml": greedy, "train.py": ""})
    with pytest.raises(InvalidInput) as caught:
        look(app)
    told = str(caught.value)
    assert f"main at {commit[:8]}: .mlci.yaml:3:" in told
    assert 'the secret "THEIRS" was not granted to this repository' in told
    assert "${{ env.THEIRS }} is not read in a repository's own file" in told
    assert app.store.runs.listing() == []


def test_a_pipeline_of_a_repository_is_found_by_its_full_name_before_anybody_looked(
    app: Application, repository: GitRepository
) -> None:
    repository.commit({".mlci.yaml": FILE, "train.py": ""})
    assert app.pipeline("wine.quality").execution.command[-1] == "python train.py"
    with pytest.raises(NotFound):
        app.pipeline("wine.price")


def test_a_run_by_hand_is_as_the_commit_says_that_was_asked_for(
    app: Application, repository: GitRepository
) -> None:
    first = repository.commit({".mlci.yaml": FILE, "train.py": ""})
    none = repository.commit({".mlci.yaml": None})
    repository.commit({".mlci.yaml": FILE.replace("train.py", "train.py --longer")})
    pipeline = app.pipeline("wine.quality")
    run = app.detector.run_now(pipeline, first, "ana")
    assert app.store.runs.definition(run.id).execution.command[-1] == "python train.py"
    with pytest.raises(NotFound, match=r"has no such pipeline"):
        app.detector.run_now(pipeline, none, "ana")


def test_a_commit_that_is_on_no_branch_is_run_as_the_main_branch_says_and_as_a_strangers(
    app: Application, repository: GitRepository
) -> None:
    repository.commit({".mlci.yaml": FILE, "train.py": ""})
    repository.switch("theirs")
    theirs = repository.commit({".mlci.yaml": FILE.replace("train.py", "steal.py")}, push=False)
    repository.git("push", "--quiet", "origin", "HEAD:refs/pull/7/head")
    pipeline = app.pipeline("wine.quality")
    with pytest.raises(InvalidInput, match="no branch and no watched tag"):
        app.detector.run_now(pipeline, theirs, "a program", cause=Cause.TRIGGER)
    run = app.detector.run_now(pipeline, theirs, "ana")
    again = app.detector.run_now(pipeline, None, "ana", rerun_of=run)
    for each in (run, again):
        definition = app.store.runs.definition(each.id)
        assert each.change.revision.commit == theirs
        assert (definition.untrusted, definition.execution.secrets) == (True, ())
        assert definition.execution.command[-1] == "python train.py"
        assert "push it to a branch to run it with them" in each.change.note


def test_why_a_commit_ran_nothing_is_told_under_the_repository_and_the_pipeline(
    app: Application, repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit({".mlci.yaml": FILE, "train.py": ""})
    look(app)
    repository.switch("try")
    commit = repository.commit({".mlci.yaml": FILE.replace("quality", "other")})
    look(app)
    for name in ("wine", "wine.quality"):
        assert execute(["--config", str(app.config.base), "sources", "log", name]) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert "no such pipeline" in told
        assert commit[:8] in told


def test_a_file_that_is_a_link_out_of_the_repository_is_not_read(
    app: Application, repository: GitRepository
) -> None:
    repository.commit({"train.py": ""})
    (repository.work / ".mlci.yaml").symlink_to("/etc/passwd")
    repository.git("add", ".mlci.yaml")
    repository.git("commit", "--message", "A link")
    repository.push()
    with pytest.raises(InvalidInput, match="is no plain file"):
        look(app)
