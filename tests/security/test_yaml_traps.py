"""YAML bombs, duplicate keys, and values that YAML 1.1 reads as something else: a clear error, and soon."""

from __future__ import annotations

import time

import pytest

from orchestrator.config.yaml_loader import MAX_BYTES, read
from tests.support.configuration import PIPELINE, ConfigFolder


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> ConfigFolder:
    return ConfigFolder(tmp_path_factory.mktemp("yaml"))


def bomb(levels: int, width: int) -> str:
    """An alias bomb of width ** levels values."""
    lines = ["x-0: &a0 [" + ",".join(["x"] * width) + "]"]
    lines += [f"x-{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * width) + "]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def merge_bomb(levels: int) -> str:
    """Mappings that double by merging."""
    lines = ["x-0: &a0 {k0: 1}"]
    lines += [f"x-{n}: &a{n} {{l: *a{n - 1}, r: *a{n - 1}, <<: *a{n - 1}}}" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            bomb(12, 10),
            "the file grows too large once its aliases are written out; expected at most 20,000 values",
        ),
        (bomb(40, 2), "the file grows too large once its aliases are written out"),
        (merge_bomb(40), "the file grows too large once its aliases are written out"),
        ("a: &a " + "x" * 100_000 + "\nb: [" + ",".join(["*a"] * 1000) + "]\n", "1,048,576 characters"),
        ("a: " + "[" * 100_000, "the values are nested too deep; expected at most 50 levels"),
        ("a: " + "{a: " * 60_000, "the values are nested too deep"),
        ("- " * 100_000, "the values are nested too deep"),
        ("a: &a {b: *a}\n", "*a stands inside the value that it names"),
        ("# " + "x" * MAX_BYTES, "the file has"),
        ("a: [" + "x," * 30_000 + "]\n", "the file grows too large"),
    ],
    ids=["wide", "deep", "merge", "text", "lists", "mappings", "dashes", "itself", "bytes", "values"],
)
def test_yaml_bombs_are_refused_within_seconds(folder: ConfigFolder, text: str, says: str) -> None:
    begin = time.perf_counter()
    problems = folder.problems_of_pipeline(text)
    assert time.perf_counter() - begin < 5
    assert len(problems) == 1
    assert says in problems[0]


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system ''",
        "!!python/object/new:os.system [x]",
        "!!binary aGk=",
        "!!timestamp 2026-01-01",
        "!!set {a, b}",
    ],
)
def test_tags_build_no_objects(text: str) -> None:
    document, problems = read(f"a: {text}\n".encode(), "f.yaml")
    assert document is None
    assert "is not supported" in problems[0].message


def test_a_key_that_stands_twice_is_refused_and_neither_value_is_taken(folder: ConfigFolder) -> None:
    problems = folder.problems_of_pipeline(PIPELINE + "deploy_branches: [main]\ndeploy_branches: ['**']\n")
    assert problems == [
        (
            '5:1: the key "deploy_branches" is here a second time; it is on line 4 already; '
            "expected each key once"
        )
    ]
    assert folder.load().configuration is None


def test_on_is_a_key_and_not_true(folder: ConfigFolder) -> None:
    assert folder.problems_of_pipeline(PIPELINE + "on: {push: {}}\n")[0].startswith(
        '4:1: "on" is not available'
    )


def test_sexagesimals_are_text_and_never_a_number_of_seconds(folder: ConfigFolder) -> None:
    problems = folder.problems_of_main("web: {port: 22:22}\n")
    assert problems == ['1:13: "22:22" is not possible here; expected a whole number']


@pytest.mark.parametrize("word", ["no", "off", "n", "No", "OFF", "False", "0"])
def test_only_false_is_false(folder: ConfigFolder, word: str) -> None:
    problems = folder.problems_of_pipeline(PIPELINE + f"concurrency: {{cancel_in_progress: {word}}}\n")
    assert len(problems) == 1
    assert problems[0].endswith('expected true or false; did you mean "false"?')


def test_norway_is_a_branch(folder: ConfigFolder) -> None:
    folder.problems_of_pipeline(PIPELINE + "deploy_branches: [no]\n")
    configuration = folder.load().configuration
    assert configuration is not None
    assert configuration.pipelines["wine"].deploy_branches == ("no",)
