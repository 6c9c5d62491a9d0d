"""What things cost beside something known, measured in turns in one run. Figures, no verdicts."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from orchestrator.adapters.files.logs import FolderLogs
from orchestrator.ports.engine import LogLine
from tests.support.git import GitRepository

ROUNDS = 7
LINES = 20_000
PROGRAM = "from orchestrator.cli.main import main; main()"


def medians(measures: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """The median of each measure, taken in turns, so that a busy machine is busy for all of them."""
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            taken[name].append(measure())
    return {name: statistics.median(values) for name, values in taken.items()}


def table(title: str, found: Mapping[str, float], unit: str, scale: float) -> None:
    """Print what was found, each with its ratio to the first."""
    first = next(iter(found.values()))
    sys.stdout.write(f"\n{title}\n")
    for name, value in found.items():
        sys.stdout.write(f"  {name:44} {value * scale:9.1f} {unit} {value / first:8.2f} x\n")


def cpu_of(*arguments: str, folder: Path) -> float:
    """Seconds of processor time that a command takes, its modules compiled as in any installation."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        capture_output=True,
        env={**kept, "ORCHESTRATOR_CONFIG": str(folder)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture
def folder(tmp_path: Path, git_repository: GitRepository) -> Path:
    """A configuration with one pipeline and one queued run."""
    git_repository.commit({"train.py": "print('hello')\n"}, "First model")
    made = tmp_path / "config"
    for name, text in {
        "orchestrator.yaml": f"hosts: {{desk: {{engine: 'unix://{tmp_path}/no.sock'}}}}\n",
        "runners/cpu.yaml": "runner: cpu\nimage: python:3.12-slim\n",
        "pipelines/wine.yaml": f"pipeline: wine\nsource: {{git: {git_repository.url}}}\n"
        "run: {runner: cpu, command: python train.py}\n",
    }.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    cpu_of("-c", PROGRAM, "run", "wine", "--no-wait", folder=made)
    cpu_of("-c", PROGRAM, "runs", "show", "1", folder=made)
    return made


def test_commands_beside_an_empty_program(folder: Path) -> None:
    commands = {
        "python -c pass": ("pass",),
        "orchestrator --help": (PROGRAM, "--help"),
        "orchestrator validate": (PROGRAM, "validate"),
        "orchestrator runs list": (PROGRAM, "runs", "list"),
        "orchestrator runs show": (PROGRAM, "runs", "show", "wine#1"),
    }
    found = medians(
        {name: partial(cpu_of, "-c", *arguments, folder=folder) for name, arguments in commands.items()}
    )
    table("processor time of a command", found, "ms", 1000)
    libraries = {
        "python -c pass": ("pass",),
        "import sqlalchemy.orm": ("import sqlalchemy.orm",),
        "import pydantic, a model": ("import pydantic\nclass A(pydantic.BaseModel): a: int",),
    }
    found = medians(
        {name: partial(cpu_of, "-c", *arguments, folder=folder) for name, arguments in libraries.items()}
    )
    table("of which libraries alone", found, "ms", 1000)


def test_log_lines_beside_plain_writes(tmp_path: Path) -> None:
    text = b"epoch 1  loss 0.1234  accuracy 0.9876  " + b"x" * 40
    stamp = "2026-01-01T00:00:00.%09dZ"
    lines = [LogLine(stamp % number, text) for number in range(LINES)]
    names = iter(range(1000))

    def buffered() -> float:
        began = time.perf_counter()
        with (tmp_path / f"{next(names)}.txt").open("wb") as file:
            for line in lines:
                file.write(line.timestamp.encode() + b" " + line.text + b"\n")
        return (time.perf_counter() - began) / LINES

    def unbuffered() -> float:
        began = time.perf_counter()
        with (tmp_path / f"{next(names)}.txt").open("wb", buffering=0) as file:
            for line in lines:
                file.write(line.timestamp.encode() + b" " + line.text + b"\n")
        return (time.perf_counter() - began) / LINES

    def ours() -> float:
        writer = FolderLogs(tmp_path / "logs").writer(next(names), lambda line: line)
        began = time.perf_counter()
        for line in lines:
            writer.write(line)
        writer.close()
        return (time.perf_counter() - began) / LINES

    found = medians(
        {"one write a line": unbuffered, "one write a block": buffered, "the log of an attempt": ours}
    )
    table("a line of log", found, "µs", 1e6)
