"""Actions: claimed, tried, ended. The mails that they owe are in ``outbox``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Update, and_, func, or_, select, update
from sqlalchemy.orm import Session

from orchestrator.domain.action import ACTION_TRANSITIONS, Action, ActionState, Trigger, action_key
from orchestrator.domain.action_spec import SPECS, ActionSpec
from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.errors import IllegalTransition, NotFound
from orchestrator.ports.records import Lease, NewAction, OutboxMessage
from orchestrator.store.engine import Database
from orchestrator.store.enqueue import add_actions
from orchestrator.store.outbox import PENDING, SqlOutbox, add_mail
from orchestrator.store.prepared import PreparedQuery
from orchestrator.store.tables import ActionRow, OutboxRow, Plain, RunRow
from orchestrator.store.transitions import (
    NO_LEASE,
    LeasedRow,
    Tokens,
    changed,
    extend,
    granted,
    is_free,
    lost,
    record,
    require_legal,
)

_ANY_OWED = PreparedQuery(
    select(
        or_(
            select(ActionRow.id)
            .where(ActionRow.state.in_([ActionState.PENDING, ActionState.RUNNING]))
            .exists(),
            select(OutboxRow.id).where(OutboxRow.state == PENDING).exists(),
        )
    )
)


class SqlActions(SqlOutbox):
    """Implements ``ports.store.Actions``."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        super().__init__(database, tokens)

    def of_run(self, run_id: int) -> Sequence[Action]:
        with self._database.reading() as session:
            rows = session.scalars(select(ActionRow).where(ActionRow.run_id == run_id).order_by(ActionRow.id))
            return [_action(row) for row in rows]

    def pending(self, at: datetime) -> Sequence[Action]:
        with self._database.reading() as session:
            rows = session.scalars(
                select(ActionRow)
                .where(
                    or_(
                        and_(
                            ActionRow.state == ActionState.PENDING,
                            or_(ActionRow.not_before.is_(None), ActionRow.not_before <= at),
                        ),
                        and_(ActionRow.state == ActionState.RUNNING, is_free(ActionRow, at)),
                    )
                )
                .order_by(ActionRow.id)
            )
            return [_action(row) for row in rows]

    def any_owed(self) -> bool:
        with self._database.connected() as connection:
            return bool(_ANY_OWED.scalar(connection))

    def get(self, action_id: int) -> Action:
        with self._database.reading() as session:
            return _get(session, action_id)

    def claim(self, action_id: int, owner: str, at: datetime, seconds: float) -> Lease | None:
        lease = Lease("action", action_id, owner, self._tokens(), at + timedelta(seconds=seconds))
        with self._database.writing() as session:
            row = session.scalar(select(ActionRow).where(ActionRow.id == action_id).with_for_update())
            if row is None:
                raise NotFound(f"there is no action {action_id}")
            match row.state:
                case ActionState.PENDING if row.not_before is None or row.not_before <= at:
                    why = f"try {row.tries + 1}"
                case ActionState.RUNNING if row.lease_expires_at is None or row.lease_expires_at <= at:
                    why = f"try {row.tries + 1}, taken over from {row.lease_owner}"
                case _:
                    return None
            changed(
                session,
                update(ActionRow)
                .where(ActionRow.id == action_id)
                .values(state=ActionState.RUNNING, tries=ActionRow.tries + 1, waits="", **granted(lease, at)),
            )
            before, after = row.state.value, ActionState.RUNNING.value
            record(session, at, owner, f"action {action_id}", row.run_id, before, after, why)
        return lease

    def heartbeat(self, lease: Lease, at: datetime, seconds: float) -> Lease:
        row: LeasedRow = OutboxRow if lease.subject == "outbox" else ActionRow
        with self._database.writing() as session:
            return extend(session, row, lease, at, seconds)

    def finish(self, lease: Lease, after: ActionState, message: str, at: datetime) -> Action:
        _require_final(lease, after)
        with self._database.writing() as session:
            return _end(session, lease, after, message, at)

    def postpone(self, lease: Lease, not_before: datetime, message: str, at: datetime) -> Action:
        with self._database.writing() as session:
            later = _held(lease).values(
                state=ActionState.PENDING, not_before=not_before, message=message, **NO_LEASE
            )
            if not changed(session, later):
                raise lost(lease)
            return _recorded(session, lease, message, at)

    def wait(self, lease: Lease, not_before: datetime, why: str, at: datetime) -> Action:
        with self._database.writing() as session:
            later = _held(lease).values(
                state=ActionState.PENDING,
                not_before=not_before,
                waits=why,
                tries=ActionRow.tries - 1,
                **NO_LEASE,
            )
            if not changed(session, later):
                raise lost(lease)
            return _recorded(session, lease, why, at)

    def owe(self, run_id: int, spec: ActionSpec, who: str, reason: str, at: datetime) -> Action:
        with self._database.writing() as session:
            run = session.scalar(select(RunRow.id).where(RunRow.id == run_id).with_for_update())
            if run is None:
                raise NotFound(f"there is no run {run_id}")
            last = session.scalar(
                select(func.max(ActionRow.position)).where(
                    ActionRow.run_id == run_id, ActionRow.trigger == Trigger.MANUAL
                )
            )
            position = 0 if last is None else last + 1
            row = ActionRow(
                run_id=run_id,
                key=action_key(run_id, Trigger.MANUAL, position),
                trigger=Trigger.MANUAL,
                position=position,
                spec=to_plain(spec),
                state=ActionState.PENDING,
                tries=0,
                not_before=None,
                message="",
                waits="",
                output="",
                who=who,
                created_at=at,
                finished_at=None,
            )
            session.add(row)
            session.flush()
            told = f"asked for by {who}" + (f": {reason}" if reason else "")
            record(session, at, who, f"action {row.id}", run_id, "", row.state.value, told)
            return _action(row)

    def owe_progress(self, run_id: int, new: NewAction, at: datetime) -> bool:
        key = action_key(run_id, new.trigger, new.position)
        known = select(ActionRow.id).where(ActionRow.key == key)
        with self._database.reading() as session:
            if session.scalar(known) is not None:
                return False
        with self._database.writing() as session:
            run = session.scalar(select(RunRow).where(RunRow.id == run_id).with_for_update())
            if run is None or run.state.final or session.scalar(known) is not None:
                return False
            add_actions(session, run_id, [new], "", at)
            return True

    def said(self, lease: Lease, output: str, at: datetime) -> None:
        with self._database.writing() as session:
            if not changed(session, _held(lease).values(output=output)):
                raise lost(lease)

    def release_dead(self, dead: Sequence[str], at: datetime) -> None:
        if not dead:
            return
        with self._database.writing() as session:
            _let_run_out(session, ActionRow, ActionRow.state == ActionState.RUNNING, dead, at)
            _let_run_out(session, OutboxRow, OutboxRow.state == PENDING, dead, at)

    def finish_with_mail(
        self, lease: Lease, mail: OutboxMessage | None, message: str, at: datetime
    ) -> Action:
        with self._database.writing() as session:
            action = _end(session, lease, ActionState.DONE, message, at)
            if mail is not None:
                add_mail(session, mail, lease.owner, at)
            return action


