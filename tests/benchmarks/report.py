"""Reports with pictures: time, memory and size, and how they grow with the history of a pipeline.

Beside it: matplotlib alone in a process of its own, which loads and saves as many empty charts.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert, select, update

from orchestrator.domain.change import Cause, Revision
from orchestrator.domain.collected import Series
from orchestrator.domain.curves import KeptSeries, facts_of
from orchestrator.domain.gate import CheckResult, Outcome, Verdict
from orchestrator.domain.metrics import Metric
from orchestrator.domain.run import AttemptState, Reason, Run, RunState
from orchestrator.ports.records import AttemptResult, NewRun
from orchestrator.store import SqlStore, open_store
from orchestrator.store.engine import Database, parse_url
from orchestrator.store.tables import AttemptRow, Base, ChangeRow, MetricRow, PipelineRow, RunRow
from tests.benchmarks.harness import Figures, Parameters, in_turns
from tests.support.history import pipeline

_NAME: Final = "wine"
_AT: Final = datetime(2026, 11, 1, tzinfo=UTC)
_METRICS, _MANY, _CHARTS, _POINTS = 50, 500, 3, 1_000
_SMALL, _USUAL, _LARGE = 10, 1_000, 10_000
_CHUNK: Final = 500
_WARM: Final = 3
_DRAWN: Final = {
    "compared_10": (_SMALL, "compared"),
    "compared_1000": (_USUAL, "compared"),
    "compared_10000": (_LARGE, "compared"),
    "500_metrics": (_USUAL, "many"),
}
"""Cases that are rendered, too: the history, and the run of it."""
_BUILT: Final = {
    "limits_10": (_SMALL, "limits"),
    "limits_10000": (_LARGE, "limits"),
    "new_branch_10": (_SMALL, "new_branch"),
    "new_branch_10000": (_LARGE, "new_branch"),
}
"""Cases of which only building can grow: nothing to be compared with, and a branch without history."""
_BARE: Final = f"""
import io
from matplotlib.figure import Figure
for _ in range({2 * _CHARTS}):
    figure = Figure(figsize=(5.75, 2.3), dpi=96, layout="constrained")
    figure.add_subplot()
    figure.savefig(io.BytesIO(), format="png", dpi=192)
