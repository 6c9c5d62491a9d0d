"""What all parts of the store share: guarded writes, inserts that may come late, the journal, leases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, Delete, Update, insert, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from orchestrator.domain.errors import IllegalTransition, LeaseLost
from orchestrator.ports.records import Lease
from orchestrator.store.prepared import PreparedWrite
from orchestrator.store.tables import ActionRow, AttemptRow, Base, JournalRow, OutboxRow

S = TypeVar("S", bound=StrEnum)
LeasedRow = type[AttemptRow] | type[ActionRow] | type[OutboxRow]
Tokens = Callable[[], str]
"""Makes a new token: 32 hexadecimal digits that nobody has seen."""

REMOVED = "removed"
"""What the journal says a run became when retention took it away."""
SYSTEM = "orchestrator"
"""Who, where it was no person and no worker with a lease."""


_JOURNAL = PreparedWrite(insert(JournalRow))


class TooLate(Exception):
    """Somebody else was faster: rolls the transaction back; never leaves the store."""


def changed(
    session: Session,
    statement: Update | Delete | PreparedWrite,
    values: Mapping[str, object] = MappingProxyType({}),
) -> int:
    """Execute a guarded write and say how many rows passed its guard."""
    # By the connection, for the session's own way of updating costs more than all the rest of a transaction.
    connection = flushed(session)
    if isinstance(statement, PreparedWrite):
        return statement.count(connection, values)
    return connection.execute(statement, values).rowcount


def flushed(session: Session) -> Connection:
    """The connection of a session, once what was added to it is written."""
    if session.in_transaction() and session.new:
        session.flush()
    return session.connection()


class Once:
    """Inserts rows of a table; one whose unique key is there already stays as it is.

    For what is inserted often: put together once, and without a savepoint.
    """

    def __init__(self, row: type[Base]) -> None:
        self._insert = PreparedWrite(
            sqlite.insert(row).on_conflict_do_nothing(), postgresql.insert(row).on_conflict_do_nothing()
        )

    def add(self, session: Session, values: Mapping[str, object]) -> bool:
        """Insert a row; False, and nothing changed, when one of its unique keys is there already."""
        return self._insert.count(flushed(session), values) > 0

    def number(self, session: Session, values: Mapping[str, object]) -> int | None:
        """As :meth:`add`; the id that the new row was given, or None."""
        return self._insert.number(flushed(session), values)


def inserted(session: Session, row: Base) -> bool:
    """Insert a row; False, and nothing changed, when a row with one of its unique keys is there already."""
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return False
    return True


def put(session: Session, row: Base) -> None:
    """Insert a row, or overwrite the one with its primary key."""
    if not inserted(session, row):
        session.merge(row)


def require_legal(subject: str, table: Mapping[S, frozenset[S]], before: S, after: S) -> None:
    """Raise IllegalTransition unless the domain's table allows the change."""
    if after not in table[before]:
        allowed = ", ".join(sorted(table[before])) or "nothing: it is final"
        raise IllegalTransition(
            f"{subject} may not go from {before.value} to {after.value}; {before.value} allows {allowed}"
        )


def record(
    session: Session,
    at: datetime,
    who: str,
    subject: str,
    run_id: int | None,
    before: str,
    after: str,
    reason: str = "",
) -> None:
    """Add a journal row to the transaction."""
    _JOURNAL.count(
        flushed(session),
        {
            "at": at,
            "who": who or SYSTEM,
            "subject": subject,
            "run_id": run_id,
            "before": before,
            "after": after,
            "reason": reason,
        },
    )


def granted(lease: Lease, at: datetime) -> dict[str, object]:
    """The lease columns of a row that the lease's owner may work on."""
    return {
        "lease_owner": lease.owner,
        "lease_token": lease.token,
        "lease_heartbeat": at,
        "lease_expires_at": lease.expires_at,
    }


NO_LEASE: Mapping[str, None] = {
    "lease_owner": None,
    "lease_token": None,
    "lease_heartbeat": None,
    "lease_expires_at": None,
}
"""The lease columns of a row that nobody works on."""


def is_free(row: LeasedRow, at: datetime) -> ColumnElement[bool]:
    """Nobody works on the row: it has no lease, or one that ran out."""
    return or_(row.lease_token.is_(None), row.lease_expires_at <= at)


def extend(session: Session, row: LeasedRow, lease: Lease, at: datetime, seconds: float) -> Lease:
    """Extend a lease. Raises LeaseLost when the row has another token."""
    longer = dataclasses.replace(lease, expires_at=at + timedelta(seconds=seconds))
    guarded = (
        update(row)
        .where(row.id == lease.id, row.lease_token == lease.token)
        .values(lease_heartbeat=at, lease_expires_at=longer.expires_at)
    )
    if not changed(session, guarded):
        raise lost(lease)
    return longer


def lost(lease: Lease) -> LeaseLost:
    """The error for a lease whose token, or whose row's state, is no longer what the caller believes."""
    return LeaseLost(f"{lease.owner} no longer holds {lease.subject} {lease.id} as it believed")
