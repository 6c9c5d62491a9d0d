"""What the database's libraries raise, as our errors: by type and by code, never by the text of a message."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import exc as sa

from orchestrator.domain.errors import InvalidInput, StoreError, StoreUnavailable

_REACHABLE: Final = (
    "see that the server of storage.database runs and is reached from here, takes this user, and speaks TLS "
    "as `sslmode` asks for it"
)
_ASKED: Final = "the server wants a password: write a reference to it in storage.database"
_LOGIN: Final = (
    "the server runs and was given a password: see that the user, the password and the database's name in "
    "storage.database are right, and that this database exists"
)
_OPTIONS: Final = (
    "correct what stands behind ? in storage.database: the names are those of PostgreSQL's connection "
    "parameters, such as sslmode=require"
)
_SPACE: Final = "free space on the database server's disk"
_SQLITE: Final = {
    sqlite3.SQLITE_FULL: "free space on the disk of storage.path",
    sqlite3.SQLITE_READONLY: "this user must be able to write to the folder of storage.path",
    sqlite3.SQLITE_CANTOPEN: "this user must be able to write to the folder of storage.path",
}
_UNAVAILABLE: Final = {
    "25006": "the server takes no writes: name the primary in storage.database, not a standby",
    "25P03": "a transaction was left open for too long; look at the load of this machine",
    "53100": _SPACE,
    "53300": "raise max_connections on the server, or let fewer processes use it",
}
"""SQLSTATEs that may pass without a change of the program, with what to do."""
_REFUSED: Final = {
    "42501": "the user of storage.database must own the database's tables",
    "42P01": "run `orchestrator db upgrade`",
}
_OUR_CLASSES: Final = ("08", "40", "53", "55", "57", "58")
"""Classes of SQLSTATEs about connections, rollbacks, resources, locks, operators and the server's system."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn the library's errors into ours: the only place that does."""
    try:
        yield
    except (sa.InterfaceError, sa.OperationalError, sa.TimeoutError) as error:
        raise StoreUnavailable(f"the database did not answer: {_said(error)}", _remedy(error)) from error
    except sa.DBAPIError as error:
        state = _state(error)
        if isinstance(error, sa.ProgrammingError) and error.statement is None and not state:
            # There was no statement yet: the driver refuses to connect in this way.
            raise InvalidInput(f"the database's address is wrong: {_said(error)}", _OPTIONS) from error
        if error.connection_invalidated:
            raise StoreUnavailable(f"the database closed the connection: {_said(error)}") from error
        if state in _UNAVAILABLE or state[:2] in _OUR_CLASSES:
            raise StoreUnavailable(f"the database cannot work now: {_said(error)}", _remedy(error)) from error
        raise StoreError(f"the database refused a statement: {_said(error)}", _remedy(error)) from error
    except sqlite3.Error as error:
        # From statements that went to SQLite's driver by themselves.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if isinstance(error, sqlite3.OperationalError | sqlite3.InterfaceError):
            raise StoreUnavailable(f"the database did not answer: {error}", _SQLITE.get(code, "")) from error
        raise StoreError(f"the database refused a statement: {error}", _SQLITE.get(code, "")) from error
    except sa.StatementError as error:
        # A value was refused before it reached the database: the caller's own mistake, said in its own words.
        raise error.orig or error from None


def _state(error: sa.SQLAlchemyError) -> str:
    """PostgreSQL's SQLSTATE; empty where there is none."""
    original = error.orig if isinstance(error, sa.StatementError) else None
    return getattr(original, "sqlstate", None) or ""


def _remedy(error: sa.SQLAlchemyError) -> str:
    original = error.orig if isinstance(error, sa.StatementError) else None
    if isinstance(original, sqlite3.Error):
        # The code's low byte is its kind. Errors of the driver itself have none.
        return _SQLITE.get(getattr(original, "sqlite_errorcode", 0) & 0xFF, "")
    state = _state(error)
    if not state and isinstance(error, sa.OperationalError):
        return _remedy_to_connect(original)
    return _UNAVAILABLE.get(state) or _REFUSED.get(state, "")


def _remedy_to_connect(original: BaseException | None) -> str:
    """For a connection that was not made: then the driver has no SQLSTATE, only how far it came."""
    connection = getattr(original, "pgconn", None)
    if getattr(connection, "needs_password", False):
        return _ASKED
    return _LOGIN if getattr(connection, "used_password", False) else _REACHABLE


def _said(error: sa.SQLAlchemyError) -> str:
    """What the driver said, without the statement, its values, and the row that a server quotes."""
    original = error.orig if isinstance(error, sa.StatementError) else None
    diagnosis = getattr(original, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    return " ".join(str(primary or original or error).split())
