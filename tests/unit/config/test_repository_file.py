"""A repository's own file may use what was granted, by name, and nothing else."""

# ruff: noqa: E501 - a message in one piece is easier to compare than one in pieces

from __future__ import annotations

import textwrap

import pytest

from orchestrator.config.models.dataset import FolderDataset
from orchestrator.config.models.repository import Grant, Repository
from orchestrator.config.repository import Granted, RepositoryFile, read_repository_file

GRANT = Grant.model_validate(
    {
        "secrets": ["WANDB_API_KEY"],
        "datasets": ["wine"],
        "runners": ["cpu"],
        "servers": ["wine-prod"],
        "emails": ["*@example.org"],
    }
)
PIPELINE = """\
pipeline: quality
datasets: [wine]
run:
  runner: cpu
  command: python train.py
  secrets: [WANDB_API_KEY]
artifacts: ["model.*"]
metrics: {accuracy: {direction: higher}}
gate: {checks: ["accuracy >= 0.9"]}
actions:
  pass: [{deploy: {server: wine-prod, data: [wine]}}, {email: {to: [author, team@example.org]}}]
"""


def judged(text: str, grant: Grant = GRANT, **repository: object) -> RepositoryFile:
    source = Repository.model_validate({"git": "https://example.org/wine.git", **repository})
    data = FolderDataset.model_construct(path="/data/wine")
    granted = Granted("wine", source, grant, {"wine": data, "secret-data": data}, True, frozenset({"taken"}))
    return read_repository_file(textwrap.dedent(text).encode(), granted)


def told(text: str, grant: Grant = GRANT, **repository: object) -> list[str]:
    return [str(problem) for problem in judged(text, grant, **repository).problems]


def without(line: str, instead: str = "") -> str:
    assert line in PIPELINE
    return PIPELINE.replace(line, instead)


def test_a_pipeline_of_a_repository_is_one_as_the_administrator_would_have_written_it() -> None:
    result = judged(PIPELINE, branches=["release/*", "main"], project="cellar")
    assert result.problems == ()
    pipeline = result.pipelines["wine.quality"]
    assert pipeline.pipeline == "wine.quality"
    assert pipeline.project == "cellar"
    assert [source.git for source in pipeline.all_sources] == ["https://example.org/wine.git"]
    assert pipeline.all_sources[0].branches == ("release/*", "main")
    assert pipeline.deploy_branches == ("main",)
    assert set(pipeline.datasets) == {"wine"}


def test_several_documents_are_several_pipelines_each_with_paths_of_its_own() -> None:
    text = (
        PIPELINE
        + "---\n# the other half of the repository\n"
        + "pipeline: price\nsource: {paths: [price/**]}\nrun: {runner: cpu, command: [make]}\nafter: [quality]\n"
    )
    result = judged(text, settle="30s")
    assert result.problems == ()
    assert set(result.pipelines) == {"wine.quality", "wine.price"}
    price = result.pipelines["wine.price"]
    assert price.all_sources[0].paths == ("price/**",)
    assert price.all_sources[0].settle.total_seconds() == 30
    assert price.after == ("wine.quality",)


def test_problems_of_a_later_document_are_told_by_the_line_of_the_file() -> None:
    text = PIPELINE + "---\npipeline: price\nrun: {runner: gpu, command: [make]}\n"
    assert told(text) == [
        '.mlci.yaml:14:15: the runner "gpu" was not granted to this repository; expected cpu'
    ]


