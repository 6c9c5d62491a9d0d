"""The example configuration of the repository is valid, and so is what `init` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.config.init import Answers, EmailAnswers, ServerAnswers, write_example
from orchestrator.config.load import load
from orchestrator.config.yaml_loader import read
from orchestrator.domain.errors import InvalidInput
from tests.support.configuration import HOST_KEY

EXAMPLE = Path(__file__).parents[3] / "config"
FULL = Answers(
    pipeline="wine quality"[:4],
    dataset="wine-x",
    setup="pip install -r requirements.txt",
    artifacts=("model.*", "*.csv"),
    metric="val: loss #1",
    direction="lower",
    email=EmailAnswers("smtp://localhost:25", "ML CI <ci@example.org>", ("team@example.org",)),
    server=ServerAnswers("prod", "prod.example.org", "deploy", HOST_KEY),
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "data").mkdir()
    return tmp_path


def test_the_example_configuration_has_no_problem_and_uses_each_part() -> None:
    result = load(EXAMPLE, environ={})
    assert [str(problem) for problem in result.problems] == []
    assert result.configuration is not None
    assert set(result.configuration.runners) == {"cpu", "gpu"}
    pipeline = result.configuration.pipelines["wine-quality"]
    assert len(pipeline.judged_by().checks) == 3
    assert {role.role for role in pipeline.datasets.values()} == {"train", "evaluation"}
    assert result.configuration.orchestrator.email is not None


@pytest.mark.parametrize("path", sorted(EXAMPLE.rglob("*.yaml")), ids=lambda path: path.name)
def test_our_reader_and_pyyaml_read_the_examples_alike(path: Path) -> None:
    document, problems = read(path.read_bytes(), path.name)
    assert problems == []
    assert document is not None
    assert document.data == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("answers", [Answers(), Answers(email=FULL.email), Answers(server=FULL.server)])
def test_what_init_writes_is_valid(repository: Path, answers: Answers) -> None:
    files = write_example(repository / "config", answers)
    assert all(path.is_file() for path in files)
    result = load(repository / "config", environ={})
    assert [str(problem) for problem in result.problems] == []
    assert result.configuration is not None
    assert set(result.configuration.pipelines) == {"training"}


def test_all_answers_arrive_in_what_init_writes(repository: Path) -> None:
    write_example(repository / "config", FULL)
    document, problems = read((repository / "config/pipelines/wine.yaml").read_bytes(), "wine.yaml")
    assert problems == []
    assert document is not None
    assert isinstance(document.data, dict)
    assert document.data["metrics"] == {"val: loss #1": {"direction": "lower"}}
    assert document.data["artifacts"] == ["model.*", "*.csv"]
    assert document.data["datasets"] == {"wine-x": {"path": "../data", "role": "train", "settle": "10s"}}


@pytest.mark.parametrize(
    "text", ["true", "12", "~", "a: b", "# x", "- x", "*", "a\nb: c", '"', "null", "x:", "{", "  "]
)
def test_answers_stay_text_whatever_they_hold(repository: Path, text: str) -> None:
    write_example(repository / "config", Answers(command=text))
    document, problems = read((repository / "config/pipelines/training.yaml").read_bytes(), "f.yaml")
    assert problems == []
    assert document is not None
    assert isinstance(document.data, dict)
    assert isinstance(document.data["run"], dict)
    assert document.data["run"]["command"] == text


def test_init_never_overwrites_and_then_writes_nothing(repository: Path) -> None:
    kept = repository / "config" / "runners" / "cpu.yaml"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine\n")
    with pytest.raises(InvalidInput, match="exists already"):
        write_example(repository / "config")
    assert kept.read_text() == "mine\n"
    assert not (repository / "config" / "orchestrator.yaml").exists()
