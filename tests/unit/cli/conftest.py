from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from orchestrator.cli.main import execute
from tests.support.git import GitRepository

PIPELINE = """\
pipeline: wine
source: {git: ../git/remote.git, settle: 0s}
datasets:
  grapes: {path: ../grapes}
run: {runner: cpu, command: python train.py}
gate:
  checks: [accuracy >= 0.9, accuracy not worse than best by 1pp]
actions:
  pass:
    - deploy: {server: prod, files: [model.bin]}
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBfbwmeR/uVwyKEmnCxyVxQbIcS8G3eK7PsW1ESel5us"
SERVER = """\
servers:
  prod:
    ssh: {hostname: prod.example.org, user: deploy, known_hosts: ./known_hosts}
    path: /srv/models
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run a command line in this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        code = execute(arguments)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    yield run
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def folder(tmp_path: Path, git_repository: GitRepository, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A valid configuration folder on a repository with one commit; no engine answers."""
    git_repository.commit({"train.py": "print('hello')\n"}, "First model")
    made = tmp_path / "config"
    for name, text in {
        "orchestrator.yaml": f"hosts: {{desk: {{engine: 'unix://{tmp_path}/no.sock', slots: 2}}}}\n{SERVER}",
        "known_hosts": f"prod.example.org {KEY}\n",
        "runners/cpu.yaml": "runner: cpu\nimage: python:3.12-slim\n",
        "pipelines/wine.yaml": PIPELINE,
    }.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    grapes = tmp_path / "grapes"
    grapes.mkdir()
    (grapes / "a.csv").write_text("1,2\n")
    monkeypatch.setenv("ORCHESTRATOR_CONFIG", str(made))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    return made
