"""Which times and which upstream runs were served, and how serving one is written down with its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, String, cast, delete, func, literal, select, update
from sqlalchemy.orm import Session

from orchestrator.domain.run import RunState
from orchestrator.ports.records import ScheduleMove, UpstreamMove, UpstreamRun
from orchestrator.store.engine import Database
from orchestrator.store.tables import ChangeRow, RunRow, ScheduleRow, UpstreamRow
from orchestrator.store.transitions import Once, TooLate, changed

_SCHEDULE = Once(ScheduleRow)
_UPSTREAM = Once(UpstreamRow)
_UNFINISHED = tuple(state for state in RunState if not state.final)


class SqlOccasions:
    """Implements ``ports.watches.Occasions``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def served(self, pipeline: str) -> Mapping[str, datetime]:
        with self._database.reading() as session:
            rows = select(ScheduleRow.schedule, ScheduleRow.served).where(ScheduleRow.pipeline == pipeline)
            return dict(session.execute(rows).all())

    def begin(self, pipeline: str, schedule: str, at: datetime) -> None:
        with self._database.writing() as session:
            _SCHEDULE.add(session, {"pipeline": pipeline, "schedule": schedule, "served": at})

    def mark(self, pipeline: str, upstream: str) -> int:
        here = select(UpstreamRow.run_id).where(*_mark(pipeline, upstream))
        with self._database.reading() as session:
            known = session.scalar(here)
        if known is not None:
            return known
        with self._database.writing() as session:
            mine = RunRow.pipeline == upstream
            first = session.scalar(select(func.min(RunRow.id)).where(mine, RunRow.state.in_(_UNFINISHED)))
            last = session.scalar(select(func.max(RunRow.id)).where(mine)) or 0
            start = last if first is None else first - 1
            _UPSTREAM.add(session, {"pipeline": pipeline, "upstream": upstream, "run_id": start})
            return session.scalars(here).one()

    def move_mark(self, pipeline: str, upstream: str, run_id: int) -> None:
        guarded = update(UpstreamRow).where(*_mark(pipeline, upstream), UpstreamRow.run_id < run_id)
        with self._database.writing() as session:
            if changed(session, guarded.values(run_id=run_id)):
                below = (*_served(pipeline, upstream), UpstreamRow.run_id <= run_id)
                changed(session, delete(UpstreamRow).where(*below))

    def runs_above(self, upstream: str, mark: int) -> Sequence[UpstreamRun]:
        wanted = (
            select(RunRow.id, RunRow.number, RunRow.state, RunRow.purpose, ChangeRow.branch)
            .join(ChangeRow, ChangeRow.id == RunRow.change_id)
            .where(RunRow.pipeline == upstream, RunRow.id > mark)
            .order_by(RunRow.id)
        )
        with self._database.reading() as session:
            return [UpstreamRun(*row) for row in session.execute(wanted)]

    def followed(self, pipeline: str, upstream: str, mark: int) -> frozenset[int]:
        wanted = select(UpstreamRow.run_id).where(*_served(pipeline, upstream), UpstreamRow.run_id > mark)
        with self._database.reading() as session:
            return frozenset(session.scalars(wanted))


def serve_time(session: Session, pipeline: str, move: ScheduleMove) -> str:
    """Write down that a time is served, and return the change's key; TooLate when another was faster."""
    here = (ScheduleRow.pipeline == pipeline, ScheduleRow.schedule == move.schedule)
    served = update(ScheduleRow).where(*here, ScheduleRow.served == move.before).values(served=move.at)
    first = {"pipeline": pipeline, "schedule": move.schedule, "served": move.at}
    if not (_SCHEDULE.add(session, first) if move.before is None else changed(session, served)):
        raise TooLate
    return f"schedule {move.schedule}@{move.at:%Y-%m-%dT%H:%M}"


def follow_run(session: Session, pipeline: str, move: UpstreamMove) -> str:
    """Write down that an upstream run is served, with a run or without, and return the change's key; TooLate
    when it was already.
    """
    mark = (*_mark(pipeline, move.upstream), UpstreamRow.run_id < move.run_id)
    # Writing the row as it is keeps others from the same question until this transaction ends.
    if not changed(session, update(UpstreamRow).where(*mark).values(run_id=UpstreamRow.run_id)):
        raise TooLate
    name = f"{move.upstream}#{move.run_id}"
    if not _UPSTREAM.add(session, {"pipeline": pipeline, "upstream": name, "run_id": move.run_id}):
        raise TooLate
    return f"after {name}"


def _mark(pipeline: str, upstream: str) -> tuple[ColumnElement[bool], ...]:
    return (UpstreamRow.pipeline == pipeline, UpstreamRow.upstream == upstream)


def _served(pipeline: str, upstream: str) -> tuple[ColumnElement[bool], ...]:
    """The rows of single runs of an upstream pipeline. No pipeline's name has such a sign."""
    name = literal(f"{upstream}#").concat(cast(UpstreamRow.run_id, String))
    return (UpstreamRow.pipeline == pipeline, UpstreamRow.upstream == name)
