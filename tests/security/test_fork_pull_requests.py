"""A pull request from a fork whose author wants more than a stranger gets: a real server, real containers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from orchestrator.domain.change import Cause
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.run import RunState
from tests.security.conftest import InstallationMaker
from tests.support.github import GitHubStandIn, Pull, Repository
from tests.support.githubbed import Watching, files, watch
from tests.support.waiting import wait_until

SECRET = "wandb-key-0123456789"
GREEDY = """\
import json, os, pathlib
print("environment", sorted(os.environ.items()))
for folder in ("/run/secrets", "/mlci", "/run"):
    for path in sorted(pathlib.Path(folder).rglob("*")):
        try:
            print(path, path.read_bytes()[:200])
        except OSError as error:
            print(path, error)
json.dump({"accuracy": 1.0}, open("metrics.json", "w"))
open("model.txt", "w").write("mine")
"""


@pytest.fixture(scope="module")
def watching(
    tmp_path_factory: pytest.TempPathFactory, shared_installation: InstallationMaker
) -> Iterator[Watching]:
    """A pipeline with a secret and a deployment, for whoever pushes to the repository itself."""
    installation = shared_installation()
    secret = installation.folder / "wandb"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    installation.main |= {
        "secrets": {"WANDB_API_KEY": f"${{{{ file:{secret} }}}}"},
        "servers": {
            "prod": {
                "ssh": {"hostname": "127.0.0.1", "port": 9, "user": "nobody", "host_key": _A_KEY},
                "path": "/srv/models",
            }
        },
    }
    installation.pipeline |= {
        "datasets": {},
        "deploy_branches": ["*"],
        "run": {
            "runner": "cpu",
            "command": "python3 train.py",
            "secrets": ["WANDB_API_KEY"],
            "timeout": "5m",
        },
        "gate": {"checks": ["accuracy >= 0.5"]},
        "actions": {"pass": [{"deploy": {"server": "prod", "files": ["model.txt"]}}]},
    }
    with GitHubStandIn(tmp_path_factory.mktemp("github")) as hub, watch(hub, installation) as made:
        yield made


def test_a_fork_gets_nothing_before_it_is_approved_and_no_secret_deployment_or_baseline_afterwards(
    watching: Watching,
) -> None:
    fork = watching.repository.fork("evil")
    commit, pull = _proposed(watching, fork, {"train.py": GREEDY})
    run = watching.wait_for_run(commit, pull.ref, RunState.AWAITING_APPROVAL)
    assert watching.store.attempts.of_run(run.id) == []
    assert watching.store.actions.of_run(run.id) == []
    watching.wait_for_status(commit, "pending")
    told = watching.repository.statuses[-1].description or ""
    assert told == f"waits for approval: /mlci approve {commit}"

    # Its author says so as loudly as possible.
    for text in ("/mlci approve", f"/mlci approve {commit}", f"/mlci run {commit}", "/mlci run"):
        comment = watching.repository.comment(pull.number, text, by="evil")
        wait_until(partial(_dealt_with, watching, comment.id), "the comment to be dealt with", 30)
    assert watching.store.runs.get(run.id).state is RunState.AWAITING_APPROVAL
    assert len(watching.runs(pull.ref)) == 1

    watching.installation.orchestrator("runs", "approve", f"line#{run.number}", "--reason", "read all of it")
    ended = watching.wait_for_run(commit, pull.ref, RunState.PASSED)
    watching.wait_for_status(commit, "success")
    log = watching.installation.orchestrator("runs", "logs", str(run.id))
    assert "environment" in log
    assert SECRET not in log
    assert "***" not in log, "there was something to mask"
    assert "WANDB" not in log
    assert watching.token not in log
    frozen = watching.store.runs.definition(run.id)
    assert watching.store.actions.of_run(run.id) == []
    assert frozen.execution.secrets == ()
    assert why_not_trusted(ended, frozen) is not None
    shown = watching.installation.json("runs", "show", str(run.id))
    assert [(d["ruling"], d["reason"]) for d in shown["decisions"]] == [("approved", "read all of it")]
    assert [(s["context"], s["sent"]) for s in shown["statuses"]] == [("mlci/line", "passed")]


def test_what_is_pushed_after_the_reading_is_not_approved_by_it(watching: Watching) -> None:
    repository = watching.repository
    fork = repository.fork("eve")
    first, pull = _proposed(watching, fork, files(0.9))
    read = watching.wait_for_run(first, pull.ref, RunState.AWAITING_APPROVAL)
    second = fork.push("topic", {"train.py": GREEDY})
    newer = watching.wait_for_run(second, pull.ref, RunState.AWAITING_APPROVAL)
    assert watching.store.runs.get(read.id).state is RunState.CANCELLED

    # The maintainer, who has read the first commit alone.
    watching.installation.orchestrator("runs", "approve", f"line#{read.number}", expect=2)
    repository.comment(pull.number, f"/mlci approve {first[:8]}", by="ci-bot")
    wait_until(lambda: _answers(repository, "waits for approval"), "the answer", 30)
    assert watching.store.runs.get(newer.id).state is RunState.AWAITING_APPROVAL

    # Closing ends what waits; nobody can approve it any more.
    repository.close(pull.number)
    wait_until(
        lambda: watching.store.runs.get(newer.id).state is RunState.CANCELLED, "the run to be cancelled", 30
    )
    watching.installation.orchestrator("runs", "approve", f"line#{newer.number}", expect=2)
    assert {run.change.cause for run in watching.runs(pull.ref)} == {Cause.PULL_REQUEST}


def _proposed(watching: Watching, fork: Repository, content: dict[str, str]) -> tuple[str, _Pull]:
    commit = fork.push("topic", content, message="A small improvement")
    return commit, _Pull(watching.repository.pull_request("topic", head=fork))


class _Pull:
    def __init__(self, pull: Pull) -> None:
        self.number = pull.number
        self.ref = f"refs/pull/{pull.number}/head"


def _dealt_with(watching: Watching, comment: int) -> bool:
    later = datetime.now(UTC) + timedelta(days=1)
    return comment not in [seen.id for seen in watching.store.deliveries.comments(later)]


def _answers(repository: Repository, text: str) -> list[str]:
    return [c.body for c in repository.comments if c.author.login == "ci-bot" and text in c.body]


_A_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7Yy4xVxJrJ0m8p0mXq8gq1mYx8m0l8yq0e6z1c1Q2e"
