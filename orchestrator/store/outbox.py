"""Mails that are owed: kept until they were handed over or given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from orchestrator.domain.mailing import Delivery
from orchestrator.ports.records import Lease, OutboxMessage
from orchestrator.store.engine import Database
from orchestrator.store.tables import OutboxRow
from orchestrator.store.transitions import NO_LEASE, Tokens, changed, granted, inserted, is_free, lost, record

PENDING: Final = "pending"
DELIVERED: Final = "delivered"
GIVEN_UP: Final = "given_up"


class SqlOutbox:
    """The part of ``ports.store.Actions`` that is about mails."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self._tokens = tokens

    def outbox_due(self, at: datetime) -> Sequence[OutboxMessage]:
        with self._database.reading() as session:
            rows = session.scalars(
                select(OutboxRow)
                .where(
                    OutboxRow.state == PENDING,
                    or_(OutboxRow.not_before.is_(None), OutboxRow.not_before <= at),
                    is_free(OutboxRow, at),
                )
                .order_by(OutboxRow.id)
            )
            return [_message(row) for row in rows]

    def outbox_of_run(self, run_id: int) -> Sequence[OutboxMessage]:
        with self._database.reading() as session:
            rows = session.scalars(select(OutboxRow).where(OutboxRow.run_id == run_id).order_by(OutboxRow.id))
            return [_message(row) for row in rows]

    def outbox_claim(self, message_id: int, owner: str, at: datetime, seconds: float) -> Lease | None:
        lease = Lease("outbox", message_id, owner, self._tokens(), at + timedelta(seconds=seconds))
        with self._database.writing() as session:
            guarded = (
                update(OutboxRow)
                .where(
                    OutboxRow.id == message_id,
                    OutboxRow.state == PENDING,
                    or_(OutboxRow.not_before.is_(None), OutboxRow.not_before <= at),
                    is_free(OutboxRow, at),
                )
                .values(tries=OutboxRow.tries + 1, **granted(lease, at))
            )
            return lease if changed(session, guarded) else None

    def outbox_delivered(self, lease: Lease, at: datetime, so_far: Delivery | None = None) -> None:
        error = so_far.told if so_far else ""
        told = {"last_error": error} if error else {}
        self._move(lease, DELIVERED, at, error, so_far, delivered_at=at, **told)

    def outbox_postpone(
        self, lease: Lease, not_before: datetime, error: str, at: datetime, so_far: Delivery | None = None
    ) -> None:
        self._move(lease, PENDING, at, error, so_far, not_before=not_before, last_error=error)

    def outbox_give_up(self, lease: Lease, error: str, at: datetime, so_far: Delivery | None = None) -> None:
        self._move(lease, GIVEN_UP, at, error, so_far, last_error=error)

    def _move(
        self,
        lease: Lease,
        after: str,
        at: datetime,
        reason: str,
        so_far: Delivery | None,
        **values: object,
    ) -> None:
        if so_far is not None:
            values |= {"reached": list(so_far.reached), "refused": dict(so_far.refused)}
        with self._database.writing() as session:
            guarded = (
                update(OutboxRow)
                .where(
                    OutboxRow.id == lease.id,
                    OutboxRow.state == PENDING,
                    OutboxRow.lease_token == lease.token,
                )
                .values(state=after, **values, **NO_LEASE)
            )
            if not changed(session, guarded):
                raise lost(lease)
            run_id = session.scalar(select(OutboxRow.run_id).where(OutboxRow.id == lease.id))
            record(session, at, lease.owner, f"mail {lease.id}", run_id, PENDING, after, reason)


def add_mail(session: Session, mail: OutboxMessage, who: str, at: datetime) -> None:
    """Owe a mail; a key that is known adds nothing."""
    row = OutboxRow(
        action_id=mail.action_id,
        run_id=mail.run_id,
        key=mail.key,
        recipients=list(mail.recipients),
        subject=mail.subject,
        message=mail.message,
        state=PENDING,
        tries=0,
        last_error="",
        created_at=at,
        reached=list(mail.reached),
        refused=dict(mail.refused),
    )
    if inserted(session, row):
        record(session, at, who, f"mail {row.id}", row.run_id, "", PENDING, mail.subject)


def _message(row: OutboxRow) -> OutboxMessage:
    return OutboxMessage(
        id=row.id,
        action_id=row.action_id,
        run_id=row.run_id,
        key=row.key,
        recipients=tuple(row.recipients),
        subject=row.subject,
        message=row.message,
        state=row.state,
        tries=row.tries,
        last_error=row.last_error,
        delivered_at=row.delivered_at,
        reached=tuple(row.reached),
        refused=tuple(row.refused.items()),
    )
