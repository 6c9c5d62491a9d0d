"""Configuration folders for tests: a valid one, and ways to break it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from orchestrator.config.load import LoadResult, load

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBfbwmeR/uVwyKEmnCxyVxQbIcS8G3eK7PsW1ESel5us"

MAIN = f"""\
storage: {{path: ../var}}
email: {{smtp: "smtp://localhost:2525", from: "ML CI <ci@example.org>"}}
hosts:
  local: {{slots: 2, labels: {{zone: desk}}}}
servers:
  prod: {{ssh: {{hostname: prod.example.org, user: deploy, host_key: {HOST_KEY}}}, path: /srv/models}}
secrets: {{WANDB_API_KEY: "${{{{ env.WANDB_API_KEY }}}}"}}
"""
RUNNER = """\
runner: cpu
image: python:3.12-slim
"""
PIPELINE = """\
pipeline: wine
source: {git: https://example.org/wine.git}
run: {runner: cpu, command: python train.py}
"""
ENVIRON = {"WANDB_API_KEY": "wandb-secret-value"}


class ConfigFolder:
    """A folder `config` below `root` with one file of each kind, all valid."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "config"
        self.write("orchestrator.yaml", MAIN)
        self.write("runners/cpu.yaml", RUNNER)
        self.write("pipelines/wine.yaml", PIPELINE)

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def load(self, environ: Mapping[str, str] = ENVIRON) -> LoadResult:
        return load(self.path, environ=environ)

    def problems(self, environ: Mapping[str, str] = ENVIRON) -> list[str]:
        """Each problem as people read it, with the file relative to the folder."""
        prefix = f"{self.path}/"
        return [str(problem).removeprefix(prefix) for problem in self.load(environ).problems]

    def problems_of_pipeline(self, text: str) -> list[str]:
        """The problems once the pipeline's file holds `text`, without the file's name."""
        self.write("pipelines/wine.yaml", text)
        return [problem.removeprefix("pipelines/wine.yaml:") for problem in self.problems()]

    def problems_with(self, lines: str) -> list[str]:
        """The problems once `lines` stand below a valid pipeline of three lines; they begin at line 4."""
        return self.problems_of_pipeline(PIPELINE + textwrap.dedent(lines))

    def problems_of_main(self, text: str, environ: Mapping[str, str] = ENVIRON) -> list[str]:
        """The problems once orchestrator.yaml holds `text`, without the file's name."""
        self.write("orchestrator.yaml", text)
        return [problem.removeprefix("orchestrator.yaml:") for problem in self.problems(environ)]
