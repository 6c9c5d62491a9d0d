"""Secrets as ciphertext. Nothing here can read them: the key is not in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, select, update

from orchestrator.domain.errors import NotFound
from orchestrator.ports.secrets import SealedSecret
from orchestrator.store.engine import Database
from orchestrator.store.tables import SecretRow
from orchestrator.store.transitions import changed, inserted, record


class SqlSecrets:
    """Implements ``ports.secrets.SecretRows``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Sequence[SealedSecret]:
        with self._database.reading() as session:
            return [_sealed(row) for row in session.scalars(select(SecretRow).order_by(SecretRow.name))]

    def get(self, name: str) -> SealedSecret | None:
        with self._database.reading() as session:
            row = session.get(SecretRow, name)
            return None if row is None else _sealed(row)

    def put(self, name: str, ciphertext: str, who: str, at: datetime) -> SealedSecret:
        again = (
            update(SecretRow)
            .where(SecretRow.name == name)
            .values(ciphertext=ciphertext, version=SecretRow.version + 1, updated_at=at, updated_by=who)
        )
        new = SecretRow(
            name=name, ciphertext=ciphertext, version=1, created_at=at, updated_at=at, updated_by=who
        )
        with self._database.writing() as session:
            # Somebody may set or remove it between the two statements, so neither alone is enough.
            while True:
                if changed(session, again):
                    record(session, at, who, f"secret {name}", None, "set", "set", "a new value")
                    break
                if inserted(session, new):
                    record(session, at, who, f"secret {name}", None, "", "set")
                    break
            return _sealed(session.get_one(SecretRow, name, populate_existing=True))

    def remove(self, name: str, who: str, at: datetime) -> None:
        with self._database.writing() as session:
            if not changed(session, delete(SecretRow).where(SecretRow.name == name)):
                raise NotFound(
                    f'there is no stored secret "{name}"', "`orchestrator secrets list` names them"
                )
            record(session, at, who, f"secret {name}", None, "set", "removed")

    def reseal(self, changes: Mapping[str, tuple[str, str]], who: str, at: datetime) -> int:
        with self._database.writing() as session:
            done = sum(
                changed(
                    session,
                    update(SecretRow)
                    .where(SecretRow.name == name, SecretRow.ciphertext == before)
                    .values(ciphertext=after),
                )
                for name, (before, after) in sorted(changes.items())
            )
            if done:
                record(session, at, who, "secrets", None, "", "", f"{done} encrypted with the newest key")
            return done


def _sealed(row: SecretRow) -> SealedSecret:
    return SealedSecret(row.name, row.ciphertext, row.version, row.created_at, row.updated_at, row.updated_by)
