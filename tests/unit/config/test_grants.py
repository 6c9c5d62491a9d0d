"""What the administrator says of repositories with a file of their own is checked against what there is."""

# ruff: noqa: E501 - a message in one piece is easier to compare than one in pieces

from __future__ import annotations

import pytest

from orchestrator.config.grants import granted_to
from tests.support.configuration import ConfigFolder

MAIN = """\
secrets: {WANDB_API_KEY: "${{ env.WANDB_API_KEY }}"}
repositories:
  cellar: {github: acme/cellar}
grants:
  acme/cellar: {secrets: [WANDB_API_KEY], runners: [cpu]}
"""


def test_a_grant_is_found_by_the_name_on_github(folder: ConfigFolder) -> None:
    assert folder.problems_of_main(MAIN) == []
    configuration = folder.load().configuration
    assert configuration is not None
    granted = granted_to(configuration.orchestrator, "cellar", configuration.pipelines)
    assert granted.grant is not None
    assert granted.grant.runners == ("cpu",)
    assert granted.grant.servers == ()


def test_a_repository_without_a_grant_may_use_nothing(folder: ConfigFolder) -> None:
    assert folder.problems_of_main("repositories: {cellar: {github: acme/cellar}}\n") == []
    configuration = folder.load().configuration
    assert configuration is not None
    granted = granted_to(configuration.orchestrator, "cellar", configuration.pipelines)
    assert granted.grant is not None
    assert granted.grant.model_fields_set == set()


@pytest.mark.parametrize(
    ("line", "instead", "problem"),
    [
        ("acme/cellar: {s", "acme/celar: {s", 'no repository under repositories: is "acme/celar"'),
        ("runners: [cpu]", "runners: [gpu]", 'there is no runner "gpu"'),
        ("runners: [cpu]", "datasets: [wine]", 'there is no dataset "wine"'),
        ("runners: [cpu]", "servers: [prod]", 'there is no server "prod"'),
        ("secrets: [WANDB_API_KEY]", "secrets: [WANDB]", 'there is no secret "WANDB"'),
        ("runners: [cpu]}", "runners: [cpu]}\n  cellar: {}", "are grants to the same repository"),
        ("cellar: {github", "cel.lar: {github", "a dot in it would make it look like a pipeline of another repository"),
        ("cellar: {github", "wine: {github", 'the pipeline "wine.quality" is called as one of this repository would be'),
    ],
)  # fmt: skip
def test_grants_of_what_is_not_there_are_errors(
    folder: ConfigFolder, line: str, instead: str, problem: str
) -> None:
    pipeline = folder.path / "pipelines" / "wine.yaml"
    text = pipeline.read_text()
    pipeline.write_text(text.replace(text.splitlines()[0], "pipeline: wine.quality", 1))
    assert line in MAIN
    found = folder.problems_of_main(MAIN.replace(line, instead))
    assert any(problem in told for told in found), found
