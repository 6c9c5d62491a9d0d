"""What runs were measured with and compared with, and where baselines begin anew."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import and_, bindparam, case, delete, exists, func, select, update
from sqlalchemy.orm import aliased

from orchestrator.domain.baseline import Rebase
from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.errors import NotFound
from orchestrator.domain.run import AttemptState, Purpose, RunState
from orchestrator.ports.baselines import Frozen, Keys, Known, PastRun, Uses
from orchestrator.ports.hooks import Ruling
from orchestrator.store.engine import Database
from orchestrator.store.passed_runs import PassedRuns
from orchestrator.store.prepared import PreparedQuery
from orchestrator.store.tables import (
    AttemptRow,
    DecisionRow,
    DeploymentRow,
    MeasurementRow,
    RebaseRow,
    RunRow,
)
from orchestrator.store.transitions import changed, inserted, record
from orchestrator.store.uses import uses_of

_JUDGED = (RunState.PASSED, RunState.REJECTED, RunState.INCONCLUSIVE)
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_NEWEST = 2**31 - 1
_PAGES = 5
"""So many pages of runs are looked through for enough that had seeds of their own."""
# Every verdict needs it, so it is put together once.
_MINE, _MY_RUN = aliased(MeasurementRow), aliased(RunRow)
# The state is no condition: SQLite would look through all attempts that succeeded, for each of the runs.
_REPLICATES = (
    select(
        func.count(func.distinct(case((AttemptRow.state == AttemptState.SUCCEEDED, AttemptRow.replicate))))
    )
    .where(AttemptRow.run_id == RunRow.id)
    .correlate(RunRow)
    .scalar_subquery()
)
_REPLICATED = PreparedQuery(
    select(
        RunRow.id,
        MeasurementRow.recipe,
        RunRow.seed_run_id,
        and_(_MINE.recipe == MeasurementRow.recipe, _MY_RUN.seed_run_id == RunRow.seed_run_id).label("mine"),
    )
    .join(MeasurementRow, MeasurementRow.run_id == RunRow.id)
    .join(
        _MINE,
        and_(
            _MINE.pipeline == MeasurementRow.pipeline,
            _MINE.evaluation == MeasurementRow.evaluation,
            _MINE.metric_code == MeasurementRow.metric_code,
            _MINE.hardware == MeasurementRow.hardware,
        ),
    )
    .join(_MY_RUN, _MY_RUN.id == _MINE.run_id)
    .where(
        _MINE.run_id == bindparam("run_id"),
        _MINE.hardware != "",
        RunRow.id != bindparam("run_id"),
        RunRow.id < bindparam("below"),
        RunRow.state.in_(_JUDGED),
        RunRow.purpose != Purpose.REPRODUCE,
        RunRow.finished_at <= bindparam("until"),
        _REPLICATES > 1,
    )
    # As the index of measurements has them, so that no more are looked at than are wanted.
    .order_by(MeasurementRow.run_id.desc())
    .limit(bindparam("limit"))
)
_TRIES = PreparedQuery(
    select(RunRow.state)
    .join(MeasurementRow, MeasurementRow.run_id == RunRow.id)
    .join(
        _MINE,
        and_(
            _MINE.pipeline == MeasurementRow.pipeline,
            _MINE.evaluation == MeasurementRow.evaluation,
            _MINE.recipe == MeasurementRow.recipe,
        ),
    )
    .where(
        _MINE.run_id == bindparam("run_id"),
        RunRow.id != bindparam("run_id"),
        RunRow.state.in_(_JUDGED),
        RunRow.purpose == Purpose.TRAIN,
    )
)


class SqlBaselines:
    """Implements ``ports.baselines.Baselines``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._past = PassedRuns(database)

    def history(self, pipeline: str, metrics: Collection[str]) -> Sequence[PastRun]:
        return self._past.of(pipeline, metrics)

    def note(self, run_id: int, keys: Keys) -> None:
        values = {
            "evaluation": keys.evaluation,
            "metric_code": keys.metric_code,
            "hardware": keys.hardware,
            "recipe": keys.recipe,
        }
        with self._database.writing() as session:
            pipeline = session.scalar(select(RunRow.pipeline).where(RunRow.id == run_id))
            if pipeline is None:
                raise NotFound(f"there is no run {run_id}")
            mine = update(MeasurementRow).where(MeasurementRow.run_id == run_id)
            if not inserted(session, MeasurementRow(run_id=run_id, pipeline=pipeline, **values)):
                changed(session, mine.values(values))

    def keys(self, run_id: int) -> Keys | None:
        with self._database.reading() as session:
            row = session.get(MeasurementRow, run_id)
            return None if row is None else Keys(row.evaluation, row.metric_code, row.hardware, row.recipe)

    def known(self, pipeline: str, at: datetime) -> Known:
        mine = (RunRow.pipeline == pipeline, RunRow.state == RunState.PASSED, RunRow.finished_at <= at)
        later = exists().where(
            DecisionRow.run_id == RunRow.id,
            DecisionRow.decision == Ruling.DECIDED_PASS.value,
            DecisionRow.at > at,
        )
        active = (DeploymentRow.pipeline == pipeline, DeploymentRow.activated_at <= at)
        began = select(RebaseRow.run_id).where(RebaseRow.pipeline == pipeline, RebaseRow.at <= at)
        with self._database.reading() as session:
            return Known(
                frozenset(session.scalars(select(RunRow.id).where(*mine, ~later))),
                frozenset(session.scalars(select(DeploymentRow.run_id).where(*active))),
                session.scalar(began.order_by(RebaseRow.id.desc()).limit(1)) or 0,
            )

    def replicated(
        self, run_id: int, limit: int, compared: Collection[int] = (), until: datetime | None = None
    ) -> Sequence[int]:
        drawn = (
            select(RunRow.id, MeasurementRow.recipe, RunRow.seed_run_id)
            .join(MeasurementRow, MeasurementRow.run_id == RunRow.id)
            .where(RunRow.id.in_(compared))
        )
        found: list[int] = []
        with self._database.connected() as connection:
            standing: dict[tuple[str, int], list[int]] = {}
            for compared_id, recipe, seeds in connection.execute(drawn) if compared else ():
                standing.setdefault((recipe, seeds), []).append(compared_id)
            seen: set[tuple[str, int]] = set()
            below = _NEWEST
            for _ in range(_PAGES):
                values = {"run_id": run_id, "limit": limit, "below": below, "until": until or _NEVER}
                page = _REPLICATED.rows(connection, values)
                for past_id, recipe, seeds, mine in page:
                    below, draw = past_id, (recipe, seeds)
                    if mine or draw in seen or standing.get(draw, [past_id]) != [past_id]:
                        continue
                    seen.add(draw)
                    found.append(past_id)
                if len(page) < limit or len(found) >= limit:
                    break
        return found[:limit]

    def tries(self, run_id: int) -> tuple[int, int]:
        with self._database.connected() as connection:
            states = _TRIES.scalars(connection, {"run_id": run_id})
        return len(states), sum(state is not RunState.PASSED for state in states)

    def freeze(self, run_id: int, frozen: Frozen) -> None:
        mine = update(MeasurementRow).where(MeasurementRow.run_id == run_id)
        with self._database.writing() as session:
            if not changed(session, mine.values(compared=to_plain(frozen))):
                raise NotFound(f"nothing is known of how run {run_id} was measured")

    def frozen(self, run_id: int) -> Frozen | None:
        with self._database.reading() as session:
            told = session.scalar(select(MeasurementRow.compared).where(MeasurementRow.run_id == run_id))
            return None if told is None else from_plain(Frozen, told)

    def uses(self, fingerprint: str, run_id: int | None = None) -> Uses:
        with self._database.reading() as session:
            return uses_of(session, fingerprint, run_id)

    def rebase(self, pipeline: str, run_id: int, who: str, reason: str, at: datetime) -> None:
        with self._database.writing() as session:
            if session.scalar(select(RunRow.pipeline).where(RunRow.id == run_id)) != pipeline:
                raise NotFound(f"pipeline {pipeline} has no run {run_id}")
            session.add(RebaseRow(pipeline=pipeline, run_id=run_id, who=who, reason=reason, at=at))
            told = f"the baselines of {pipeline} begin anew with it: {reason}"
            record(session, at, who, f"run {run_id}", run_id, "", "", told)

    def undo_rebase(self, pipeline: str, who: str, reason: str, at: datetime) -> Rebase:
        newest = select(RebaseRow).where(RebaseRow.pipeline == pipeline).order_by(RebaseRow.id.desc())
        with self._database.writing() as session:
            row = session.scalars(newest.limit(1).with_for_update()).one_or_none()
            if row is None:
                raise NotFound(f"the baselines of {pipeline} were never begun anew")
            undone = Rebase(row.run_id, row.who, row.reason, row.at)
            changed(session, delete(RebaseRow).where(RebaseRow.id == row.id))
            told = f"the baselines of {pipeline} no longer begin with it"
            because = f"{told}: {reason}" if reason else told
            record(session, at, who, f"run {undone.run_id}", undone.run_id, "", "", because)
            return undone

    def rebased(self, pipeline: str) -> Rebase | None:
        newest = select(RebaseRow).where(RebaseRow.pipeline == pipeline).order_by(RebaseRow.id.desc())
        with self._database.reading() as session:
            row = session.scalars(newest.limit(1)).one_or_none()
            return None if row is None else Rebase(row.run_id, row.who, row.reason, row.at)
