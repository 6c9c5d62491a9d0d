"""A repository's own files: links that point out of the checkout give nothing of the machine."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.support.installation import Installation


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the orchestrator's machine that no repository should get at."""
    path = tmp_path / "machine" / "credentials.txt"
    path.parent.mkdir()
    path.write_text(f"credential-{uuid.uuid4().hex}\n")
    return path


def commit_link(installation: Installation, name: str, target: Path, files: dict[str, str]) -> None:
    """Push a commit with a link; git keeps links as they are."""
    link = installation.repository.work / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    installation.commit(0.8, files)


def leaks(installation: Installation, secret: Path) -> list[str]:
    """Where the content of the file can be found: state, log of the run, mails."""
    content = secret.read_text().strip()
    state = installation.folder / "var"
    found = [str(p) for p in state.rglob("*") if p.is_file() and content.encode() in p.read_bytes()]
    shown = installation.orchestrator("runs", "show", "1") + installation.orchestrator("runs", "logs", "1")
    mails = "".join(part for m in installation.smtp.messages for part in (m.subject, m.body()))
    return [*found, *(name for name, text in (("shown", shown), ("mails", mails)) if content in text)]


@pytest.mark.parametrize("key", ["requirements.txt", "deps/*.txt"])
def test_a_setup_key_that_is_a_link_out_of_the_checkout_is_no_file(
    installation: Installation, secret: Path, key: str
) -> None:
    installation.pipeline = {
        "run": {
            "runner": "cpu",
            "command": "python3 train.py",
            "setup": {"run": "find . -type f -exec cat {} +; false", "key": [key]},
        }
    }
    installation.write()
    name, target = ("deps", secret.parent) if "/" in key else (key, secret)
    commit_link(installation, name, target, {})
    told = installation.orchestrator("run", "line", expect=1)
    (run,) = installation.json("runs", "list")
    assert run["state"] == "failed"
    assert f"no file matches the key '{key}'" in told + installation.orchestrator("runs", "show", "1")
    assert leaks(installation, secret) == []


def test_a_dockerfile_that_is_a_link_out_of_the_checkout_is_refused(
    installation: Installation, secret: Path
) -> None:
    secret.write_text(f"FROM {installation.image}\n# credential-{uuid.uuid4().hex}\n")
    (installation.config / "runners" / "cpu.yaml").write_text(
        "runner: cpu\nimage: {dockerfile: Dockerfile}\n"
    )
    commit_link(installation, "Dockerfile", secret, {})
    installation.orchestrator("run", "line", expect=1)
    (run,) = installation.json("runs", "list")
    assert run["state"] == "failed"
    secret.write_text(secret.read_text().splitlines()[1])
    assert leaks(installation, secret) == []


def test_a_link_in_the_build_context_and_in_the_workspace_stays_a_link(
    installation: Installation, secret: Path
) -> None:
    (installation.config / "runners" / "cpu.yaml").write_text(
        "runner: cpu\nimage: {dockerfile: Dockerfile}\n"
    )
    show = "find /context -name .git -prune -o -type f -exec cat {} +; cd /context; cat stolen folder/* 2>&1"
    train = f"""\
import json, subprocess
subprocess.run(["sh", "-c", "ls -l stolen folder; cat stolen folder/* 2>&1"])
print(open("/shown").read())
json.dump({{"accuracy": 0.8}}, open("metrics.json", "w"))
# {uuid.uuid4().hex}
"""
    (installation.repository.work / "folder").symlink_to(secret.parent)
    commit_link(
        installation,
        "stolen",
        secret,
        {
            "Dockerfile": (
                f"FROM {installation.image}\nUSER root\nCOPY . /context\nRUN ({show}) > /shown; true\n"
            ),
            "train.py": train,
        },
    )
    installation.orchestrator("run", "line", expect=0)
    log = installation.orchestrator("runs", "logs", "1")
    assert f"stolen -> {secret}" in log
    assert log.count("No such file or directory") >= 4
    assert leaks(installation, secret) == []
