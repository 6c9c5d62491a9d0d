"""Bringing a database's tables to this version. The revisions in ``versions`` ship with the package.

Alembic is imported when tables are to change: whoever only opens a database of this version reads one row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from orchestrator.domain.errors import StoreError
from orchestrator.store.engine import (
    exists,
    lock_for_migration,
    make_room,
    open_engine,
    parse_url,
)
from orchestrator.store.failures import translated

HEAD: Final = "0012"
"""The newest revision in ``versions``: what this version of the program needs."""


def current(url: str) -> str | None:
    """The revision of a database, or None when it is empty. Raises StoreUnavailable."""
    if not exists(parse_url(url)):
        return None
    with connected(url, writes=False) as connection:
        return _revision(connection)


def is_current(url: str) -> bool:
    """Whether a database has exactly the tables that this version needs. Raises StoreUnavailable."""
    return current(url) == HEAD


def is_known(revision: str) -> bool:
    """Whether this version has that revision."""
    return any(
        path.name.startswith(f"{revision}_") for path in (Path(__file__).parent / "versions").iterdir()
    )


def upgrade(url: str, to: str = HEAD) -> None:
    """Bring a database to this version, creating it where there is none: all or nothing, one at a time.

    An older revision ``to`` is for copies of databases that have it. Raises StoreUnavailable, and StoreError
    when the database is newer than the program.
    """
    make_room(parse_url(url))
    with connected(url) as connection:
        lock_for_migration(connection)
        if _revision(connection) != to:
            migrate(connection, to)


@contextmanager
def connected(url: str, *, writes: bool = True) -> Iterator[Connection]:
    """A connection in a transaction, in which tables may change when it ``writes``; committed at the end."""
    engine = open_engine(parse_url(url), for_migrations=writes)
    try:
        with translated(), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)


def migrate(connection: Connection, to: str = HEAD) -> None:
    """Bring the tables of a connection's database to a revision, in its transaction. Raises StoreError."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # A percent sign in the path would be read as a reference.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise StoreError(
            f"the database is at revision {_revision(connection)}, which this version does not know",
            "install the version that made it, or a newer one",
        ) from error
