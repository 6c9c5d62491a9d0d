"""Attempts, their leases, the slots of hosts, and what attempts left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Update, bindparam, delete, func, insert, or_, select, union, update
from sqlalchemy.orm import Session

from orchestrator.domain.action import ActionState
from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.errors import IllegalTransition, NotFound
from orchestrator.domain.gpu import Gpu, GpuUse
from orchestrator.domain.placement import NO_TERMS, Terms
from orchestrator.domain.retention import removal
from orchestrator.domain.run import ATTEMPT_TRANSITIONS, Attempt, AttemptState, Exit, RunState, StopCause
from orchestrator.ports.records import AttemptResult, Lease, QueuedAttempt, StagedVolume, StoredArtifact
from orchestrator.store import slots as slots_of_hosts
from orchestrator.store.engine import Database
from orchestrator.store.findings import add_findings, told_of
from orchestrator.store.gpus import give_back as give_gpus_back
from orchestrator.store.gpus import leased
from orchestrator.store.gpus import take as take_gpus
from orchestrator.store.outbox import PENDING
from orchestrator.store.prepared import PreparedQuery, PreparedWrite
from orchestrator.store.tables import (
    ActionRow,
    ArtifactRow,
    AttemptRow,
    MetricRow,
    OutboxRow,
    RunRow,
    SlotRow,
    StagedRow,
)
from orchestrator.store.transitions import (
    NO_LEASE,
    Tokens,
    TooLate,
    changed,
    extend,
    granted,
    is_free,
    lost,
    put,
    record,
    require_legal,
)

_ACTIVE = tuple(state for state in AttemptState if state.active)
_CLAIMABLE = (RunState.QUEUED, RunState.RUNNING)
# Statements that every turn of the server makes are put together once; and what they find is read without the
# session's bookkeeping, which would cost more than all the rest.
_COLUMNS = [column for column in AttemptRow.__table__.c if column.name not in ("left_out", *NO_LEASE)]
_ONE = PreparedQuery(select(*_COLUMNS).where(AttemptRow.id == bindparam("id")))
_OF_RUN = PreparedQuery(
    select(*_COLUMNS)
    .where(AttemptRow.run_id == bindparam("run_id"))
    .order_by(AttemptRow.replicate, AttemptRow.number)
)
_RUN_ID = PreparedQuery(select(AttemptRow.run_id).where(AttemptRow.id == bindparam("id")))
_RUN_STATE_LOCKED = PreparedQuery(select(RunRow.state).where(RunRow.id == bindparam("id")).with_for_update())
_CLAIM = PreparedWrite(
    update(AttemptRow).where(
        AttemptRow.id == bindparam("attempt_id"), AttemptRow.state == AttemptState.QUEUED
    )
)
_BEGIN_RUN = PreparedWrite(
    update(RunRow).where(RunRow.id == bindparam("run_id"), RunRow.state == RunState.QUEUED)
)
_MOVE = PreparedWrite(
    update(AttemptRow).where(
        AttemptRow.id == bindparam("attempt_id"),
        AttemptRow.lease_token == bindparam("token"),
        AttemptRow.state == bindparam("before"),
    )
)
_FREE_SLOT = PreparedWrite(delete(SlotRow).where(SlotRow.attempt_id == bindparam("attempt_id")))
_METRICS = PreparedWrite(insert(MetricRow))
_ARTIFACTS = PreparedWrite(insert(ArtifactRow))
_QUEUED = (
    select(AttemptRow.id, AttemptRow.run_id, RunRow.host_wish)
    .join(RunRow, RunRow.id == AttemptRow.run_id)
    .where(
        AttemptRow.state == AttemptState.QUEUED,
        RunRow.state.in_(_CLAIMABLE),
        or_(AttemptRow.not_before.is_(None), AttemptRow.not_before <= bindparam("at")),
    )
    .order_by(AttemptRow.id)
)
_SLOTS_IN_USE = select(SlotRow.host, func.count()).group_by(SlotRow.host)
_TAKEN = PreparedQuery(select(SlotRow.attempt_id, SlotRow.host, SlotRow.index))


class SqlAttempts:
    """Implements ``ports.store.Attempts``."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self._tokens = tokens

    def of_run(self, run_id: int) -> Sequence[Attempt]:
        with self._database.connected() as connection:
            return [_attempt(row) for row in _OF_RUN.rows(connection, {"run_id": run_id})]

    def get(self, attempt_id: int) -> Attempt:
        with self._database.connected() as connection:
            return _get(connection, attempt_id)

    def queued(self, at: datetime) -> Sequence[QueuedAttempt]:
        with self._database.connected() as connection:
            return [QueuedAttempt(*row) for row in connection.execute(_QUEUED, {"at": at})]

    def claim(
        self,
        attempt_id: int,
        host: str,
        slots: int,
        container: str,
        owner: str,
        at: datetime,
        seconds: float,
        gpus: Sequence[Gpu] = (),
        terms: Terms = NO_TERMS,
    ) -> Lease | None:
        try:
            with self._database.writing() as session:
                return self._claim(
                    session, attempt_id, host, slots, container, owner, at, seconds, gpus, terms
                )
        except TooLate:
            return None

    def _claim(
        self,
        session: Session,
        attempt_id: int,
        host: str,
        slots: int,
        container: str,
        owner: str,
        at: datetime,
        seconds: float,
        gpus: Sequence[Gpu],
        terms: Terms,
    ) -> Lease:
        connection = session.connection()
        run_id = _RUN_ID.scalar(connection, {"id": attempt_id})
        if run_id is None:
            raise NotFound(f"there is no attempt {attempt_id}")
        # Always the run before its attempts: whoever ends the run locks in this order too.
        run_state = _RUN_STATE_LOCKED.scalar(connection, {"id": run_id})
        lease = self._lease(attempt_id, owner, at, seconds)
        values = {
            "attempt_id": attempt_id,
            "state": AttemptState.PREPARING,
            "host": host,
            "container": container,
            **granted(lease, at),
        }
        if gpus:
            values["gpus"] = to_plain(tuple(gpus))
        if run_state not in _CLAIMABLE or not changed(session, _CLAIM, values):
            raise TooLate
        if run_state is RunState.QUEUED:
            slots_of_hosts.require_turn(connection, run_id, terms)
        slots_of_hosts.require_open(connection, host)
        slots_of_hosts.take(session, host, slots, attempt_id, terms)
        take_gpus(session, host, attempt_id, gpus)
        before, after = AttemptState.QUEUED.value, AttemptState.PREPARING.value
        record(
            session, at, owner, f"attempt {attempt_id}", run_id, before, after, f"on {host} as {container}"
        )
        if run_state is RunState.QUEUED:
            changed(session, _BEGIN_RUN, {"run_id": run_id, "state": RunState.RUNNING, "started_at": at})
            queued, running = RunState.QUEUED.value, RunState.RUNNING.value
            record(session, at, owner, f"run {run_id}", run_id, queued, running)
        return lease

    def _lease(self, attempt_id: int, owner: str, at: datetime, seconds: float) -> Lease:
        return Lease("attempt", attempt_id, owner, self._tokens(), at + timedelta(seconds=seconds))

    def take_over(
        self,
        owner: str,
        dead: Sequence[str],
        at: datetime,
        seconds: float,
        wants: Callable[[int], bool] = lambda run_id: True,
    ) -> Sequence[Lease]:
        orphaned = or_(is_free(AttemptRow, at), AttemptRow.lease_owner.in_(dead))
        candidates = (
            select(AttemptRow.id, AttemptRow.run_id, AttemptRow.state, AttemptRow.lease_owner)
            .where(AttemptRow.state.in_(_ACTIVE), orphaned)
            .order_by(AttemptRow.id)
        )
        # Most of the time there is none, and then no writer should have to wait for this look.
        with self._database.connected() as connection:
            seen = connection.execute(candidates).all()
        wanted = [row.id for row in seen if wants(row.run_id)]
        if not wanted:
            return []
        taken = []
        with self._database.writing() as session:
            still = candidates.where(AttemptRow.id.in_(wanted)).with_for_update()
            for attempt_id, run_id, state, former in session.execute(still).all():
                lease = self._lease(attempt_id, owner, at, seconds)
                changed(
                    session,
                    update(AttemptRow).where(AttemptRow.id == attempt_id).values(**granted(lease, at)),
                )
                why = f"taken over from {former}" if former else "taken over after its release"
                record(session, at, owner, f"attempt {attempt_id}", run_id, state.value, state.value, why)
                taken.append(lease)
        return taken

    def lease_owners(self) -> Sequence[str]:
        # By state as well, because states are indexed and the rows of the past are many.
        leased = union(
            select(AttemptRow.lease_owner).where(AttemptRow.state.in_(_ACTIVE)),
            select(ActionRow.lease_owner).where(ActionRow.state == ActionState.RUNNING),
            select(OutboxRow.lease_owner).where(OutboxRow.state == PENDING),
        )
        with self._database.connected() as connection:
            return sorted(owner for owner in connection.scalars(leased) if owner is not None)

    def heartbeat(self, lease: Lease, at: datetime, seconds: float) -> Lease:
        with self._database.writing() as session:
            return extend(session, AttemptRow, lease, at, seconds)

    def release(self, lease: Lease) -> None:
        with self._database.writing() as session:
            if not changed(session, _held(lease).values(**NO_LEASE)):
                raise lost(lease)

    def advance(
        self,
        lease: Lease,
        before: AttemptState,
        after: AttemptState,
        at: datetime,
        container_id: str = "",
        image_digest: str = "",
        hardware: str = "",
    ) -> Attempt:
        _require_legal(lease, before, after)
        if not (before.active and after.active):
            raise IllegalTransition(
                f"attempt {lease.id}: advancing from {before.value} to {after.value} is no move between "
                "active states; they begin with a claim and end with finish"
            )
        values: dict[str, object] = {"state": after}
        if container_id:
            values["container_id"] = container_id
        if image_digest:
            values["image_digest"] = image_digest
        if hardware:
            values["hardware"] = hardware
        if after is AttemptState.RUNNING:
            values["started_at"] = at
        with self._database.writing() as session:
            attempt = _moved(session, lease, before, values)
            _record(session, lease, attempt, before, at)
            return attempt

    def note_stop(self, lease: Lease, cause: StopCause, at: datetime) -> None:
        with self._database.writing() as session:
            if changed(session, _held(lease).where(AttemptRow.stop_cause.is_(None)).values(stop_cause=cause)):
                run_id = _get(session.connection(), lease.id).run_id
                what = f"to be stopped: {cause.value}"
                record(session, at, lease.owner, f"attempt {lease.id}", run_id, "", "", what)
            elif (
                session.scalar(select(AttemptRow.lease_token).where(AttemptRow.id == lease.id)) != lease.token
            ):
                raise lost(lease)

    def finish(self, lease: Lease, before: AttemptState, result: AttemptResult, at: datetime) -> Attempt:
        _require_legal(lease, before, result.state)
        if not (before.active and result.state.final):
            raise IllegalTransition(
                f"attempt {lease.id} cannot finish from {before.value} as {result.state.value}: "
                "an active attempt ends in a final state"
            )
        with self._database.writing() as session:
            ended: dict[str, object] = {
                "state": result.state,
                "reason": result.reason,
                "message": result.message,
                "exit": None if result.exit is None else to_plain(result.exit),
                "warnings": list(result.warnings),
                "left_out": list(result.left_out),
                "finished_at": at,
                **NO_LEASE,
            }
            if result.utilisation:
                ended["utilisation"] = to_plain(result.utilisation)
            attempt = _moved(session, lease, before, ended)
            changed(session, _FREE_SLOT, {"attempt_id": lease.id})
            if attempt.gpus:
                give_gpus_back(session, lease.id)
            _add_left_behind(session, lease.id, result)
            why = f"{result.reason.value}: {result.message}" if result.message else result.reason.value
            _record(session, lease, attempt, before, at, why)
            return attempt

    def artifacts(self, attempt_id: int) -> Sequence[StoredArtifact]:
        with self._database.reading() as session:
            rows = session.scalars(
                select(ArtifactRow)
                .where(ArtifactRow.attempt_id == attempt_id)
                .order_by(ArtifactRow.path, ArtifactRow.kind)
            )
            return [
                StoredArtifact(
                    row.path, row.size, row.sha256, row.kind, removal(row.removed_at, row.removed_why)
                )
                for row in rows
            ]

    def left_out(self, attempt_id: int) -> Sequence[str]:
        with self._database.reading() as session:
            plain = session.scalar(select(AttemptRow.left_out).where(AttemptRow.id == attempt_id))
        return [] if plain is None else from_plain(tuple[str, ...], plain)

    def slots_in_use(self) -> Mapping[str, int]:
        with self._database.connected() as connection:
            return dict(connection.execute(_SLOTS_IN_USE).all())

    def taken(self) -> Mapping[int, tuple[str, int]]:
        with self._database.connected() as connection:
            return {attempt_id: (host, index) for attempt_id, host, index in _TAKEN.rows(connection)}

    def gpus_leased(self) -> Mapping[str, Mapping[str, int]]:
        return leased(self._database)

    def is_staged(self, host: str, volume: str) -> bool:
        with self._database.reading() as session:
            return session.get(StagedRow, (host, volume)) is not None

    def mark_staged(
        self, host: str, volume: str, at: datetime, fingerprint: str = "", size: int | None = None
    ) -> None:
        with self._database.writing() as session:
            row = StagedRow(host=host, volume=volume, staged_at=at, used_at=at)
            row.fingerprint, row.size = fingerprint, size
            put(session, row)

    def staged_on(self, host: str) -> Sequence[StagedVolume]:
        with self._database.reading() as session:
            rows = session.scalars(select(StagedRow).where(StagedRow.host == host).order_by(StagedRow.volume))
            return [
                StagedVolume(row.volume, row.fingerprint, row.size, row.used_at or row.staged_at)
                for row in rows
            ]

    def forget_staged(self, host: str, volume: str) -> None:
        with self._database.writing() as session:
            changed(session, delete(StagedRow).where(StagedRow.host == host, StagedRow.volume == volume))


