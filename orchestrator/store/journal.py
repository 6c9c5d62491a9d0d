"""The history of every state, read back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from orchestrator.ports.records import JournalEntry
from orchestrator.store.engine import Database
from orchestrator.store.prepared import PreparedQuery
from orchestrator.store.tables import ActionRow, AttemptRow, DeploymentRow, JournalRow, OutboxRow
from orchestrator.store.transitions import record

LATE: Final = 256
"""A writer commits before so many others have begun and committed after it."""
_LAST: Final = PreparedQuery(select(func.max(JournalRow.id)))
_SUBJECT = re.compile(r"(?P<kind>run|attempt|action|deployment|mail) (?P<id>[0-9]{1,18})")
_TABLES: Mapping[str, type[AttemptRow | ActionRow | DeploymentRow | OutboxRow]] = {
    "attempt": AttemptRow,
    "action": ActionRow,
    "deployment": DeploymentRow,
    "mail": OutboxRow,
}


class SqlJournal:
    """Implements ``ports.store.Journal``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_run(self, run_id: int) -> Sequence[JournalEntry]:
        with self._database.reading() as session:
            rows = session.scalars(
                select(JournalRow).where(JournalRow.run_id == run_id).order_by(JournalRow.id)
            )
            return [_entry(row) for row in rows]

    def latest(self, limit: int = 100) -> Sequence[JournalEntry]:
        with self._database.reading() as session:
            return [
                _entry(row)
                for row in session.scalars(select(JournalRow).order_by(JournalRow.id.desc()).limit(limit))
            ]

    def of_subject(self, subject: str, limit: int = 100) -> Sequence[JournalEntry]:
        mine = select(JournalRow).where(JournalRow.subject == subject)
        with self._database.reading() as session:
            rows = session.scalars(mine.order_by(JournalRow.id.desc()).limit(limit))
            return [_entry(row) for row in reversed(rows.all())]

    def head(self) -> int:
        # Asked every second by every server: one look at the end of an index, without the ORM's machinery.
        with self._database.connected() as connection:
            last = int(_LAST.scalar(connection) or 0)
            if not last or connection.dialect.name == "sqlite":
                return last
            # Writers that are at work at once may commit a lower id after a higher one: it fills a gap.
            filled = select(func.count()).where(JournalRow.id > last - LATE)
            return last * 2 * LATE + int(connection.scalar(filled) or 0)

    def note(self, who: str, subject: str, reason: str, at: datetime) -> None:
        with self._database.writing() as session:
            record(session, at, who, subject, _run_of(session, subject), "", "", reason)


def _run_of(session: Session, subject: str) -> int | None:
    """The run that a subject such as ``attempt 12`` belongs to, or None."""
    match = _SUBJECT.fullmatch(subject)
    if match is None:
        return None
    if match["kind"] == "run":
        return int(match["id"])
    table = _TABLES[match["kind"]]
    return session.scalar(select(table.run_id).where(table.id == int(match["id"])))


def _entry(row: JournalRow) -> JournalEntry:
    return JournalEntry(row.at, row.who, row.subject, row.before, row.after, row.reason)
