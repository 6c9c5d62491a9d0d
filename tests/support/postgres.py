"""A real PostgreSQL server in a container, with a database for whoever asks."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import docker
import psycopg
from docker.errors import APIError
from docker.models.containers import Container
from psycopg import sql
from sqlalchemy import URL

from tests.support.engine import RUNNER_IMAGES, TEST_LABEL
from tests.support.network import free_port
from tests.support.waiting import wait_until

SERVER_FOLDER = RUNNER_IMAGES / "postgres"
PASSWORD = "p'a$s/w@rd \"%40"
"""What URLs, shells and SQL would each like to be quoted."""
USER = "orchestrator"


@dataclass(frozen=True)
class PostgresServer:
    """Where the server listens, and the container, to stop or restart (the port stays)."""

    port: int
    container: Container

    def url(self, database: str, password: str = PASSWORD) -> str:
        """The address of a database, as it is written in a configuration."""
        made = URL.create("postgresql", USER, password, "127.0.0.1", self.port, database)
        return made.render_as_string(hide_password=False)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The name of a new, empty database; gone afterwards, whoever uses it."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(sql.SQL("CREATE DATABASE {} STRATEGY FILE_COPY").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def execute(self, statement: sql.Composed) -> None:
        """Execute a statement outside of any transaction, in the database that is always there."""
        with self.connected() as connection:
            connection.execute(statement)

    def wait_until_it_answers(self) -> None:
        """Return once it takes connections, after a start or a restart."""
        wait_until(self._answers, f"PostgreSQL at port {self.port}", 60)

    def connected(self, database: str = USER) -> psycopg.Connection[tuple[object, ...]]:
        """A connection to a database in which each statement is a transaction."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

    def _answers(self) -> bool:
        try:
            self.connected().close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres_server(client: docker.DockerClient, image: str) -> Iterator[PostgresServer]:
    """Start a server with an empty database, and remove it afterwards with its data."""
    name = f"mlci-test-postgres-{uuid.uuid4().hex[:8]}"
    for remaining in (2, 1, 0):
        port = free_port()
        container = client.containers.create(
            image,
            # What a power cut would take with it does not matter here.
            ["-c", "fsync=off", "-c", "full_page_writes=off"],
            name=name,
            labels={TEST_LABEL: "postgres"},
            ports={"5432/tcp": ("127.0.0.1", port)},
        )
        try:
            container.put_archive("/run", _secret())
            container.start()
            break
        except APIError:
            container.remove(force=True, v=True)
            if not remaining:
                raise
    try:
        server = PostgresServer(port, container)
        server.wait_until_it_answers()
        allowed = container.exec_run(["psql", "-qc", f"ALTER ROLE {USER} CREATEDB"])
        assert allowed.exit_code == 0, allowed.output
        yield server
    finally:
        container.remove(force=True, v=True)


def _secret() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("secrets/postgres_password")
        content = f"{PASSWORD}\n".encode()
        member.size, member.mode, member.uid = len(content), 0o400, 999
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()