"""
Told = dict[str, Any]
"""What ``report_once`` printed."""


def measure(parameters: Parameters) -> Figures:
    """Seconds and bytes for a run with 50 metrics and six charts. ``rounds``: 3."""
    with tempfile.TemporaryDirectory() as made:
        return _measured(Path(made), parameters.number("rounds", 3))


def _measured(folder: Path, rounds: int) -> Figures:
    runs = {size: _history(folder / f"{size}", size) for size in (_SMALL, _USUAL, _LARGE)}
    warm = folder / "matplotlib"
    _bare(warm)
    found: dict[str, list[Told]] = {}

    def once(name: str, size: int, kind: str, cache: Callable[[], str]) -> float:
        began = time.perf_counter()
        command = (folder / f"{size}" / "store.db", runs[size][kind], cache(), _WARM)
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.report_once", *map(str, command)],
            capture_output=True,
            text=True,
            check=True,
        )
        took = time.perf_counter() - began
        found.setdefault(name, []).append(json.loads(done.stdout))
        return took

    processes = in_turns(
        {
            "bare": partial(_bare, warm),
            "empty_cache": partial(
                once, "empty_cache", _USUAL, "compared", partial(tempfile.mkdtemp, dir=folder)
            ),
            **{name: partial(once, name, *case, lambda: str(warm)) for name, case in _DRAWN.items()},
            **{name: partial(once, name, *case, lambda: "-") for name, case in _BUILT.items()},
        },
        rounds,
    )
    samples = {"bare_matplotlib": processes["bare"]}
    for name, told in found.items():
        samples[f"process.{name}"] = processes[name]
        for step in ("build", "render"):
            if told[0][step]:
                samples[f"{step}_cold.{name}"] = [each[step][0] for each in told]
                samples[f"{step}.{name}"] = [statistics.median(each[step][1:]) for each in told]
    peaks = {
        name: {key: int(statistics.median(each[key] for each in told)) for key in _PEAKS}
        for name, told in found.items()
    }
    _tell(samples, peaks)
    usual, many = found["compared_1000"][0], found["500_metrics"][0]
    details = {
        "html_bytes": usual["html_bytes"],
        "html_bytes_500_metrics": many["html_bytes"],
        "charts": usual["charts"],
        "metrics": usual["metrics"],
        "peak_bytes": peaks,
    }
    return Figures(_ratios(samples, peaks), samples, details)


_PEAKS: Final = ("loaded", "built", "rendered", "drawing")
"""The most memory of this process once all was loaded, after the first building and at the end; and of the
process that draws.
"""


def _ratios(
    samples: Mapping[str, Sequence[float]], peaks: Mapping[str, Mapping[str, int]]
) -> dict[str, float]:
    middle = {name: statistics.median(values) for name, values in samples.items()}
    both = {
        size: middle[f"build.compared_{size}"] + middle[f"render.compared_{size}"]
        for size in (_SMALL, _LARGE)
    }
    ratios = {
        "render_vs_bare_matplotlib": middle["render.compared_1000"] / middle["bare_matplotlib"],
        "growth_10_to_10000": both[_LARGE] / both[_SMALL],
    }
    for kind in ("compared", "limits", "new_branch"):
        small, large = f"{kind}_{_SMALL}", f"{kind}_{_LARGE}"
        ratios[f"build_growth_10_to_10000.{kind}"] = middle[f"build.{large}"] / middle[f"build.{small}"]
        ratios[f"memory_growth_10_to_10000.{kind}"] = peaks[large]["rendered"] / peaks[small]["rendered"]
    return ratios


def _tell(samples: Mapping[str, Sequence[float]], peaks: Mapping[str, Mapping[str, int]]) -> None:
    sys.stdout.write("\nseconds\n")
    for name, values in samples.items():
        sys.stdout.write(f"  {name:32} {statistics.median(values):8.4f}\n")
    sys.stdout.write(f"\nmost memory, MiB{'':20}{''.join(f'{key:>10}' for key in _PEAKS)}\n")
    for name, by_key in peaks.items():
        sys.stdout.write(f"  {name:32}  {''.join(f'{by_key[key] >> 20:10}' for key in _PEAKS)}\n")


def _bare(cache: Path) -> float:
    environment = {"PATH": os.defpath, "MPLCONFIGDIR": str(cache), "OPENBLAS_NUM_THREADS": "1"}
    cache.mkdir(exist_ok=True)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", _BARE], check=True, env=environment)
    return time.perf_counter() - began


def _history(folder: Path, size: int) -> dict[str, int]:
    """A store with so many runs that passed, and after them one of each kind, by its name."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'store.db'}"
    store = open_store(url)
    first = _passed(store, "main", _METRICS, None)
    database = Database(parse_url(url))
    _repeat(database, first.id, size)
    database.close()
    last = store.runs.get(size)
    runs = {
        "compared": _passed(store, "main", _METRICS, last).id,
        "limits": _passed(store, "main", _METRICS, None).id,
        "many": _passed(store, "main", _MANY, last).id,
        "new_branch": _passed(store, "fix/typo", _METRICS, None).id,
    }
    store.close()
    return runs


