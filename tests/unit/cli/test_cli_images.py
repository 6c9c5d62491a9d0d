"""``orchestrator images``, as far as it goes where no engine answers: which images it would make."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Command


@pytest.fixture(autouse=True)
def two_runners(folder: Path) -> None:
    """Of the two runners, the pipeline uses cpu."""
    (folder / "runners" / "gpu.yaml").write_text("runner: gpu\nimage: python:3.11-slim\n")


def test_without_a_name_images_are_made_for_the_runners_that_pipelines_use(command: Command) -> None:
    ended = command("images", "build")
    assert "left out, because no pipeline uses them: gpu; --all makes these, too" in ended.err
    assert "cpu on desk: " in ended.err
    assert "gpu on desk: " not in ended.err


@pytest.mark.parametrize("words", [("--all",), ("gpu", "cpu")])
def test_images_are_made_for_all_runners_where_that_is_asked_for(
    command: Command, words: tuple[str, ...]
) -> None:
    ended = command("images", "build", *words)
    assert "left out" not in ended.err
    assert "cpu on desk: " in ended.err
    assert "gpu on desk: " in ended.err


def test_the_base_image_is_made_alone_as_our_own_advice_says(command: Command) -> None:
    ended = command("images", "build", "base")
    assert ended.code == 3
    assert "mlci/base:1 on desk: " in ended.err
    assert "cpu on desk: " not in ended.err


def test_what_is_neither_a_runner_nor_a_folder_is_refused_with_what_there_is(command: Command) -> None:
    ended = command("images", "build", "basement")
    assert ended.code == 2
    assert "basement is neither a runner nor a folder with a Dockerfile" in ended.err
    assert "cpu, gpu" in ended.err
