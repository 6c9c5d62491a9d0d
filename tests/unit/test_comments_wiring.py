"""Whose repositories are looked at because of a comment: the one under whose pull request it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.bootstrap import Application
from orchestrator.bootstrap.configured import read_configuration
from orchestrator.bootstrap.hooks import watching
from orchestrator.domain.change import Refs
from orchestrator.domain.errors import SourceUnavailable
from orchestrator.domain.pipeline import SourceSpec

MAIN = """\
storage: {path: ../var}
repositories:
  gone: {github: acme/gone}
"""
PIPELINE = """\
pipeline: wine
source: {github: acme/wine}
run: {runner: cpu, command: "python train.py"}
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    config = tmp_path / "config"
    for folder in ("runners", "pipelines"):
        (config / folder).mkdir(parents=True)
    (config / "orchestrator.yaml").write_text(MAIN)
    (config / "runners" / "cpu.yaml").write_text("runner: cpu\nimage: python:3.12-slim\n")
    (config / "pipelines" / "wine.yaml").write_text(PIPELINE)
    made = Application(read_configuration(config))
    try:
        yield made
    finally:
        made.close()


def test_a_repository_that_cannot_be_asked_keeps_up_no_comment_of_another(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refs(source: SourceSpec) -> Refs:
        raise SourceUnavailable(f"{source.github} does not answer")

    monkeypatch.setattr(app.sources, "refs", refs)
    assert [(p.name, s.github) for p, s in watching(app, "Acme/Wine")] == [("wine", "acme/wine")]
    with pytest.raises(SourceUnavailable, match="acme/gone"):
        list(watching(app, "acme/gone"))
