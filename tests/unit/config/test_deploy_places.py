"""Where pipelines may deploy to: no way leads round an environment, and no two share a server."""

from __future__ import annotations

import pytest

from orchestrator.config.grants import granted_to
from orchestrator.config.repository import read_repository_file
from tests.support.configuration import HOST_KEY, PIPELINE, ConfigFolder

SSH = f"ssh: {{hostname: prod.example.org, user: deploy, host_key: {HOST_KEY}}}"
MAIN = f"""\
servers:
  stage: {{{SSH}, path: /srv/stage}}
  web1: {{{SSH}, path: /srv/web1}}
  web2: {{{SSH}, path: /srv/web2}}
environments:
  staging: {{servers: [stage]}}
  prod: {{servers: [web1, web2], approval: true, after: staging}}
"""
REPOSITORIES = """\
repositories: {cellar: {github: acme/cellar}}
grants: {cellar: {runners: [cpu], environments: [staging, prod], servers: [SERVERS]}}
"""


@pytest.fixture
def environments(folder: ConfigFolder) -> ConfigFolder:
    folder.write("orchestrator.yaml", MAIN)
    return folder


def passing(*places: str) -> str:
    owed = ", ".join(f"{{deploy: {{{place}}}}}" for place in places)
    return (
        'artifacts: ["model.*"]\n'
        "metrics: {accuracy: {direction: higher}}\n"
        "gate: {checks: [accuracy >= 0.9]}\n"
        f"actions: {{pass: [{owed}]}}\n"
    )


def test_a_server_of_an_environment_is_deployed_to_with_it_alone(environments: ConfigFolder) -> None:
    assert environments.problems_with(passing("environment: prod")) == []
    (problem,) = environments.problems_with(passing("server: web1"))
    assert '"web1" is a server of the environment "prod", whose rules would not hold' in problem
    assert "expected environment: prod" in problem


def test_a_server_of_an_environment_is_granted_with_it_alone(environments: ConfigFolder) -> None:
    (problem,) = environments.problems_of_main(MAIN + REPOSITORIES.replace("SERVERS", "web2"))
    assert '"web2" is a server of the environment "prod", whose rules would not hold' in problem


def test_a_repository_shares_no_server_with_an_environment_of_the_administrators_pipelines(
    environments: ConfigFolder,
) -> None:
    environments.write("orchestrator.yaml", MAIN + REPOSITORIES.replace("SERVERS", ""))
    environments.write("pipelines/wine.yaml", PIPELINE + passing("environment: prod"))
    configuration = environments.load().configuration
    assert configuration is not None
    granted = granted_to(configuration.orchestrator, "cellar", configuration.pipelines)
    assert granted.taken == {"web1", "web2"}
    theirs = "pipeline: quality\nrun: {runner: cpu, command: python train.py}\n"
    assert read_repository_file((theirs + passing("environment: staging")).encode(), granted).problems == ()
    (problem,) = read_repository_file((theirs + passing("environment: prod")).encode(), granted).problems
    assert 'another pipeline deploys to "prod"' in problem.message


def test_an_environment_stands_after_the_one_that_it_comes_after(environments: ConfigFolder) -> None:
    assert environments.problems_with(passing("environment: staging", "environment: prod")) == []
    (problem,) = environments.problems_with(passing("environment: prod", "environment: staging"))
    assert '"prod" comes after "staging", which is deployed to later in this list' in problem
    assert "expected the deployment to staging above this one" in problem


def test_a_repository_is_told_of_the_wrong_order_as_well(environments: ConfigFolder) -> None:
    environments.write("orchestrator.yaml", MAIN + REPOSITORIES.replace("SERVERS", ""))
    configuration = environments.load().configuration
    assert configuration is not None
    granted = granted_to(configuration.orchestrator, "cellar", configuration.pipelines)
    theirs = "pipeline: quality\nrun: {runner: cpu, command: python train.py}\n"
    wrong = passing("environment: prod", "environment: staging")
    (problem,) = read_repository_file((theirs + wrong).encode(), granted).problems
    assert '"prod" comes after "staging"' in problem.message
