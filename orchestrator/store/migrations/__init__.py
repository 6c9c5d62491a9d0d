"""Bringing a database's tables to this version. The revisions in ``versions`` ship with the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from orchestrator.domain.errors import StoreError
from orchestrator.store.engine import (
    exists,
    lock_for_migration,
    make_room,
    open_engine,
    parse_url,
    translated,
)


def head() -> str:
    """The revision that this version of the program needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise StoreError("the program lacks its migrations", "install it again")
    return revision


def current(url: str) -> str | None:
    """The revision of a database, or None when it is empty. Raises StoreUnavailable."""
    if not exists(parse_url(url)):
        return None
    with connected(url, writes=False) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def is_current(url: str) -> bool:
    """Whether a database has exactly the tables that this version needs. Raises StoreUnavailable."""
    return current(url) == head()


def upgrade(url: str) -> None:
    """Bring a database to this version, creating it where there is none: all or nothing, one at a time.

    Raises StoreUnavailable, and StoreError when the database is newer than the program.
    """
    make_room(parse_url(url))
    with connected(url) as connection:
        lock_for_migration(connection)
        config = _config()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            found = MigrationContext.configure(connection).get_current_revision()
            raise StoreError(
                f"the database is at revision {found}, which this version does not know",
                "install the version that made it, or a newer one",
            ) from error


@contextmanager
def connected(url: str, *, writes: bool = True) -> Iterator[Connection]:
    """A connection in a transaction, in which tables may change when it ``writes``; committed at the end."""
    engine = open_engine(parse_url(url), for_migrations=writes)
    try:
        with translated(), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    # A percent sign in the path would be read as a reference.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
