"""Copies of a database of either kind as SQLite files, and back.

A copy is what makes backups portable: rows travel through the columns' own types, so that a database of one
kind can go on as one of the other.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Column, Connection, Table, delete, func, insert, inspect, select, text, update

from orchestrator.domain.action import ActionState
from orchestrator.domain.errors import BackupInvalid, StoreError
from orchestrator.domain.retention import NOT_IN_BACKUP
from orchestrator.domain.run import AttemptState
from orchestrator.ports.backup import Snapshot, Standing
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.store import migrations
from orchestrator.store.engine import (
    Database,
    exists,
    file_of,
    lock_for_migration,
    make_room,
    open_engine,
    parse_url,
)
from orchestrator.store.failures import translated
from orchestrator.store.outbox import PENDING
from orchestrator.store.tables import (
    LOST_ATTEMPTS,
    ActionRow,
    ArtifactRow,
    AttemptRow,
    Base,
    MetaRow,
    OutboxRow,
    ServerRecord,
    StagedRow,
)
from orchestrator.store.transitions import changed, put, record

_STEP: Final = 100_000
"""Ids go on at least so much further: nobody had so many between a backup and the loss of its database."""
_COUNTED_FROM: Final = datetime(2026, 1, 1, tzinfo=UTC)
_IDS_A_SECOND: Final = 2
"""More than attempts come in the long run, and few enough for PostgreSQL's integers to last until 2050."""
_ROWS: Final = 500
_NOT_CONTENT: Final = ("meta", "servers", "alembic_version")
_WORKING: Final = tuple(state for state in AttemptState if state.active)


