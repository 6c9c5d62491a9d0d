"""A run's results go into a bucket, a repository, a command and a service: from YAML, by the command line."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import cast

import boto3
import docker
import pytest

from tests.support.bucket import s3_running
from tests.support.git import run_git
from tests.support.installation import Installation
from tests.support.network import free_port

SERVE = ["python3", "-m", "http.server", "--directory", "/models", "8000"]
ASK = ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/model.txt')"]
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@pytest.fixture
def s3_endpoint() -> Iterator[str]:
    with s3_running() as address:
        yield address


def test_results_go_everywhere_that_the_pipeline_says_and_the_record_tells(
    installation: Installation, s3_endpoint: str, docker_engine: docker.DockerClient
) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1", **KEYS)
    client.create_bucket(Bucket="results")
    port = free_port()
    login = {"access_key": "testing", "secret_key": "testing", "allow_private": True}
    installation.main = {
        "stores": {"models": {"s3": "s3://results/ci", "endpoint": s3_endpoint, **login}},
        "services": {
            "api": {
                "image": installation.image,
                "command": SERVE,
                "folder": "/models",
                "ports": [f"{port}:8000"],
                "health": {"command": ASK, "interval": "1s", "patience": "30s"},
            }
        },
    }
    files = {"files": ["model.txt"]}
    shell = 'cat model.txt; echo "$MLCI_PIPELINE $STAGE"'
    installation.pipeline = {
        "actions": {
            "pass": [
                {"upload": {"store": "models", "prefix": "{pipeline}/{number}", **files}, "name": "kept"},
                {"git": {"source": "remote", "branch": "results", "folder": "models", **files}},
                {"git": {"source": "remote", "tag": "model-{number}"}},
                {"command": {"run": shell, "env": {"STAGE": "prod"}, **files}, "needs": ["kept"]},
                {"container": {"service": "api", **files}},
            ]
        }
    }
    installation.write()
    commit = installation.commit(0.9)
    installation.orchestrator("run", "line", "--follow")

    (run,) = installation.json("runs", "list")
    actions = installation.json("runs", "show", str(run["id"]))["actions"]
    assert [action["state"] for action in actions] == ["done"] * 5, actions
    assert "model 0.9\nline prod" in json.dumps(actions, ensure_ascii=False).replace("\\n", "\n")

    def content(key: str) -> bytes:
        return cast("bytes", client.get_object(Bucket="results", Key=key)["Body"].read())

    assert content("ci/line/1/model.txt") == b"model 0.9\n"
    assert json.loads(content("ci/line/1/release.json"))["commit"] == commit
    remote = installation.repository.remote
    assert run_git(remote, "show", "results:models/model.txt") == "model 0.9"
    assert run_git(remote, "rev-parse", "model-1^{commit}") == commit
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/model.txt", timeout=10) as answer:
        assert answer.read() == b"model 0.9\n"

    of_actions: dict[str, str | list[str] | bool] = {
        "name": f"mlci-{str(installation.instance())[:8]}-action-"
    }
    assert docker_engine.containers.list(all=True, filters=of_actions) == []
    assert docker_engine.networks.list(filters=of_actions) == []

    installation.commit(0.95)
    installation.orchestrator("run", "line", "--follow")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/model.txt", timeout=10) as answer:
        assert answer.read() == b"model 0.95\n"
    assert run_git(remote, "rev-list", "--count", "results") == "2"