def _held(lease: Lease) -> Update:
    """An update of the attempt that this lease, and no newer one, is about."""
    return update(AttemptRow).where(AttemptRow.id == lease.id, AttemptRow.lease_token == lease.token)


def _require_legal(lease: Lease, before: AttemptState, after: AttemptState) -> None:
    require_legal(f"attempt {lease.id}", ATTEMPT_TRANSITIONS, before, after)


def _record(
    session: Session, lease: Lease, attempt: Attempt, before: AttemptState, at: datetime, why: str = ""
) -> None:
    subject = f"attempt {attempt.id}"
    record(session, at, lease.owner, subject, attempt.run_id, before.value, attempt.state.value, why)


def _moved(session: Session, lease: Lease, before: AttemptState, values: Mapping[str, object]) -> Attempt:
    """Change an attempt that is in the state ``before`` and this lease's; as it is then. Raises LeaseLost."""
    guard = {"attempt_id": lease.id, "token": lease.token, "before": before}
    if not changed(session, _MOVE, {**guard, **values}):
        raise lost(lease)
    return _get(session.connection(), lease.id)


def _add_left_behind(session: Session, attempt_id: int, result: AttemptResult) -> None:
    connection = session.connection()
    if result.metrics:
        _METRICS.each(
            connection,
            [
                {
                    "attempt_id": attempt_id,
                    "name": metric.name,
                    "value": metric.value,
                    "source": metric.source,
                    "reader": metric.reader,
                    "told": told_of(metric),
                }
                for metric in result.metrics
            ],
        )
    add_findings(session, attempt_id, result.params, result.series, result.plots)
    if result.artifacts:
        _ARTIFACTS.each(
            connection,
            [
                {
                    "attempt_id": attempt_id,
                    "kind": artifact.kind,
                    "path": artifact.path,
                    "size": artifact.size,
                    "sha256": artifact.sha256,
                }
                for artifact in result.artifacts
            ],
        )


def _get(connection: Connection, attempt_id: int) -> Attempt:
    row = _ONE.one_or_none(connection, {"id": attempt_id})
    if row is None:
        raise NotFound(f"there is no attempt {attempt_id}")
    return _attempt(row)


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        id=row.id,
        run_id=row.run_id,
        replicate=row.replicate,
        number=row.number,
        seed=row.seed,
        state=row.state,
        host=row.host,
        container=row.container,
        container_id=row.container_id,
        image_digest=row.image_digest,
        reason=row.reason,
        message=row.message,
        exit=None if row.exit is None else from_plain(Exit, row.exit),
        stop_cause=row.stop_cause,
        warnings=tuple(row.warnings),
        not_before=row.not_before,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        log_removed=removal(row.log_removed_at, row.log_removed_why),
        gpus=() if row.gpus is None else from_plain(tuple[Gpu, ...], row.gpus),
        utilisation=() if row.utilisation is None else from_plain(tuple[GpuUse, ...], row.utilisation),
        hardware=row.hardware,
    )