class SqlSnapshots:
    """Implements ``ports.backup.Snapshots``."""

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self._address = url

    def version(self) -> str:
        with closing(Database(self._url)) as database:
            return database.version()

    def take(self, into: Path, progress: ProgressSink) -> None:
        revision = migrations.current(self._address)
        if revision is None:
            raise StoreError("there is no database to back up", "start the server once, or correct the path")
        with _file_failures(into):
            os.close(os.open(into, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        progress(ProgressEvent("copying the database"))
        if self._url.get_backend_name() == "sqlite":
            self._copy_file(into)
        else:
            migrations.upgrade(_address_of(into), revision)
            self._copy_rows(into, progress)
        _settle(into)

    def _copy_file(self, into: Path) -> None:
        database = Database(self._url)
        try:
            with (
                _file_failures(into),
                closing(sqlite3.connect(into, isolation_level=None)) as copy,
                database.driver_connection() as source,
            ):
                source.backup(copy)
        finally:
            database.close()

    def _copy_rows(self, into: Path, progress: ProgressSink) -> None:
        source, target = (
            open_engine(url, for_migrations=True) for url in (self._url, parse_url(_address_of(into)))
        )
        moment = source.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        try:
            with translated(), moment.connect() as reading, target.begin() as writing:
                _copy(reading, writing, lambda done: progress(_rows(done)))
                for table in _counted(reading):
                    _set_last_id(writing, table, _last_id(reading, table))
        finally:
            source.dispose()
            target.dispose()

    def look(self, file: Path) -> Snapshot:
        revision = migrations.current(_address_of(file))
        if revision is None or not migrations.is_known(revision):
            raise BackupInvalid(
                f"the backup's database is at revision {revision}, which this version does not know",
                "install the version that made it, or a newer one",
            )
        with migrations.connected(_address_of(file), writes=False) as connection:
            kept = select(ArtifactRow.sha256).distinct().order_by(ArtifactRow.sha256)
            if "removed_at" in _columns(connection, ArtifactRow.__tablename__):
                kept = kept.where(ArtifactRow.removed_at.is_(None))
            named = connection.scalar(select(MetaRow.value).where(MetaRow.name == "instance"))
            seen = Snapshot(
                revision,
                named or "",
                tuple(connection.scalars(select(ServerRecord.owner).order_by(ServerRecord.owner))),
                tuple(connection.scalars(select(AttemptRow.id).order_by(AttemptRow.id))),
                tuple(connection.scalars(kept)),
            )
        _settle(file)
        return seen

    def renew(self, file: Path, at: datetime, *, without: Collection[str] | None) -> None:
        migrations.upgrade(_address_of(file))
        database = Database(parse_url(_address_of(file)))
        try:
            with database.writing() as session:
                changed(session, delete(ServerRecord))
                changed(session, delete(StagedRow))
                for row, working in (
                    (AttemptRow, AttemptRow.state.in_(_WORKING)),
                    (ActionRow, ActionRow.state == ActionState.RUNNING),
                    (OutboxRow, OutboxRow.state == PENDING),
                ):
                    over = update(row).where(working, row.lease_token.is_not(None))
                    changed(session, over.values(lease_expires_at=at))
                lost = update(ArtifactRow).where(ArtifactRow.removed_at.is_(None))
                if without is not None:
                    lost = lost.where(ArtifactRow.sha256.in_(without))
                if without is None or without:
                    changed(session, lost.values(removed_at=at, removed_why=NOT_IN_BACKUP))
                connection = session.connection()
                for table in _counted(connection):
                    last = _last_id(connection, table)
                    beyond = _beyond(last, at)
                    _set_last_id(connection, table, beyond)
                    if table is AttemptRow.__table__:
                        known = session.scalar(select(MetaRow.value).where(MetaRow.name == LOST_ATTEMPTS))
                        ranges = f"{known}," if known else ""
                        put(session, MetaRow(name=LOST_ATTEMPTS, value=f"{ranges}{last + 1}-{beyond}"))
                record(session, at, "", "database", None, "", "", "restored from a backup")
        finally:
            database.close()
        _settle(file)

    def standing(self) -> Standing:
        if not exists(self._url):
            return Standing(holds_rows=False, servers=())
        if migrations.current(self._address) is None:
            with migrations.connected(self._address, writes=False) as connection:
                if inspect(connection).get_table_names():
                    raise StoreError("the database holds another program's tables", "name an empty database")
            return Standing(holds_rows=False, servers=())
        with migrations.connected(self._address, writes=False) as connection:
            tables = [name for name in inspect(connection).get_table_names() if name not in _NOT_CONTENT]
            filled = any(_has_rows(connection, name) for name in tables)
            servers = connection.execute(select(ServerRecord.owner, ServerRecord.seen_at)).all()
            return Standing(filled, tuple((owner, seen_at) for owner, seen_at in servers))

    def load(self, file: Path, aside: str) -> None:
        if self._url.get_backend_name() == "sqlite":
            self._replace_file(file, aside)
        else:
            self._replace_tables(file)

    def _replace_file(self, file: Path, aside: str) -> None:
        place = file_of(self._url)
        make_room(self._url)
        with _file_failures(place):
            part = place.with_name(f".{place.name}.{os.getpid()}.part")
            try:
                os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                shutil.copyfile(file, part)
                _sync(part)
                # The log of an older file would be played into the new one.
                for suffix in ("-wal", "-shm", ""):
                    old = place.with_name(f"{place.name}{suffix}")
                    if old.exists():
                        old.rename(place.with_name(f"{place.name}.{aside}{suffix}"))
                part.rename(place)
                _sync(place.parent)
            finally:
                part.unlink(missing_ok=True)

    def _replace_tables(self, file: Path) -> None:
        source, target = (
            open_engine(url, for_migrations=True) for url in (parse_url(_address_of(file)), self._url)
        )
        try:
            with translated(), source.connect() as reading, target.begin() as writing:
                lock_for_migration(writing)
                ours = [table.name for table in Base.metadata.sorted_tables] + ["alembic_version"]
                for name in ours:
                    writing.execute(text(f"DROP TABLE IF EXISTS {_quoted(writing, name)} CASCADE"))
                migrations.migrate(writing)
                _copy(reading, writing, lambda done: None)
                for table in Base.metadata.sorted_tables:
                    # Rows that are copied bring their ids along, and draw none from the sequence.
                    if "id" in table.columns:
                        _set_last_id(writing, table, int(writing.scalar(select(func.max(table.c.id))) or 0))
                for table in _counted(reading):
                    _set_last_id(writing, table, _last_id(reading, table))
        finally:
            source.dispose()
            target.dispose()


def _beyond(last: int, at: datetime) -> int:
    """From where ids go on after a restore at a moment: beyond all that were given out since the backup.

    The moment counts because the same backup may be restored again, after others went on from it.
    """
    elapsed = int((at - _COUNTED_FROM).total_seconds())
    return max(last + _STEP, elapsed * _IDS_A_SECOND)


def _copy(reading: Connection, writing: Connection, told: Callable[[int], None]) -> None:
    """All rows of the tables that both sides have, parents before their children."""
    done = 0
    there = set(inspect(reading).get_table_names())
    for table in Base.metadata.sorted_tables:
        if table.name not in there:
            continue
        known = _columns(reading, table.name)
        columns = [column for column in table.columns if column.name in known]
        for rows in _read(reading, table, columns):
            writing.execute(
                insert(table), [dict(zip((c.key for c in columns), row, strict=True)) for row in rows]
            )
            done += len(rows)
            told(done)


def _read(
    reading: Connection, table: Table, columns: Sequence[Column[object]]
) -> Iterator[Sequence[Sequence[object]]]:
    wanted = select(*columns).order_by(*table.primary_key.columns)
    with reading.execution_options(yield_per=_ROWS).execute(wanted) as rows:
        yield from rows.partitions()


def _has_rows(connection: Connection, table: str) -> bool:
    return connection.execute(text(f"SELECT 1 FROM {_quoted(connection, table)} LIMIT 1")).first() is not None  # noqa: S608


def _columns(connection: Connection, table: str) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns(table)}


def _counted(connection: Connection) -> list[Table]:
    """The tables whose ids are never given out twice."""
    there = set(inspect(connection).get_table_names())
    return [
        table
        for table in Base.metadata.sorted_tables
        if table.name in there and table.dialect_options["sqlite"]["autoincrement"]
    ]


def _last_id(connection: Connection, table: Table) -> int:
    if connection.dialect.name == "sqlite":
        found = connection.scalar(
            text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name}
        )
        return int(found or 0)
    sequence = connection.scalar(select(func.pg_get_serial_sequence(table.name, "id")))
    row = connection.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()  # noqa: S608
    return int(row.last_value) if row.is_called else 0


def _set_last_id(connection: Connection, table: Table, last: int) -> None:
    if connection.dialect.name == "sqlite":
        values = {"name": table.name, "seq": last}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), values)
    elif last:
        connection.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), last)))


def _rows(done: int) -> ProgressEvent:
    return ProgressEvent("copying the database", done, None, "rows")


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)


def _address_of(file: Path) -> str:
    return f"sqlite:///{file}"


def _settle(file: Path) -> None:
    """Make a copy one file, on the disk."""
    with _file_failures(file):
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        _sync(file)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _file_failures(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"the copy {path} cannot be written: {error}", "check free space and owner of its folder"
        ) from error
