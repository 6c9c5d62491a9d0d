"""What retention reads and removes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, union, update
from sqlalchemy.orm import Session

from orchestrator.domain.action import ActionState
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.errors import NotFound
from orchestrator.domain.retention import Going, RunFacts, told_of
from orchestrator.domain.run import AttemptState, RunState
from orchestrator.ports.retention import Keep
from orchestrator.store.detection import forget_gone
from orchestrator.store.engine import Database
from orchestrator.store.journal import LATE
from orchestrator.store.outbox import PENDING
from orchestrator.store.tables import (
    ActionRow,
    ArtifactRow,
    AttemptRow,
    ChangeRow,
    DataHeadRow,
    DecisionRow,
    DeploymentRow,
    JournalRow,
    KeepRow,
    MeasurementRow,
    MetricRow,
    ModelAliasRow,
    ModelVersionRow,
    OutboxRow,
    ParamRow,
    PinRow,
    PlotRow,
    RebaseRow,
    RunRow,
    SeriesRow,
    StagedRow,
    StatusRow,
)
from orchestrator.store.transitions import REMOVED, changed, put, record

_FINAL = tuple(state for state in RunState if state.final)
_OWED = (ActionState.PENDING, ActionState.RUNNING)
_UNDER_WAY = tuple(state for state in AttemptState if not state.final)
_ROWS = 2000
"""So many rows are fetched at a time where there may be very many."""


class SqlRetention:
    """Implements ``ports.retention.Retention``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def runs(self) -> Sequence[RunFacts]:
        with self._database.connected() as connection:
            kept = (
                select(AttemptRow.run_id, func.count(), func.sum(ArtifactRow.size))
                .join(ArtifactRow, ArtifactRow.attempt_id == AttemptRow.id)
                .where(ArtifactRow.removed_at.is_(None))
                .group_by(AttemptRow.run_id)
            )
            files = {run_id: (count, int(size)) for run_id, count, size in connection.execute(kept)}
            rows = connection.execution_options(yield_per=_ROWS).execute(
                select(
                    RunRow.id,
                    RunRow.number,
                    RunRow.pipeline,
                    ChangeRow.branch,
                    func.coalesce(RunRow.finished_at, RunRow.created_at, type_=RunRow.created_at.type),
                    RunRow.state,
                    RunRow.rerun_of,
                    RunRow.verdict,
                )
                .join(ChangeRow, ChangeRow.id == RunRow.change_id)
                .order_by(RunRow.id)
            )
            return [
                RunFacts(
                    run_id,
                    number,
                    pipeline,
                    branch,
                    at,
                    state.final,
                    state is RunState.PASSED,
                    rerun_of,
                    _compared_with(verdict),
                    *files.get(run_id, (0, 0)),
                )
                for run_id, number, pipeline, branch, at, state, rerun_of, verdict in rows
            ]

    def needed(self) -> Mapping[int, str]:
        found: dict[int, str] = {}
        with self._database.reading() as session:
            for run_id in session.scalars(
                union(
                    select(ActionRow.run_id).where(ActionRow.state.in_(_OWED)),
                    select(OutboxRow.run_id).where(OutboxRow.state == PENDING, OutboxRow.run_id.is_not(None)),
                )
            ):
                found[run_id] = "it owes an action or a mail"
            live = select(DeploymentRow.run_id, DeploymentRow.server).where(
                DeploymentRow.state == DeploymentState.ACTIVE
            )
            for run_id, server in session.execute(live):
                found[run_id] = f"it is live on {server}"
            for run_id, name in session.execute(select(PinRow.run_id, PinRow.name)):
                found[run_id] = f"pinned as {name}" if name else "pinned"
            for run_id, pipeline in session.execute(select(RebaseRow.run_id, RebaseRow.pipeline)):
                found[run_id] = f"the baselines of {pipeline} begin, or began, with it"
            for keep in session.scalars(select(KeepRow)):
                found[keep.run_id] = f"kept by {keep.who}: {keep.reason}"
        return found

    def remove_runs(self, going: Sequence[Going], who: str, at: datetime) -> int:
        with self._database.writing() as session:
            states = _unneeded(session, going)
            ids = _unrepeated(session, set(states))
            if not ids:
                return 0
            changes = session.scalars(select(RunRow.change_id).where(RunRow.id.in_(ids))).all()
            attempts = select(AttemptRow.id).where(AttemptRow.run_id.in_(ids))
            # From what refers to what is referred to.
            for row in (MetricRow, ParamRow, SeriesRow, PlotRow, ArtifactRow):
                changed(session, delete(row).where(row.attempt_id.in_(attempts)))
            versions = select(ModelVersionRow.id).where(ModelVersionRow.run_id.in_(ids))
            changed(session, delete(ModelAliasRow).where(ModelAliasRow.version_id.in_(versions)))
            for table in (
                ModelVersionRow,
                AttemptRow,
                OutboxRow,
                DeploymentRow,
                ActionRow,
                StatusRow,
                DecisionRow,
                MeasurementRow,
            ):
                changed(session, delete(table).where(table.run_id.in_(ids)))
            changed(session, delete(RunRow).where(RunRow.id.in_(ids)))
            of = select(ChangeRow.pipeline, ChangeRow.branch).where(ChangeRow.id.in_(changes)).distinct()
            places = [(pipeline, branch) for pipeline, branch in session.execute(of)]
            unused = ~exists().where(RunRow.change_id == ChangeRow.id)
            changed(session, delete(ChangeRow).where(ChangeRow.id.in_(changes), unused))
            forget_gone(session, places)
            for thing in going:
                if thing.key in ids:
                    before = states[int(thing.key)].value
                    record(
                        session,
                        at,
                        who,
                        f"run {thing.key}",
                        int(thing.key),
                        before,
                        REMOVED,
                        told_of(thing),
                    )
            return len(ids)

    def remove_artifacts(self, going: Sequence[Going], who: str, at: datetime) -> int:
        with self._database.writing() as session:
            ids = set(_unneeded(session, going))
            for why, runs in _by_reason(going, ids).items():
                attempts = select(AttemptRow.id).where(AttemptRow.run_id.in_(runs))
                given_up = (
                    update(ArtifactRow)
                    .where(ArtifactRow.attempt_id.in_(attempts), ArtifactRow.removed_at.is_(None))
                    .values(removed_at=at, removed_why=why)
                )
                changed(session, given_up)
            _record_all(session, going, ids, who, at)
            return len(ids)

    def remove_logs(
        self, going: Sequence[Going], attempts: Mapping[int, Sequence[int]], who: str, at: datetime
    ) -> int:
        with self._database.writing() as session:
            ids = set(_unneeded(session, going))
            for why, runs in _by_reason(going, ids).items():
                written = [attempt for run_id in runs for attempt in attempts.get(run_id, ())]
                given_up = (
                    update(AttemptRow)
                    .where(AttemptRow.id.in_(written), AttemptRow.log_removed_at.is_(None))
                    .values(log_removed_at=at, log_removed_why=why)
                )
                changed(session, given_up)
            _record_all(session, going, ids, who, at)
            return len(ids)

    def remove_journal(self, before: datetime, limit: int) -> int:
        with self._database.writing() as session:
            some = select(JournalRow.id).where(*_forgettable(before)).order_by(JournalRow.id).limit(limit)
            ids = session.scalars(some).all()
            if not ids:
                return 0
            # From the oldest on there are no gaps to be wary of: what lies between was looked at as well.
            return changed(
                session, delete(JournalRow).where(*_forgettable(before), JournalRow.id <= max(ids))
            )

    def count_journal(self, before: datetime) -> int:
        with self._database.reading() as session:
            counted = select(func.count()).select_from(JournalRow).where(*_forgettable(before))
            return session.scalar(counted) or 0

    def contents(self) -> Mapping[int, Sequence[tuple[str, int]]]:
        found: dict[int, list[tuple[str, int]]] = {}
        with self._database.connected() as connection:
            rows = connection.execution_options(yield_per=_ROWS).execute(
                select(AttemptRow.run_id, ArtifactRow.sha256, ArtifactRow.size)
                .join(ArtifactRow, ArtifactRow.attempt_id == AttemptRow.id)
                .where(ArtifactRow.removed_at.is_(None))
            )
            for run_id, sha256, size in rows:
                found.setdefault(run_id, []).append((sha256, size))
        return found

    def hashes(self, first: str, last: str) -> Collection[str]:
        with self._database.connected() as connection:
            return set(
                connection.scalars(
                    select(ArtifactRow.sha256).where(
                        ArtifactRow.sha256 >= first,
                        ArtifactRow.sha256 < last,
                        ArtifactRow.removed_at.is_(None),
                    )
                )
            )

    def log_owners(self) -> Mapping[int, int]:
        with self._database.connected() as connection:
            rows = connection.execute(
                select(AttemptRow.id, AttemptRow.run_id).where(AttemptRow.log_removed_at.is_(None))
            )
            return dict(rows.all())

    def without_owner(self, attempts: Collection[int]) -> Collection[int]:
        with self._database.connected() as connection:
            owned = connection.scalars(
                select(AttemptRow.id).where(AttemptRow.id.in_(attempts), AttemptRow.log_removed_at.is_(None))
            )
            return set(attempts) - set(owned)

    def image_uses(self) -> Mapping[tuple[str, str], datetime]:
        with self._database.reading() as session:
            rows = session.execute(
                select(AttemptRow.host, AttemptRow.image_digest, func.max(_used_at()))
                .where(AttemptRow.host.is_not(None), AttemptRow.image_digest != "")
                .group_by(AttemptRow.host, AttemptRow.image_digest)
            )
            return {(host, digest): at for host, digest, at in rows if host is not None}

    def data_uses(self) -> Mapping[tuple[str, str], datetime]:
        found: dict[tuple[str, str], datetime] = {}
        with self._database.connected() as connection:
            rows = connection.execution_options(yield_per=_ROWS).execute(
                select(AttemptRow.host, _used_at(), ChangeRow.datasets)
                .join(RunRow, RunRow.id == AttemptRow.run_id)
                .join(ChangeRow, ChangeRow.id == RunRow.change_id)
                .where(AttemptRow.host.is_not(None))
            )
            for host, at, datasets in rows:
                for version in datasets:
                    key = (str(host), str(version["fingerprint"]))
                    found[key] = max(at, found.get(key, at))
        return found

    def current_data(self) -> Mapping[str, str]:
        with self._database.reading() as session:
            return dict(session.execute(select(DataHeadRow.fingerprint, DataHeadRow.dataset)).all())

    def live_releases(self) -> Collection[tuple[str, str]]:
        with self._database.reading() as session:
            live = select(DeploymentRow.server, DeploymentRow.release).where(
                DeploymentRow.state == DeploymentState.ACTIVE
            )
            return set(session.execute(live))

    def staged(self) -> Mapping[tuple[str, str], datetime]:
        with self._database.reading() as session:
            rows = session.execute(select(StagedRow.host, StagedRow.volume, StagedRow.staged_at))
            return {(host, volume): at for host, volume, at in rows}

    def keep(self, run_id: int, who: str, reason: str, at: datetime) -> None:
        with self._database.writing() as session:
            if session.scalar(select(RunRow.id).where(RunRow.id == run_id)) is None:
                raise NotFound(f"there is no run {run_id}")
            put(session, KeepRow(run_id=run_id, who=who, reason=reason, at=at))
            record(session, at, who, f"run {run_id}", run_id, "", "", f"kept: {reason}")

    def unkeep(self, run_id: int, who: str, at: datetime) -> bool:
        with self._database.writing() as session:
            if not changed(session, delete(KeepRow).where(KeepRow.run_id == run_id)):
                return False
            record(session, at, who, f"run {run_id}", run_id, "", "", "no longer kept")
            return True

    def keeps(self) -> Sequence[Keep]:
        with self._database.reading() as session:
            rows = session.scalars(select(KeepRow).order_by(KeepRow.run_id))
            return [Keep(row.run_id, row.who, row.reason, row.at) for row in rows]


