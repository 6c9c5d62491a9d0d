"""What waits, and what hosts are taken by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import bindparam, case, or_, select

from orchestrator.domain.placement import Going
from orchestrator.domain.run import AttemptState, RunState
from orchestrator.ports.queue import Taken, Waiting, WaitingAttempt
from orchestrator.store.engine import Database
from orchestrator.store.prepared import PreparedQuery
from orchestrator.store.tables import AttemptRow, RunRow, SlotRow, StagedRow

# Every turn of the server makes these, so they are put together once.
_WAITING = PreparedQuery(
    select(AttemptRow.id, AttemptRow.run_id, case((RunRow.state == RunState.RUNNING, 1), else_=0))
    .join(RunRow, RunRow.id == AttemptRow.run_id)
    .where(
        AttemptRow.state == AttemptState.QUEUED,
        RunRow.state.in_((RunState.QUEUED, RunState.RUNNING)),
        or_(AttemptRow.not_before.is_(None), AttemptRow.not_before <= bindparam("at")),
    )
    .order_by(AttemptRow.id)
)
_DESCRIBED = (
    select(
        AttemptRow.id,
        AttemptRow.run_id,
        AttemptRow.replicate,
        AttemptRow.number,
        AttemptRow.created_at,
        RunRow.pipeline,
        RunRow.number,
        RunRow.project,
        RunRow.priority,
        RunRow.host_wish,
    )
    .join(RunRow, RunRow.id == AttemptRow.run_id)
    .where(AttemptRow.id.in_(bindparam("ids", expanding=True)))
)
_AT_ONCE = 500
"""Ids in one statement: databases have their limits."""
_TAKEN = PreparedQuery(
    select(SlotRow.host, RunRow.pipeline, SlotRow.cpus, SlotRow.memory, RunRow.number)
    .join(AttemptRow, AttemptRow.id == SlotRow.attempt_id)
    .join(RunRow, RunRow.id == AttemptRow.run_id)
)
_GOING = (
    select(RunRow.id, RunRow.pipeline, RunRow.number, RunRow.project)
    .where(RunRow.state == RunState.RUNNING)
    .order_by(RunRow.id)
)


class SqlQueue:
    """Implements ``ports.queue.Queue``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self, at: datetime) -> Sequence[Waiting]:
        with self._database.connected() as connection:
            rows = _WAITING.rows(connection, {"at": at})
            return [Waiting(attempt_id, run_id, begun == 1) for attempt_id, run_id, begun in rows]

    def describe(self, attempt_ids: Sequence[int]) -> Sequence[WaitingAttempt]:
        found: list[WaitingAttempt] = []
        with self._database.connected() as connection:
            for first in range(0, len(attempt_ids), _AT_ONCE):
                some = list(attempt_ids[first : first + _AT_ONCE])
                rows = connection.execute(_DESCRIBED, {"ids": some})
                found += [WaitingAttempt(*row[:10]) for row in rows]
        return found

    def taken(self) -> Sequence[Taken]:
        with self._database.connected() as connection:
            return [
                Taken(host, pipeline, cpus, memory, f"{pipeline}#{number}")
                for host, pipeline, cpus, memory, number in _TAKEN.rows(connection)
            ]

    def going(self) -> Sequence[Going]:
        with self._database.connected() as connection:
            return [
                Going(run_id, f"{pipeline}#{number}", pipeline, project)
                for run_id, pipeline, number, project in connection.execute(_GOING)
            ]

    def holding(self, fingerprints: Collection[str]) -> Mapping[str, frozenset[str]]:
        if not fingerprints:
            return {}
        found: dict[str, set[str]] = {}
        wanted = select(StagedRow.fingerprint, StagedRow.host).where(StagedRow.fingerprint.in_(fingerprints))
        with self._database.connected() as connection:
            for fingerprint, host in connection.execute(wanted):
                found.setdefault(fingerprint, set()).add(host)
        return {fingerprint: frozenset(hosts) for fingerprint, hosts in found.items()}