def _held(lease: Lease) -> Update:
    """An update of the running action that this lease, and no newer one, is about."""
    return update(ActionRow).where(
        ActionRow.id == lease.id,
        ActionRow.state == ActionState.RUNNING,
        ActionRow.lease_token == lease.token,
    )


def _let_run_out(
    session: Session, row: LeasedRow, working: ColumnElement[bool], dead: Sequence[str], at: datetime
) -> None:
    held = (working, row.lease_owner.in_(dead), row.lease_expires_at > at)
    # In the order of ids: two servers that do this at once wait for each other instead of both failing.
    ids = session.scalars(select(row.id).where(*held).order_by(row.id).with_for_update()).all()
    if ids:
        changed(session, update(row).where(row.id.in_(ids), *held).values(lease_expires_at=at))


def _require_final(lease: Lease, after: ActionState) -> None:
    require_legal(f"action {lease.id}", ACTION_TRANSITIONS, ActionState.RUNNING, after)
    if not after.final:
        raise IllegalTransition(f"action {lease.id} cannot finish as {after.value}", "postpone it instead")


def _end(session: Session, lease: Lease, after: ActionState, message: str, at: datetime) -> Action:
    if not changed(session, _held(lease).values(state=after, message=message, finished_at=at, **NO_LEASE)):
        raise lost(lease)
    return _recorded(session, lease, message, at)


def _recorded(session: Session, lease: Lease, message: str, at: datetime) -> Action:
    """Write the journal's row of a running action that has just changed, and return it as it is now."""
    action = _get(session, lease.id)
    running = ActionState.RUNNING.value
    subject = f"action {action.id}"
    record(session, at, lease.owner, subject, action.run_id, running, action.state.value, message)
    return action


def _get(session: Session, action_id: int) -> Action:
    row = session.get(ActionRow, action_id)
    if row is None:
        raise NotFound(f"there is no action {action_id}")
    return _action(row)


def _spec(plain: Plain) -> ActionSpec:
    kind = SPECS.get(plain["kind"])
    if kind is None:
        raise ValueError(f"no action is of kind {plain['kind']!r}")
    return from_plain(kind, plain)


def _action(row: ActionRow) -> Action:
    return Action(
        id=row.id,
        run_id=row.run_id,
        key=row.key,
        trigger=row.trigger,
        position=row.position,
        spec=_spec(row.spec),
        state=row.state,
        tries=row.tries,
        not_before=row.not_before,
        message=row.message,
        waits=row.waits,
        output=row.output,
        who=row.who,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