def _passed(store: SqlStore, branch: str, metrics: int, baseline: Run | None) -> Run:
    """A run that went all the way, with series, judged by three checks."""
    frozen = pipeline(_NAME)
    revision = Revision("code", branch, f"{metrics:040x}", "Use fewer trees", "Ann", "ann@example.org", _AT)
    run = store.runs.enqueue(NewRun(frozen, Cause.PUSH, revision, ()), (), _NAME, _AT)
    if run is None:
        raise RuntimeError("a run could not be enqueued")
    (attempt,) = store.attempts.of_run(run.id)
    lease = store.attempts.claim(attempt.id, "local", 1, f"c-{attempt.id}", "benchmark", _AT, 60)
    if lease is None:
        raise RuntimeError(f"attempt {attempt.id} could not be claimed")
    store.attempts.advance(lease, AttemptState.PREPARING, AttemptState.RUNNING, _AT)
    store.attempts.advance(lease, AttemptState.RUNNING, AttemptState.COLLECTING, _AT)
    steps = array("d", range(_POINTS))
    series = [
        Series(f"valid/loss_{number}", steps, array("d", (1 / (1 + number + step) for step in steps)))
        for number in range(_CHARTS)
    ]
    result = AttemptResult(
        AttemptState.SUCCEEDED,
        Reason.COMPLETED,
        metrics=tuple(
            Metric(_metric(number), math.sin(number + run.id), "metrics.json", "json")
            for number in range(metrics)
        ),
        series=tuple(KeptSeries(facts_of(each), each) for each in series),
    )
    store.attempts.finish(lease, AttemptState.COLLECTING, result, _AT)
    store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, _AT)
    verdict = Verdict(Outcome.PASS, "all checks hold", tuple(_check(n, baseline) for n in range(_CHARTS)))
    return store.runs.move(
        run.id, RunState.EVALUATING, RunState.PASSED, _AT + timedelta(minutes=5), verdict=verdict
    )


def _metric(number: int) -> str:
    return f"valid/slice_{number // 10}/accuracy_{number}"


def _check(number: int, baseline: Run | None) -> CheckResult:
    metric = _metric(number)
    if baseline is None:
        return CheckResult(f"{metric} >= 0.5", metric, Outcome.PASS, f"{metric} is 0.9, at least 0.5", 0.9)
    return CheckResult(
        f"{metric} not worse than previous by 1pp",
        metric,
        Outcome.PASS,
        f"{metric} is 0.9, 0.1 above the baseline",
        0.9,
        difference=0.1,
        baseline_run=baseline.id,
        baseline_title=baseline.title,
        noise_sd=0.01,
    )


def _repeat(database: Database, run_id: int, size: int) -> None:
    """The rows of a run over and over, until there are so many."""
    with database.reading() as session:
        rows: dict[type[Base], list[dict[str, Any]]] = {
            table: [dict(row) for row in session.execute(select(table.__table__)).mappings()]
            for table in (ChangeRow, RunRow, AttemptRow, MetricRow)
        }
    for start in range(run_id + 1, size + 1, _CHUNK):
        made: dict[type[Base], list[dict[str, Any]]] = {table: [] for table in rows}
        for number in range(start, min(start + _CHUNK, size + 1)):
            again: dict[str, object] = {
                "id": number,
                "run_id": number,
                "change_id": number,
                "attempt_id": number,
            }
            again |= {
                "attempt_id": number,
                "number": number,
                "key": f"head {number}",
                "rank": number,
                "seed_run_id": number,
            }
            for table, originals in rows.items():
                for original in originals:
                    values = {k: again.get(k, v) if k != "id" else v for k, v in original.items()}
                    made[table].append(_counted(table, values, number))
        with database.writing() as session:
            for table, copies in made.items():
                session.execute(insert(table), copies)
    with database.writing() as session:
        session.execute(update(PipelineRow).values(last_number=size))


def _counted(table: type[Base], values: dict[str, Any], number: int) -> dict[str, Any]:
    """The row with an id of its own, and an attempt as the first of its run."""
    values.pop("id")
    if table is MetricRow:
        return {**values, "value": math.sin(number + len(values["name"]))}
    return {**values, "id": number, **({"number": 1} if table is AttemptRow else {})}
