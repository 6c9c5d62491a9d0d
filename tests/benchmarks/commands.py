"""Processor time of commands, beside that of an empty program and of the libraries alone."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.benchmarks.harness import Figures, Parameters, in_turns, ratios_to_first, table
from tests.support.git import GitRepository

PROGRAM = "from orchestrator.cli.main import main; main()"
PROGRAMS = {
    "empty": ("pass",),
    "help": (PROGRAM, "--help"),
    "validate": (PROGRAM, "validate"),
    "runs_list": (PROGRAM, "runs", "list"),
    "runs_show": (PROGRAM, "runs", "show", "wine#1"),
    "only_sqlalchemy": ("import sqlalchemy.orm",),
    "only_pydantic": ("import pydantic\nclass A(pydantic.BaseModel): a: int",),
}


def measure(parameters: Parameters) -> Figures:
    """Seconds of processor time; ratios to the empty program. ``rounds``: 7."""
    with tempfile.TemporaryDirectory() as folder:
        config = _configured(Path(folder))
        measures = {name: partial(_cpu, config, *arguments) for name, arguments in PROGRAMS.items()}
        samples = in_turns(measures, parameters.number("rounds", 7))
    table("processor time of a command", samples, "ms", 1000)
    return Figures(ratios_to_first(samples), samples)


def _cpu(config: Path, *arguments: str) -> float:
    """Seconds of processor time that a command takes, its modules compiled as in any installation."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", *arguments],
        check=True,
        capture_output=True,
        env={**kept, "ORCHESTRATOR_CONFIG": str(config)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _configured(folder: Path) -> Path:
    """A configuration with one pipeline and one queued run."""
    repository = GitRepository.create(folder)
    repository.commit({"train.py": "print('hello')\n"}, "First model")
    made = folder / "config"
    for name, text in {
        "orchestrator.yaml": f"hosts: {{desk: {{engine: 'unix://{folder}/no.sock'}}}}\n",
        "runners/cpu.yaml": "runner: cpu\nimage: python:3.12-slim\n",
        "pipelines/wine.yaml": f"pipeline: wine\nsource: {{git: {repository.url}, settle: 0s}}\n"
        "run: {runner: cpu, command: python train.py}\n",
    }.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    _cpu(made, PROGRAM, "run", "wine", "--no-wait")
    _cpu(made, PROGRAM, "runs", "show", "1")
    return made
