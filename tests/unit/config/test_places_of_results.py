"""Buckets and services of the administrator, and the actions that name them."""

# ruff: noqa: E501 - a message in one piece is easier to compare than one in pieces

from __future__ import annotations

import pytest

from orchestrator.bootstrap.configured import pipeline_of
from orchestrator.bootstrap.outlets import services_of
from orchestrator.domain.action_spec import (
    CommandAction,
    ContainerAction,
    Contents,
    GitAction,
    Rule,
    UploadAction,
)
from orchestrator.domain.pipeline import NamedImage, Resources
from orchestrator.domain.service import ServicePort, ServiceSpec
from tests.support.configuration import MAIN, PIPELINE, ConfigFolder

PLACES = """\
stores:
  models: {s3: s3://models/ci, region: eu-central-1}
services:
  api:
    image: serve:1
    command: [python, serve.py]
    ports: ["8080:80", "0.0.0.0:443:8443"]
    env: {WORKERS: "2"}
    health: {command: [curl, -f, "http://localhost"], interval: 1s, patience: 1m}
    folder: /models
    user: "1000:1000"
    cpus: 1.5
    memory: 1g
"""


def test_actions_name_places_and_what_goes_there(folder: ConfigFolder) -> None:
    folder.write("orchestrator.yaml", MAIN + PLACES)
    folder.write(
        "pipelines/wine.yaml",
        PIPELINE
        + """\
artifacts: ["model.*"]
actions:
  pass:
    - upload: {store: models, prefix: "wine/{number}", metrics: true}
    - git: {source: wine, branch: results, folder: models, files: [model.bin], message: "Model {number}"}
    - git: {source: wine, tag: "model-{number}"}
    - container: {service: api}
    - command: {run: [python, publish.py, a file], secrets: [WANDB_API_KEY], env: {STAGE: prod}}
      retry: {tries: 2}
""",
    )
    loaded = folder.load()
    assert not loaded.problems
    assert loaded.configuration is not None
    upload, branch, tag, container, command = [
        spec for _, spec in pipeline_of(loaded.configuration, loaded.configuration.pipelines["wine"]).actions
    ]
    models = Contents(("model.*",))
    assert upload == UploadAction("models", "wine/{number}", Contents(("model.*",), metrics=True))
    assert branch == GitAction("wine", "results", "", "models", "Model {number}", Contents(("model.bin",)))
    assert isinstance(tag, GitAction)
    assert (tag.tag, tag.branch) == ("model-{number}", "")
    assert container == ContainerAction("api", models)
    assert command == CommandAction(
        "python publish.py 'a file'",
        "",
        models,
        (("STAGE", "prod"),),
        ("WANDB_API_KEY",),
        Rule(tries=2),
    )


def test_a_service_is_bound_to_this_machine_unless_an_address_is_written(folder: ConfigFolder) -> None:
    folder.write("orchestrator.yaml", MAIN + PLACES)
    configuration = folder.load().configuration
    assert configuration is not None
    assert services_of(configuration.orchestrator.services) == {
        "api": ServiceSpec(
            "api",
            "local",
            NamedImage("serve:1"),
            ("python", "serve.py"),
            (ServicePort("127.0.0.1", 8080, 80), ServicePort("0.0.0.0", 443, 8443)),  # noqa: S104 - as it is written
            (("WORKERS", "2"),),
            ("curl", "-f", "http://localhost"),
            1.0,
            60.0,
            folder="/models",
            user="1000:1000",
            resources=Resources(1.5, 1 << 30),
        )
    }


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("git: {source: wine}", "neither branch nor tag is given; expected exactly one of branch and tag"),
        ("git: {source: wine, branch: a, tag: b}", "both branch and tag are given"),
        ("git: {source: wine, branch: refs/heads/a}", '"refs/heads/a" cannot be the name of a branch or tag'),
        ("git: {source: wine, branch: a..b}", '"a..b" cannot be the name of a branch or tag'),
        ("git: {source: wine, branch: --force}", '"--force" cannot be the name of a branch or tag'),
        ("git: {source: wine, tag: v, files: [model]}", "a tag names the run's commit and holds no files"),
        ("git: {source: wine, branch: a, folder: ../b}", '"../b" leaves its folder'),
        (
            'upload: {store: models, prefix: "{nmber}"}',
            '{nmber} stands for nothing; expected one of pipeline, run, number, commit, short, branch; did you mean "number"?',
        ),
        ("upload: {store: models, prefix: /abs}", '"/abs" leaves its folder'),
        ("upload: {store: modls}", 'there is no store "modls"; expected models'),
        ("container: {service: apy}", 'there is no service "apy"; expected api'),
        ('command: {run: " "}', "the command is empty"),
    ],
)
def test_a_mistake_in_an_action_is_told_where_it_stands(folder: ConfigFolder, action: str, says: str) -> None:
    folder.write("orchestrator.yaml", MAIN + PLACES)
    (problem,) = folder.problems_of_pipeline(PIPELINE + f"actions: {{pass: [{{{action}}}]}}\n")
    assert problem.startswith("4:")
    assert says in problem


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ("stores: {m: {s3: Models}}", '"Models" is no bucket'),
        ("stores: {m: {s3: s3://models, access_key: x}}", "of access_key and secret_key one is missing"),
        (
            "stores: {m: {s3: s3://models, endpoint: 'http://a', access_key: x, secret_key: y}}",
            "a login would be sent to http://a in the clear",
        ),
        ("services: {a: {}}", "neither image nor build is given"),
        ("services: {a: {image: x, ports: ['80']}}", '"80" is no port; expected "HOST:CONTAINER"'),
        ("services: {a: {image: x, ports: ['80:70000']}}", '"80:70000" is no port'),
        ("services: {a: {image: x, user: root}}", '"root" is no user; expected "UID:GID" in numbers'),
        ("services: {a: {image: x, folder: models}}", '"models" is no folder in a container'),
        ("services: {a: {image: x, health: {command: []}}}", "this is empty; expected at least one item"),
    ],
)
def test_a_mistake_in_a_place_is_told_where_it_stands(folder: ConfigFolder, places: str, says: str) -> None:
    folder.write("orchestrator.yaml", f"{MAIN}{places}\n")
    (problem,) = folder.problems()
    assert problem.startswith("orchestrator.yaml:8:")
    assert says in problem
