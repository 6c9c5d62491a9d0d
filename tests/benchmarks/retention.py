"""Retention on a year of made-up history: what goes, what stays, how long it takes, and how much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.store import open_store
from orchestrator.store.engine import Database, parse_url
from tests.benchmarks.harness import Figures, Parameters
from tests.support.history import History, configure, inconsistencies, leftovers

_PROGRAM = """
import json, resource, sys, time
from orchestrator.cli.main import execute
began = time.perf_counter()
code = execute(sys.argv[1:])
sys.stdout.flush()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"code": code, "seconds": time.perf_counter() - began, "peak": peak}), file=sys.stderr)
"""


def measure(parameters: Parameters) -> Figures:
    """Seconds for each pass; the ratio is to plain removals of as many files. ``runs``: 20,000."""
    with tempfile.TemporaryDirectory() as made:
        return _measured(Path(made), parameters.number("runs", 20_000), parameters.given.get("database", ""))


def _measured(folder: Path, runs: int, given: str) -> Figures:
    state, url = folder / "var", given or f"sqlite:///{folder / 'var' / 'orchestrator.db'}"
    state.mkdir()
    open_store(url).close()
    database = Database(parse_url(url))
    began = time.perf_counter()
    history = History(database, state, datetime.now(UTC), runs).write()
    sys.stdout.write(f"\na year of {runs} runs, made in {time.perf_counter() - began:.0f} s\n")
    _table(history)
    configure(folder / "config", state, url)
    os.sync()
    samples: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    plans: dict[str, object] = {}
    for name, command in (("plan", "plan"), ("apply", "apply"), ("again", "apply")):
        plans[name], seconds, peaks[name] = _run(folder / "config", command)
        samples[name] = [seconds]
    samples["unlink"] = [_unlinked(folder / "plain", _number(plans["apply"], "removed", "files"))]
    for name, values in samples.items():
        memory = f", at most {peaks[name] / (1 << 20):.0f} MiB of memory" if name in peaks else ""
        sys.stdout.write(f"  {name:8} {values[0]:8.2f} s{memory}\n")
    _tell(plans["plan"])
    wrong, left = inconsistencies(database, state), leftovers(database, state)
    sys.stdout.write(f"rows without their file: {len(wrong)}; files without a row: {len(left)}\n")
    database.close()
    again = plans["again"]
    details = {
        "runs": runs,
        "history": history,
        "totals": _part(plans["plan"], "totals"),
        "removed": _part(plans["apply"], "removed"),
        "freed_bytes": _part(plans["apply"], "freed_bytes"),
        "removed_again": _part(again, "removed"),
        "peak_bytes": {name: int(peak) for name, peak in peaks.items()},
        "rows_without_file": len(wrong),
        "files_without_row": len(left),
    }
    return Figures({"apply": samples["apply"][0] / samples["unlink"][0]}, samples, details)


def _run(config: Path, command: str) -> tuple[object, float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "retention", command, "--json", "--config", str(config)],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stderr.strip().splitlines()[-1])
    if told["code"] != 0:
        raise RuntimeError(f"retention {command} ended with {told['code']}: {done.stderr}")
    return json.loads(done.stdout), told["seconds"], told["peak"]


def _unlinked(folder: Path, count: int) -> float:
    """Seconds to remove that many small files from 256 folders, one after the other, as plainly as can be."""
    for part in range(256):
        (folder / f"{part}").mkdir(parents=True)
    paths = [folder / f"{number % 256}" / f"{number}" for number in range(count)]
    for path in paths:
        path.write_bytes(b"x" * 2048)
    # What was never written to the disk is removed for nothing.
    os.sync()
    began = time.perf_counter()
    for path in paths:
        path.unlink()
    return time.perf_counter() - began


def _part(told: object, name: str) -> object:
    return told.get(name) if isinstance(told, dict) else None


def _number(told: object, part: str, name: str) -> int:
    found = _part(told, part)
    return int(found.get(name, 0)) if isinstance(found, dict) else 0


def _table(history: dict[str, int]) -> None:
    for name, count in history.items():
        sys.stdout.write(f"  {name:12} {count:12,}\n")


def _tell(plan: object) -> None:
    """What goes and what stays, by reason."""
    for part, verb, reason in (("going", "goes", "why"), ("staying", "stays", "because")):
        sums: dict[tuple[str, str], list[int]] = {}
        things = _part(plan, part)
        for thing in things if isinstance(things, list) else []:
            found = sums.setdefault((thing["kind"], thing[reason]), [0, 0])
            found[0] += 1
            found[1] += thing["bytes"]
        for (kind, why), (count, size) in sorted(sums.items(), key=lambda item: -item[1][0])[:20]:
            sys.stdout.write(f"  {verb:6} {kind:10} {count:8,} {size:14,} B  {why}\n")
