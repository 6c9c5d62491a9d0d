"""What only a repository's own file defines is shown like the rest, also by who has not looked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.bootstrap import Application
from orchestrator.bootstrap.configured import read_configuration
from orchestrator.cli.main import execute
from tests.support.git import GitRepository

MAIN = """\
storage: {path: ../var}
repositories:
  mono: {git: REPOSITORY, settle: 0s}
datasets:
  grapes: {path: ../data, settle: 0s}
grants:
  mono: {runners: [cpu], datasets: [grapes], schedules: true}
"""
FILE = """\
pipeline: quality
datasets: [grapes]
schedule: ["0 3 * * 1"]
run: {runner: cpu, command: "python train.py"}
"""


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    made = GitRepository.create(tmp_path)
    made.commit({".mlci.yaml": FILE, "train.py": "print(1)\n"})
    return made


@pytest.fixture
def config(tmp_path: Path, repository: GitRepository, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("1,2\n")
    config = tmp_path / "config"
    (config / "runners").mkdir(parents=True)
    (config / "orchestrator.yaml").write_text(MAIN.replace("REPOSITORY", repository.url))
    (config / "runners" / "cpu.yaml").write_text("runner: cpu\nimage: python:3.12-slim\n")
    monkeypatch.setenv("ORCHESTRATOR_CONFIG", str(config))
    seen = Application(read_configuration(config))
    try:
        for watch in seen.watches:
            seen.looks.look(watch)
    finally:
        seen.close()
    return config


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    execute(arguments)
    return capsys.readouterr().out


def test_what_a_repositorys_pipelines_watch_is_listed_without_asking_the_repository(
    config: Path, repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(repository.url)
    listed = json.loads(told(capsys, "sources", "list", "--json"))
    assert [row["name"] for row in listed] == [
        "repository mono",
        "dataset mono.quality/grapes",
        "schedule mono.quality",
    ]
    assert told(capsys, "sources", "log", "mono.quality", "--json") == "[]\n"
    [row] = json.loads(told(capsys, "datasets", "list", "--json"))
    assert (row["pipeline"], row["name"]) == ("mono.quality", "grapes")
    assert told(capsys, "datasets", "show", "grapes").split()[5] == "v1"
    assert [row["pipeline"] for row in json.loads(told(capsys, "status", "--json"))["pipelines"]] == [
        "mono.quality"
    ]


def test_what_a_repository_defines_no_more_is_not_listed_any_more(
    config: Path, repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit({".mlci.yaml": FILE.replace("quality", "price")})
    told(capsys, "sources", "poll", "mono")
    rows = json.loads(told(capsys, "datasets", "list", "--json"))
    assert [row["pipeline"] for row in rows] == ["mono.price"]


def test_data_of_a_repositorys_pipeline_are_looked_at_by_their_name(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "data" / "rows.csv").unlink()
    (config.parent / "data").rmdir()
    [looked] = json.loads(told(capsys, "sources", "poll", "grapes", "--json"))
    assert looked["name"] == "dataset mono.quality/grapes"
    assert "No such file" in looked["trouble"]
    assert execute(("datasets", "scan", "grapes")) == 3


def test_the_doctor_looks_at_repositories_and_at_what_their_pipelines_watch(
    config: Path, repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {row["what"]: row["result"] for row in json.loads(told(capsys, "doctor", "--json"))}
    assert found["repository mono"] == "ok"
    assert found["source remote"] == "ok"
    assert found["data grapes"] == "ok"
    repository.commit({".mlci.yaml": "pipeline: ["})
    found = {row["what"]: row["result"] for row in json.loads(told(capsys, "doctor", "--json"))}
    assert found["repository mono"] == "warn"
