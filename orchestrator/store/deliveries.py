"""Webhooks that were taken, and the comments that they told of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from orchestrator.ports.hooks import CommentSeen
from orchestrator.ports.records import CommentMove
from orchestrator.store.engine import Database
from orchestrator.store.tables import DeliveryRow
from orchestrator.store.transitions import Once, TooLate, changed

_COMMENT: Final = "comment:"
_WAITS: Final = "comment waits"
_DEALT_WITH: Final = "comment dealt with"
_HEEDED: Final = "comment heeded"
_ROW = Once(DeliveryRow)
_COMMENTS = (
    select(DeliveryRow.id, DeliveryRow.repository, DeliveryRow.received_at)
    .where(DeliveryRow.event == _WAITS, DeliveryRow.received_at <= bindparam("at"))
    .order_by(DeliveryRow.received_at, DeliveryRow.id)
)


class SqlDeliveries:
    """Implements ``ports.hooks.Deliveries``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(
        self, ids: Sequence[str], event: str, repository: str, at: datetime, comment: int | None = None
    ) -> bool:
        common = {"repository": repository, "received_at": at}
        try:
            with self._database.writing() as session:
                for each in ids:
                    _add_new(session, {"id": each, "event": event, **common})
                if comment is not None:
                    _ROW.add(session, {"id": f"{_COMMENT}{comment}", "event": _WAITS, **common})
        except TooLate:
            return False
        return True

    def comments(self, at: datetime) -> Sequence[CommentSeen]:
        # Of a comment that waits, the time is when it is due.
        with self._database.connected() as connection:
            return [
                CommentSeen(int(row.id.removeprefix(_COMMENT)), row.repository, row.received_at)
                for row in connection.execute(_COMMENTS, {"at": at})
            ]

    def claim(self, seen: CommentSeen, until: datetime) -> CommentSeen | None:
        mine = (DeliveryRow.id == f"{_COMMENT}{seen.id}", DeliveryRow.event == _WAITS)
        guarded = update(DeliveryRow).where(*mine, DeliveryRow.received_at == seen.due)
        with self._database.writing() as session:
            taken = changed(session, guarded.values(received_at=until))
        return CommentSeen(seen.id, seen.repository, until) if taken else None

    def dealt_with(self, comment: int) -> None:
        done = update(DeliveryRow).where(DeliveryRow.id == f"{_COMMENT}{comment}").values(event=_DEALT_WITH)
        with self._database.writing() as session:
            changed(session, done)

    def forget(self, before: datetime) -> int:
        old = delete(DeliveryRow).where(DeliveryRow.received_at < before, DeliveryRow.event != _WAITS)
        with self._database.writing() as session:
            return changed(session, old)


def heed_comment(session: Session, pipeline: str, move: CommentMove, at: datetime) -> str:
    """The key of the change that a comment asks for; TooLate when it was made already.

    It is written down as what was taken, which is remembered for longer than comments are obeyed.
    """
    _add_new(
        session,
        {
            "id": f"{_COMMENT}{move.comment} {pipeline}",
            "event": _HEEDED,
            "repository": "",
            "received_at": at,
        },
    )
    return f"comment {move.comment}"


def _add_new(session: Session, values: Mapping[str, object]) -> None:
    if not _ROW.add(session, values):
        raise TooLate
