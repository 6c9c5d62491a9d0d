"""The runs of pipelines that passed, each read once: every verdict chooses among all of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import and_, bindparam, exists, func, or_, select
from sqlalchemy.orm import aliased

from orchestrator.domain.change import DatasetVersion
from orchestrator.domain.codec import from_plain
from orchestrator.domain.metrics import Metric
from orchestrator.domain.run import AttemptState, RunState
from orchestrator.ports.baselines import PastRun
from orchestrator.store.engine import Database
from orchestrator.store.prepared import PreparedQuery
from orchestrator.store.tables import AttemptRow, ChangeRow, MeasurementRow, MetricRow, RunRow

MOST_KEPT: Final = 50_000
"""So many runs are kept in memory, of the pipelines that were asked for last."""
_TOGETHER: Final = 500
"""So many are read at a time: databases bound how many values a statement may have."""
_PASSED = PreparedQuery(
    select(RunRow.id)
    .where(RunRow.pipeline == bindparam("pipeline"), RunRow.state == RunState.PASSED)
    .order_by(RunRow.id)
)


class PassedRuns:
    """Thread-safe. A run that passed stays as it is until it is removed, so its ids alone are asked for anew:
    an index holds them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, frozenset[str]], dict[int, PastRun]] = OrderedDict()

    def of(self, pipeline: str, metrics: Collection[str]) -> Sequence[PastRun]:
        """The PASSED runs of a pipeline, oldest first, with these metrics."""
        wanted = pipeline, frozenset(metrics)
        with self._lock:
            there = self._kept.get(wanted, {})
        with self._database.connected() as connection:
            ids = _PASSED.scalars(connection, {"pipeline": pipeline})
        missing = [run_id for run_id in ids if run_id not in there]
        read = {
            run.id: run
            for start in range(0, len(missing), _TOGETHER)
            for run in self._read(pipeline, wanted[1], missing[start : start + _TOGETHER])
        }
        found = [run for run_id in ids if (run := there.get(run_id) or read.get(run_id)) is not None]
        # What it is made of is written down a little later for runs of older releases.
        self._keep(wanted, {run.id: run for run in found if run.recipe})
        return found

    def _keep(self, wanted: tuple[str, frozenset[str]], runs: dict[int, PastRun]) -> None:
        with self._lock:
            self._kept[wanted] = runs
            self._kept.move_to_end(wanted)
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > MOST_KEPT:
                self._kept.popitem(last=False)

    def _read(self, pipeline: str, metrics: Collection[str], ids: Sequence[int]) -> list[PastRun]:
        mine = RunRow.id.in_(ids)
        newer, sound = aliased(AttemptRow), aliased(AttemptRow)
        latest = ~exists().where(
            newer.run_id == AttemptRow.run_id,
            newer.replicate == AttemptRow.replicate,
            newer.number > AttemptRow.number,
        )
        counts = or_(
            AttemptRow.state == AttemptState.SUCCEEDED,
            ~exists().where(sound.run_id == AttemptRow.run_id, sound.state == AttemptState.SUCCEEDED),
        )
        with self._database.connected() as connection:
            values: dict[int, dict[int, list[Metric]]] = {}
            rows = connection.execute(
                select(AttemptRow.run_id, AttemptRow.replicate, MetricRow.name, MetricRow.value)
                .join(RunRow, RunRow.id == AttemptRow.run_id)
                .outerjoin(
                    MetricRow, and_(MetricRow.attempt_id == AttemptRow.id, MetricRow.name.in_(metrics))
                )
                .where(mine, latest, counts)
                .order_by(AttemptRow.run_id, AttemptRow.replicate, MetricRow.id)
            )
            for run_id, replicate, name, value in rows:
                found = values.setdefault(run_id, {}).setdefault(replicate, [])
                if name is not None:
                    found.append(Metric(name, value, "", ""))
            runs = connection.execute(
                select(
                    RunRow.id,
                    RunRow.number,
                    RunRow.purpose,
                    ChangeRow.cause,
                    ChangeRow.branch,
                    ChangeRow.revision,
                    ChangeRow.datasets,
                    RunRow.rerun_of,
                    ChangeRow.rank,
                    func.coalesce(MeasurementRow.recipe, ""),
                    RunRow.seed_run_id,
                )
                .join(ChangeRow, ChangeRow.id == RunRow.change_id)
                .outerjoin(MeasurementRow, MeasurementRow.run_id == RunRow.id)
                .where(mine)
                .order_by(RunRow.id)
            )
            return [
                PastRun(
                    run_id,
                    f"{pipeline} #{number}",
                    purpose,
                    cause,
                    branch,
                    str(revision["commit"]),
                    tuple(from_plain(DatasetVersion, version) for version in datasets),
                    rerun_of,
                    values.get(run_id, {}),
                    rank,
                    recipe,
                    seeds,
                )
                for (
                    run_id,
                    number,
                    purpose,
                    cause,
                    branch,
                    revision,
                    datasets,
                    rerun_of,
                    rank,
                    recipe,
                    seeds,
                ) in runs
            ]