@pytest.mark.parametrize(
    ("line", "instead", "problem"),
    [
        ("[WANDB_API_KEY]", "[AWS_KEY]", 'the secret "AWS_KEY" was not granted to this repository; expected WANDB_API_KEY'),
        ("datasets: [wine]", "datasets: [secret-data]", 'the dataset "secret-data" was not granted to this repository; expected wine'),
        ("datasets: [wine]", "datasets: {wine: {path: /etc}}", "what a dataset is, is not for a repository to say"),
        ("runner: cpu", "runner: gpu", 'the runner "gpu" was not granted to this repository; expected cpu'),
        ("server: wine-prod", "server: prod", 'the server "prod" was not granted to this repository; expected wine-prod'),
        ("team@example.org", "all@elsewhere.net", 'mail to "all@elsewhere.net" was not granted to this repository'),
        ("python train.py", "echo ${{ env.GITHUB_TOKEN }}", "${{ env.GITHUB_TOKEN }} is not read in a repository's own file"),
        ("pipeline: quality", "pipeline: quality\ndeploy_branches: ['*']", '"deploy_branches" is not for a repository to say'),
        ("pipeline: quality", "pipeline: quality\nsource: {poll: 1s}", "the administrator says how often it is looked at"),
        ("pipeline: quality", "pipeline: quality\npriority: 100", '"priority" is not for a repository to say'),
        ("pipeline: quality", "pipeline: quality\nproject: theirs", '"project" is not for a repository to say'),
        ("pipeline: quality", "pipeline: quality\nsource: {git: /etc}", '"git" is not for a repository to say'),
        ("pipeline: quality", "pipeline: quality\nsource: {branches: ['**']}", '"branches" is not for a repository to say'),
        ("pipeline: quality", "pipeline: quality\nsources: [{git: /srv}]", '"sources" is not for a repository to say'),
        ("pipeline: quality", "pipeline: quality\nhosts: {local: {}}", 'unknown key "hosts"'),
        ("pipeline: quality", "pipeline: quality\nschedule: ['* * * * *']", "schedules were not granted to this repository; expected no schedule"),
        ("pipeline: quality", "pipeline: quality\nreplicates: 11", "11 replicates are more than were granted to this repository; expected at most 10"),
        ("pipeline: quality", "pipeline: a.b/c", '"a.b/c" is not a name'),
        ("[wine]}}", "[secret-data]}}", 'there is no dataset "secret-data"'),
    ],
)  # fmt: skip
def test_what_was_not_granted_is_refused_with_its_place(line: str, instead: str, problem: str) -> None:
    result = judged(without(line, instead))
    assert result.pipelines == {}
    assert any(problem in str(found) for found in result.errors), told(without(line, instead))


def test_nothing_is_granted_unless_it_is_written() -> None:
    problems = told(PIPELINE, Grant())
    assert len(problems) == 5
    assert all("was not granted to this repository" in problem for problem in problems)


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ("price", "quality", ':1:9: "price" itself runs after "quality", so each run would make another without end'),
        ("quality", "nobody", ":1:9: a pipeline cannot run after itself"),
        ("price", "nobody", ':5:9: there is no pipeline "nobody"'),
        ("price", "wine.quality", ':5:9: there is no pipeline "wine.quality"'),
    ],
)  # fmt: skip
def test_pipelines_run_after_others_of_the_same_file_and_in_no_circle(
    first: str, second: str, problem: str
) -> None:
    run = "run: {runner: cpu, command: [make]}"
    text = f"after: [{first}]\npipeline: quality\n{run}\n---\nafter: [{second}]\npipeline: price\n{run}\n"
    assert any(problem in line for line in told(text)), told(text)


def test_a_server_that_another_pipeline_deploys_to_is_refused() -> None:
    grant = GRANT.model_copy(update={"servers": ("taken",)})
    [problem] = told(without("server: wine-prod", "server: taken"), grant)
    assert 'another pipeline deploys to "taken"' in problem


def test_two_pipelines_of_one_name_are_refused() -> None:
    [*_, problem] = told(PIPELINE + "---\npipeline: quality\nrun: {runner: cpu, command: [make]}\n")
    assert 'a second pipeline is called "quality"' in problem


def test_a_bomb_of_aliases_is_refused() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    assert judged(bomb + PIPELINE).errors != ()


def test_a_file_without_a_pipeline_says_what_belongs_there() -> None:
    [problem] = told("# later\n")
    assert problem == (
        ".mlci.yaml:1:1: there is no pipeline in this file; expected pipeline: NAME, and run: {…} below it"
    )


def test_a_line_that_begins_with_dashes_within_a_command_ends_no_document() -> None:
    text = without("command: python train.py", "command: |\n    cat <<X\n    ---\n    X\n    python train.py")
    assert judged(text).problems == ()