def _used_at() -> ColumnElement[datetime]:
    return func.coalesce(
        AttemptRow.finished_at,
        AttemptRow.started_at,
        AttemptRow.created_at,
        type_=AttemptRow.created_at.type,
    )


def _compared_with(verdict: object) -> tuple[int, ...]:
    """The runs that a verdict names, without making the whole of it."""
    checks = verdict.get("checks", ()) if isinstance(verdict, dict) else ()
    named = (
        run_id for check in checks for run_id in (check.get("baseline_run"), *check.get("baseline_runs", ()))
    )
    return tuple(dict.fromkeys(run_id for run_id in named if run_id is not None))


def _unneeded(session: Session, going: Sequence[Going]) -> dict[int, RunState]:
    """Those of the runs that nothing needs at this moment, with their states; locked, so that nothing that
    refers to them is added before the transaction ends.
    """
    ids = [int(thing.key) for thing in going]
    # Looked at only when locked: a statement that waits for a lock goes on with what it saw before it waited.
    session.execute(select(RunRow.id).where(RunRow.id.in_(ids)).order_by(RunRow.id).with_for_update())
    rows = session.execute(
        select(RunRow.id, RunRow.state).where(
            RunRow.id.in_(ids),
            RunRow.state.in_(_FINAL),
            ~exists().where(AttemptRow.run_id == RunRow.id, AttemptRow.state.in_(_UNDER_WAY)),
            ~exists().where(ActionRow.run_id == RunRow.id, ActionRow.state.in_(_OWED)),
            ~exists().where(OutboxRow.run_id == RunRow.id, OutboxRow.state == PENDING),
            ~exists().where(DeploymentRow.run_id == RunRow.id, DeploymentRow.state == DeploymentState.ACTIVE),
            ~exists().where(PinRow.run_id == RunRow.id),
            ~exists().where(KeepRow.run_id == RunRow.id),
            ~exists().where(RebaseRow.run_id == RunRow.id),
        )
    )
    return dict(rows.all())


def _unrepeated(session: Session, ids: set[int]) -> set[int]:
    """Those of the runs that no run repeats which stays."""
    repeats = session.execute(select(RunRow.id, RunRow.rerun_of).where(RunRow.rerun_of.in_(ids))).all()
    while stuck := {older for newer, older in repeats if newer not in ids} & ids:
        ids = ids - stuck
    return ids


def _by_reason(going: Sequence[Going], ids: set[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for thing in going:
        if thing.key in ids:
            found.setdefault(thing.why, []).append(int(thing.key))
    return found


def _record_all(session: Session, going: Sequence[Going], ids: set[int], who: str, at: datetime) -> None:
    for thing in going:
        if thing.key in ids:
            record(session, at, who, f"run {thing.key}", int(thing.key), "", "", told_of(thing))


def _forgettable(before: datetime) -> tuple[ColumnElement[bool], ...]:
    """Entries of that age about no run, or one that is gone. The newest stay: their number is looked at."""
    gone = ~exists().where(RunRow.id == JournalRow.run_id)
    newest = select(func.max(JournalRow.id)).scalar_subquery()
    return (
        JournalRow.at < before,
        or_(JournalRow.run_id.is_(None), gone),
        JournalRow.id <= newest - LATE,
    )
