"""A repository on GitHub from push to mark, watched by an App that nobody tells of pushes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.github import GitHubStandIn, Repository
from tests.support.githubbed import files
from tests.support.installation import Installation, Server
from tests.support.waiting import wait_until


def watch_as_app(hub: GitHubStandIn, installation: Installation) -> Repository:
    """acme/wine, private, watched each second by an App that is installed for acme."""
    repository = hub.repository("acme/wine", private=True)
    app, key = hub.app("ml-ci", "makers")
    hub.install(app, "acme")
    pem = installation.folder / "app.pem"
    pem.write_text(key)
    pem.chmod(0o600)
    installation.main |= {
        "github": {
            "api_url": hub.api_url,
            "app": {"id": app.id, "private_key": f"${{{{ file:{pem} }}}}"},
        }
    }
    installation.pipeline |= {
        "source": {"github": "acme/wine", "pull_requests": True, "poll": "1s", "settle": "0s"},
        "datasets": {},
        "run": {"runner": "cpu", "command": "python3 train.py", "timeout": "5m"},
        "gate": {"checks": ["accuracy >= 0.5"]},
        "actions": {},
    }
    installation.write()
    return repository


def shown(repository: Repository, commit: str) -> str | None:
    return repository.checks_of(commit).get("mlci/line")


def source(server: Server, installation: Installation) -> dict[str, object]:
    """What the product tells of the source."""
    (found,) = (row for row in installation.json("sources", "list") if "wine" in row["name"])
    assert isinstance(found, dict)
    return found


TRAIN = """\
import json
json.dump({"accuracy": float(open("accuracy.txt").read())}, open("metrics.json", "w"))
"""


def test_an_app_sees_pushes_by_polling_and_shows_in_check_runs_how_they_went(
    github: GitHubStandIn, installation: Installation
) -> None:
    repository = watch_as_app(github, installation)
    good = repository.push("main", {**files(0.9), "train.py": TRAIN})
    server = installation.serve()
    wait_until(lambda: shown(repository, good) == "success", "the check run of the first commit", 90)
    bad = repository.push("worse", {"accuracy.txt": "0.1\n"}, onto=good)
    repository.pull_request("worse", by="ada")
    wait_until(lambda: shown(repository, bad) == "failure", "the check run of the pull request", 90)

    run = next(run for run in repository.checks if run.sha == bad)
    assert run.status == "completed"
    assert run.details_url is not None
    assert run.details_url.startswith(f"{server.url}/runs/")
    assert "accuracy" in (run.summary or "")
    assert [(r["branch"], r["state"]) for r in installation.json("runs", "list")] == [
        ("refs/pull/1/head", "rejected"),
        ("main", "passed"),
    ]

    fault = github.fault("", 500)
    wait_until(lambda: "500" in str(source(server, installation)), "the trouble to be told", 30)
    github.faults.remove(fault)
    repository.rename("acme/red-wine")
    wait_until(
        lambda: "it is acme/red-wine now" in json.dumps(source(server, installation)),
        "the new name to be told",
        90,
    )
    server.terminate()
    secret = [token for token in github.identities.credentials if token.startswith("ghs_")]
    kept = [path for path in Path(installation.folder).rglob("*") if path.is_file() and path.suffix != ".pem"]
    for path in kept:
        content = path.read_bytes()
        assert not any(token.encode() in content for token in secret), path
        assert b"PRIVATE KEY" not in content, path
