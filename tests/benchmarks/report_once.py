"""``python -m tests.benchmarks.report_once DATABASE RUN CACHE ROUNDS``: build and render one report.

Without rendering where CACHE, the folder of matplotlib's cache, is ``-``.

In a process of its own, so that nothing is loaded yet; what it found is JSON on standard output.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.adapters.drawing import ChartDrawer
from orchestrator.adapters.files.logs import FolderLogs
from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.change import LoggedCommit
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.services.report import ReportBuilder
from orchestrator.store import open_store


class _NoSources:
    """Git is left out: what it takes depends on the repository, and the number of commits told is bounded."""

    def logged(self, source: SourceSpec, older: str, newer: str, limit: int) -> Sequence[LoggedCommit]:
        return ()


class _Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def main(database: Path, run_id: int, cache: str, rounds: int) -> None:
    """Print the seconds of each step, first and again, and the most memory that each process had."""
    store = open_store(f"sqlite:///{database}")
    logs = FolderLogs(database.parent / "logs")
    reports = ReportBuilder(store, _NoSources(), logs, "https://ci.example.org", _Clock())  # type: ignore[arg-type]
    renderer = ReportRenderer(ChartDrawer(Path(cache)))
    loaded = _peak()
    build, render, built, size, drawn = [], [], 0, 0, 0
    for _ in range(rounds + 1):
        began = time.perf_counter()
        report = reports.build(store.runs.get(run_id), pictured=True)
        build.append(time.perf_counter() - began)
        built = built or _peak()
        if cache == "-":
            continue
        began = time.perf_counter()
        rendered = renderer.render(report)
        render.append(time.perf_counter() - began)
        size, drawn = len(rendered.html.encode()), len(rendered.images)
    store.close()
    told = {
        "build": build,
        "render": render,
        "html_bytes": size,
        "charts": drawn,
        "metrics": len(report.metrics),
        "loaded": loaded,
        "built": built,
        "rendered": _peak(),
        "drawing": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _peak() -> int:
    """Bytes: the most that this process has had. Unlike ``ru_maxrss`` it knows nothing of who started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
