"""Series, parameters, plots, and what files say of metrics, as the database gives them back."""

from __future__ import annotations

import math
from array import array
from datetime import timedelta

import pytest

from orchestrator.domain.collected import Param, Plot, PlotKind, Series
from orchestrator.domain.curves import KeptSeries, facts_of, kept_series
from orchestrator.domain.errors import NotFound
from orchestrator.domain.metrics import Direction, Metric
from orchestrator.domain.retention import Going, Kind
from orchestrator.domain.run import AttemptState, Reason, RunState
from orchestrator.ports.records import AttemptResult
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database
from tests.unit.store.support import AT, all_rows, claimed, succeed


def curve(name: str, values: list[float], timestamps: list[float] | None = None) -> Series:
    steps = array("d", (float(n * 10) for n in range(len(values))))
    return Series(name, steps, array("d", values), array("d", timestamps or []), "metrics.csv", "csv")


def left(store: SqlStore, result: AttemptResult) -> int:
    lease = claimed(store)
    succeed(store, lease, result)
    return lease.id


def test_a_series_comes_back_point_by_point(store: SqlStore) -> None:
    timed = curve("loss", [1.5, -math.inf, 0.25], [1e9, 1e9 + 0.5, 1e9 + 1])
    plain = curve("accuracy", [0.5, 0.75])
    series = tuple(KeptSeries(facts_of(each), each) for each in (timed, plain))
    attempt = left(store, AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, series=series))
    assert [facts.name for facts in store.findings.series_facts(attempt)] == ["accuracy", "loss"]
    assert store.findings.series(attempt, "loss") == timed
    assert store.findings.series(attempt, "accuracy") == plain
    with pytest.raises(NotFound, match="no series f1"):
        store.findings.series(attempt, "f1")


def test_not_a_number_in_a_series_stays_so(store: SqlStore) -> None:
    broken = curve("loss", [math.nan, math.nan])
    series = (KeptSeries(facts_of(broken), broken),)
    attempt = left(store, AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, series=series))
    (facts,) = store.findings.series_facts(attempt)
    assert [math.isnan(value) for value in (facts.least, facts.most, facts.last)] == [True] * 3
    assert all(map(math.isnan, store.findings.series(attempt, "loss").values))


def test_a_thinned_series_says_how_many_points_there_were(store: SqlStore) -> None:
    long = kept_series(curve("loss", [float(n % 7) for n in range(2_000)]), 100)
    attempt = left(store, AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, series=(long,)))
    (facts,) = store.findings.series_facts(attempt)
    assert facts.points == 2_000
    assert facts.kept == len(store.findings.series(attempt, "loss").values) <= 100


def test_parameters_and_plots_come_back(store: SqlStore) -> None:
    params = (Param("lr", "0.1", "params.yaml", "dvclive"), Param("epochs", "3"))
    plots = (
        Plot("roc.json", PlotKind.CURVE, "ROC", {"x": "fpr"}, "dvc.yaml", "dvc.yaml"),
        Plot("a.png", PlotKind.IMAGE),
    )
    result = AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, params=params, plots=plots)
    attempt = left(store, result)
    assert list(store.findings.params(attempt)) == [params[1], params[0]]
    assert list(store.findings.plots(attempt)) == list(plots)


def test_what_a_file_says_of_a_metric_is_kept(store: SqlStore) -> None:
    metrics = (
        Metric("acc", 0.9, "results.json", "lm-eval", 0, 1.7e9, 0.01, Direction.HIGHER, "points"),
        Metric("loss", math.nan, "m.json", "json", stderr=math.nan),
        Metric("plain", 1.0, "m.json", "json"),
    )
    lease = claimed(store)
    attempt = succeed(store, lease, AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=metrics))
    first, second, third = store.runs.metrics(attempt.run_id)[0]
    assert (first, third) == (metrics[0], metrics[2])
    assert math.isnan(second.value)
    assert second.stderr is not None
    assert math.isnan(second.stderr)


def test_a_removed_run_leaves_none_of_it(store: SqlStore, database: Database) -> None:
    made = kept_series(curve("loss", [1.0, 2.0]), 10)
    lease = claimed(store)
    result = AttemptResult(
        AttemptState.SUCCEEDED,
        Reason.COMPLETED,
        series=(made,),
        params=(Param("lr", "0.1"),),
        plots=(Plot("a.png", PlotKind.IMAGE),),
    )
    succeed(store, lease, result)
    assert all(len(all_rows(database)[table]) == 1 for table in ("series", "params", "plots"))
    run_id = store.attempts.get(lease.id).run_id
    store.runs.move(run_id, RunState.RUNNING, RunState.EVALUATING, AT)
    store.runs.move(run_id, RunState.EVALUATING, RunState.PASSED, AT)
    going = [Going(Kind.RUNS, run_id, f"run {run_id}", "old")]
    store.retention.remove_runs(going, "retention", AT + timedelta(days=1))
    assert all(all_rows(database)[table] == [] for table in ("series", "params", "plots"))
