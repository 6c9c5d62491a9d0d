"""What every benchmark shares: measures taken in turns, tables for people, and the last line for machines."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Samples = dict[str, list[float]]
"""By measure: what each round took, in seconds unless the benchmark says otherwise."""


@dataclass(frozen=True)
class Parameters:
    """What the command line sets, as ``name=value``; every benchmark has a default for each of its own."""

    given: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str, default: int) -> int:
        """A whole number of at least 1. ValueError for anything else."""
        value = int(self.given.get(name, default))
        if value < 1:
            raise ValueError(f"{name}={value}: expected at least 1")
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """One of ``allowed``, the first unless it is set. ValueError for anything else."""
        value = self.given.get(name, allowed[0])
        if value not in allowed:
            raise ValueError(f"{name}={value}: expected one of {', '.join(allowed)}")
        return value


@dataclass(frozen=True)
class Figures:
    """What a benchmark found. ``ratios`` are its point; ``samples`` are what they were made of."""

    ratios: Mapping[str, float]
    samples: Mapping[str, Sequence[float]]
    details: Mapping[str, object] = field(default_factory=dict)

    def line(self, name: str) -> str:
        """The benchmark's last line."""
        return json.dumps(
            {
                "name": name,
                "ratios": {key: round(value, 3) for key, value in self.ratios.items()},
                "medians": {key: _short(statistics.median(v)) for key, v in self.samples.items()},
                "spread": {key: [_short(end) for end in spread(v)] for key, v in self.samples.items()},
                **self.details,
                "machine": machine(),
            }
        )


def in_turns(measures: Mapping[str, Callable[[], float]], rounds: int) -> Samples:
    """Take the measures in turns, so that a busy machine is busy for all of them."""
    taken: Samples = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            taken[name].append(measure())
    return taken


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The quartiles; of fewer than four values the ends."""
    if len(values) < 4:
        return min(values), max(values)
    quartiles = statistics.quantiles(values, n=4)
    return quartiles[0], quartiles[2]


def table(title: str, samples: Mapping[str, Sequence[float]], unit: str, scale: float) -> None:
    """Print medians with their spread, each with its ratio to the first."""
    first = statistics.median(next(iter(samples.values())))
    sys.stdout.write(f"\n{title}\n")
    for name, values in samples.items():
        middle, (low, high) = statistics.median(values), spread(values)
        sys.stdout.write(
            f"  {name:40} {middle * scale:9.1f} {unit}"
            f"  ({low * scale:.1f} to {high * scale:.1f})  {middle / first:6.2f} x\n"
        )
    sys.stdout.flush()


def ratios_to_first(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Each median over that of the first measure, which is left out."""
    (_, first), *others = samples.items()
    base = statistics.median(first)
    return {name: statistics.median(values) / base for name, values in others}


def machine() -> dict[str, object]:
    """Where the figures were taken."""
    model = ""
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        lines = (line.partition(":") for line in cpus.read_text().splitlines())
        model = next((value.strip() for key, _, value in lines if key.strip() == "model name"), "")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")
