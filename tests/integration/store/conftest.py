"""A database on a real PostgreSQL server for each test of the store."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from orchestrator.store import migrations
from orchestrator.store.tables import Base
from tests.support.postgres import PostgresServer
from tests.unit.store.conftest import database, store

__all__ = ["database", "store"]


@pytest.fixture
def empty_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database that has no tables yet."""
    with postgres_server.database() as name:
        yield postgres_server.url(name)


class Reused:
    """A database with tables, emptied between tests: making one anew costs ten times as much."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._made = server.database()
        self._name = ""

    def url(self) -> str:
        """Its URL: tables of this version, and not a row, not even an id."""
        if not self._name:
            self._made = self._server.database()
            self._name = self._made.__enter__()
            migrations.upgrade(self._server.url(self._name))
        return self._server.url(self._name)

    def empty(self) -> None:
        """Remove all rows, and the database itself when a test changed its tables."""
        tables = sql.SQL(", ").join(sql.Identifier(table.name) for table in Base.metadata.sorted_tables)
        with self._server.connected(self._name) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
            )
            try:
                connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables))
                found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            except psycopg.errors.UndefinedTable:
                found = []
        if found != [(migrations.HEAD,)]:
            self.drop()

    def drop(self) -> None:
        """Remove it; the next who asks gets another."""
        if self._name:
            self._made.__exit__(None, None, None)
            self._name = ""


@pytest.fixture(scope="session")
def reused(postgres_server: PostgresServer) -> Iterator[Reused]:
    made = Reused(postgres_server)
    yield made
    made.drop()


@pytest.fixture
def url(reused: Reused) -> Iterator[str]:
    """The URL of a database with tables."""
    yield reused.url()
    reused.empty()
