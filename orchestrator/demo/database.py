"""The demo's own corner of a PostgreSQL database, which may hold other things."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote

from orchestrator.demo.errors import NotReady


def emptied(url: str, folder: Path) -> str:
    """The address of an empty schema for the demo in a folder, in the database at ``url``.

    What an earlier demo in that folder left there is removed. Raises NotReady when the database cannot be
    used.
    """
    try:
        import psycopg
    except ImportError as error:
        raise NotReady(f"--database needs the extra postgres: {error}") from None
    schema = f"demo_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
            connection.execute(f"CREATE SCHEMA {schema}".encode())
    except psycopg.Error as error:
        raise NotReady(f"the database of --database cannot be used: {error}") from None
    return f"{url}{'&' if '?' in url else '?'}options={quote(f'-csearch_path={schema}')}"
