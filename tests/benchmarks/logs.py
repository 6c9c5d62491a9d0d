"""The log of an attempt, line by line, beside plain writes of the same bytes."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

from orchestrator.adapters.files.logs import FolderLogs
from orchestrator.observe import LogMask, Masker
from orchestrator.ports.engine import LogLine
from tests.benchmarks.harness import Figures, Parameters, in_turns, ratios_to_first, table


def measure(parameters: Parameters) -> Figures:
    """Seconds for a line; ratios to one system call for each line. ``rounds``: 7, ``lines``: 20,000."""
    count = parameters.number("lines", 20_000)
    text = b"epoch 1  loss 0.1234  accuracy 0.9876  " + b"x" * 40
    lines = [LogLine(f"2026-01-01T00:00:00.{number:09d}Z", text) for number in range(count)]
    names = itertools.count()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)

        def plain(buffering: int) -> float:
            began = time.perf_counter()
            with (folder / f"{next(names)}.txt").open("wb", buffering=buffering) as file:
                for line in lines:
                    file.write(line.timestamp.encode() + b" " + line.text + b"\n")
            return (time.perf_counter() - began) / count

        def ours() -> float:
            writer = FolderLogs(folder / "logs").writer(next(names), LogMask(Masker()))
            began = time.perf_counter()
            for line in lines:
                writer.write(line)
            writer.close()
            return (time.perf_counter() - began) / count

        samples = in_turns(
            {"unbuffered": lambda: plain(0), "buffered": lambda: plain(-1), "attempt_log": ours},
            parameters.number("rounds", 7),
        )
    table("a line of log", samples, "µs", 1e6)
    return Figures(ratios_to_first(samples), samples)
