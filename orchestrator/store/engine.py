"""Connections and transactions: the one place that knows which database it talks to.

SQLite runs in write-ahead mode, so that readers never wait. A transaction that will write says so at its
start (``BEGIN IMMEDIATE``): one that turns from reading to writing fails at once, whatever the timeout, when
another writer was quicker. Commits are synced to the disk: what a row promises must survive a power cut.
Transactions on SQLite begin and end by its driver, on connections that stay checked out of SQLAlchemy's pool
between them: what that does for each took longer than most statements.

PostgreSQL's writers are READ COMMITTED: several are at work at once, so whoever reads before it writes locks
the row it read (``with_for_update``), or lets a unique key decide (``transitions.inserted``). Its readers see
one moment, as SQLite's do. No statement, lock or silent network is waited for without end.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy import exc as sa
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from orchestrator.domain.errors import InvalidInput, StoreError, StoreUnavailable
from orchestrator.store.failures import translated

_EXPECTED: Final = "write sqlite:////absolute/path or postgresql://user@host/name"
_BUSY_SECONDS: Final = 30.0
_AGAIN: Final = 0.02
_KEPT: Final = 10
"""Connections to SQLite that stay open while nobody uses them."""
_MIGRATION_LOCK: Final = 0x6D6C6369
"""An arbitrary number that all our processes share: PostgreSQL's advisory locks are numbers."""
_POSTGRES: Final = {
    "application_name": "orchestrator",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""What libpq is told unless the URL says otherwise; seconds, the last in milliseconds."""
_AT_WORK: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "60s",
}
_LONG_WORK: Final = {"statement_timeout": "0", "lock_timeout": "10min"}
"""What the server is told: copies and changes of whole tables take their time, and wait for each other."""


def parse_url(url: str) -> URL:
    """Read a database URL; ``postgresql://`` means the psycopg 3 driver. Raises InvalidInput."""
    try:
        parsed = make_url(url)
    except (sa.ArgumentError, ValueError):
        # The latter is a port that is no number. The text is not repeated: it may hold a password.
        raise InvalidInput("the database URL cannot be read", _EXPECTED) from None
    match parsed.drivername:
        case "sqlite" if parsed.database and parsed.database != ":memory:" and "mode" not in parsed.query:
            return parsed
        case "sqlite":
            raise InvalidInput(
                "the database URL names no file",
                "write sqlite:////absolute/path: threads and processes share it",
            )
        case "postgresql" | "postgresql+psycopg" if "@" in (parsed.host or ""):
            # What is taken for the host is the end of the password, and errors would show it.
            raise InvalidInput(
                "the database URL has more than one @ before the host",
                "write @ as %40 in the password, or the password as a reference of its own",
            )
        case "postgresql" | "postgresql+psycopg":
            return parsed.set(drivername="postgresql+psycopg")
        case other:
            raise InvalidInput(f"{other} databases are not supported", _EXPECTED)


def open_engine(url: URL, *, for_migrations: bool = False) -> Engine:
    """An engine whose transactions behave as the module's docstring says.

    ``for_migrations`` leaves foreign keys unchecked on SQLite, where changing a table means making it anew,
    and lets statements on PostgreSQL take their time. Raises StoreError when the driver is missing.
    """
    if url.get_backend_name() != "sqlite":
        return _open_postgres(url, _LONG_WORK if for_migrations else _AT_WORK)
    connect_args = {} if "timeout" in url.query else {"timeout": _BUSY_SECONDS}
    # Room for every worker thread at once: threads wait for the file, not for the pool.
    engine = create_engine(
        url, hide_parameters=True, connect_args=connect_args, pool_size=_KEPT, max_overflow=90
    )

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # The driver begins no transaction by itself: `begin` below does, for reads and changes of tables too.
        connection.isolation_level = None
        cursor = connection.cursor()
        _write_ahead(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA foreign_keys = {'OFF' if for_migrations else 'ON'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if for_migrations:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif not (driver := _driver_of(connection)).in_transaction:
            # It touches no file and cannot fail, so it goes to the driver, for a tenth of the time.
            driver.execute("BEGIN")

    return engine


def _write_ahead(cursor: DBAPICursor) -> None:
    """Switch a SQLite file to write-ahead mode, in which it stays.

    Two that switch a new file at once hold each other up, and SQLite tells one of them at once, whatever the
    timeout.
    """
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > until:
                raise
        time.sleep(_AGAIN)


def _open_postgres(url: URL, limits: Mapping[str, str]) -> Engine:
    told = " ".join(f"-c {name}={value}" for name, value in limits.items())
    given = url.query.get("options", "")
    # What the URL says comes last and wins.
    options = " ".join((told, *([given] if isinstance(given, str) else given))).strip()
    defaults = {name: value for name, value in _POSTGRES.items() if name not in url.query}
    try:
        return create_engine(
            url,
            hide_parameters=True,
            # A connection that broke while it lay idle is replaced, unnoticed.
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=15,
            pool_timeout=30,
            pool_recycle=1800,
            isolation_level="READ COMMITTED",
            connect_args={**defaults, "options": options},
        )
    except ImportError as error:
        raise StoreError(
            f"PostgreSQL needs the package psycopg, which cannot be loaded: {error}",
            "pip install 'ml-ci-orchestrator[postgres]'",
        ) from error


def make_room(url: URL) -> None:
    """Create the SQLite file and its folder, for our user alone; else do nothing. Raises StoreUnavailable."""
    if url.get_backend_name() != "sqlite":
        return
    path = file_of(url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"the database {path} cannot be created: {error.strerror}") from error


def exists(url: URL) -> bool:
    """Whether there is anything to connect to; a database server is taken to be there."""
    return url.get_backend_name() != "sqlite" or file_of(url).exists()


def lock_for_migration(connection: Connection) -> None:
    """Let one process at a time change tables, until the transaction ends. On SQLite all writers do."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})


def _driver_of(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.dbapi_connection)


class _Writing(Session):
    """A session of one transaction, which looks its connection up once: each statement asks for it."""

    found: Connection | None = None

    def connection(self, *rest: Any, **named: Any) -> Connection:  # noqa: ANN401 - passed on as they come
        # A savepoint is made for a connection when that is looked up.
        if rest or named or self.in_nested_transaction():
            return super().connection(*rest, **named)
        if self.found is None:
            self.found = super().connection()
        return self.found


class _Kept:
    """A connection to SQLite for one transaction after the other, each of which its driver begins and ends.

    Connection and session take part in that transaction; what SQLAlchemy calls one is inside of it.
    """

    def __init__(self, engine: Engine) -> None:
        self.connection = engine.connect()
        self.driver = _driver_of(self.connection)
        self.session = _Writing(self.connection, expire_on_commit=False)
        self.session.found = self.connection
        self._options = self.connection.get_execution_options()

    @property
    def as_it_was(self) -> bool:
        """Whether nobody gave the connection options, which would stay."""
        return self.connection.get_execution_options() is self._options

    def commit(self) -> None:
        """Make what was written last."""
        if self.session.in_transaction():
            self.session.commit()
            self.session.close()
        if self.connection.in_transaction():
            self.connection.commit()
        if self.driver.in_transaction:
            self.driver.commit()

    def rest(self) -> None:
        """Undo what was not committed, and forget all objects."""
        if self.session.in_transaction():
            self.session.close()
        if self.connection.in_transaction():
            self.connection.rollback()
        if self.driver.in_transaction:
            self.driver.rollback()

    def close(self) -> None:
        """Close it for good, also where it is broken."""
        self.connection.invalidate()
        self.connection.close()


class Database:
    """Transactions for the rest of the store."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._engine = open_engine(url)
        self._reader = self._engine
        # Taken and put back at one end, so that few are in use where few are needed. Both are atomic.
        self._idle: list[_Kept] = []
        self._closed = False
        # SQLite's own way of waiting for another writer is to sleep and look again, ever longer.
        self._turn = threading.Lock()
        self._patience = float(cast(str, url.query.get("timeout", _BUSY_SECONDS)))
        self._keeps = url.get_backend_name() == "sqlite"
        if not self._keeps:
            self._reader = self._engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads: it sees one moment and never waits for a writer."""
        if not self._keeps:
            with translated(), Session(self._reader) as session:
                yield session
            return
        with self.connected() as connection, Session(connection) as session:
            yield session

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A transaction that only reads, for what needs no objects."""
        if not self._keeps:
            with translated(), self._reader.connect() as connection:
                yield connection
            return
        with translated(), self._begun("BEGIN") as kept:
            yield kept.connection

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that writes: committed at the end, rolled back by any exception."""
        if not self._keeps:
            with (
                translated(),
                _Writing(self._engine, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session
            return
        # One writer of this process after the other, for SQLite lets in one anyway. Who waited in vain goes
        # on, and is told by the database.
        held = self._patience > 0 and self._turn.acquire(timeout=self._patience)
        try:
            with translated(), self._begun("BEGIN IMMEDIATE") as kept:
                yield kept.session
                kept.commit()
        finally:
            if held:
                self._turn.release()

    @contextmanager
    def _begun(self, how: str) -> Iterator[_Kept]:
        """A connection that nobody else uses, in a transaction that ends, if it has not, without a commit."""
        try:
            kept = self._idle.pop()
        except IndexError:
            kept = _Kept(self._engine)
        try:
            kept.driver.execute(how)
            yield kept
            kept.rest()
        except BaseException:
            # Perhaps it is the connection that broke: who comes next begins with another.
            kept.close()
            raise
        if len(self._idle) >= _KEPT or not kept.as_it_was:
            kept.close()
            return
        self._idle.append(kept)
        if self._closed:
            self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def version(self) -> str:
        """Which database this is, as ``SQLite 3.40.1`` or ``PostgreSQL 15.20``. Raises StoreUnavailable."""
        if self.url.get_backend_name() == "sqlite":
            return f"SQLite {sqlite3.sqlite_version}"
        with self.connected() as connection:
            told = str(connection.scalar(text("SHOW server_version")))
        return f"PostgreSQL {told.split()[0]}"

    def size(self) -> int:
        """Bytes that the database occupies."""
        if self.url.get_backend_name() == "sqlite":
            path = file_of(self.url)
            files = (path, path.with_name(f"{path.name}-wal"))
            return sum(file.stat().st_size for file in files if file.exists())
        with self.reading() as session:
            return int(session.scalar(text("SELECT pg_database_size(current_database())")) or 0)

    @contextmanager
    def driver_connection(self) -> Iterator[sqlite3.Connection]:
        """SQLite's own connection, outside of any transaction."""
        with translated(), closing(self._engine.raw_connection()) as connection:
            yield cast(sqlite3.Connection, connection.driver_connection)

    def close(self) -> None:
        """Free all connections; one that is in use, at the end of its transaction."""
        self._closed = True
        self._close_idle()
        self._engine.dispose()


def file_of(url: URL) -> Path:
    """The file of a SQLite database."""
    return Path(cast(str, url.database))
