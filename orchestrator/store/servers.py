"""Serving processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update

from orchestrator.ports.records import ServerRow
from orchestrator.store.engine import Database
from orchestrator.store.tables import ServerRecord
from orchestrator.store.transitions import changed, put


class SqlServers:
    """Implements ``ports.store.Servers``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, owner: str, url: str, at: datetime) -> None:
        with self._database.writing() as session:
            put(session, ServerRecord(owner=owner, url=url, started_at=at, seen_at=at))

    def seen(self, owner: str, at: datetime) -> None:
        with self._database.writing() as session:
            changed(session, update(ServerRecord).where(ServerRecord.owner == owner).values(seen_at=at))

    def unregister(self, owner: str) -> None:
        with self._database.writing() as session:
            changed(session, delete(ServerRecord).where(ServerRecord.owner == owner))

    def all(self) -> Sequence[ServerRow]:
        with self._database.reading() as session:
            rows = session.scalars(select(ServerRecord).order_by(ServerRecord.started_at, ServerRecord.owner))
            return [ServerRow(row.owner, row.url, row.started_at, row.seen_at) for row in rows]
