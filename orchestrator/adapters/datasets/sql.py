"""The result of a query, as one file: told apart by its content, and read without a way to write.

Rows come in the order that the query asks for. Where it asks for none, a database gives them in any order, so
they are put in one here: the same rows are the same data.
"""

from __future__ import annotations

import heapq
import json
import math
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from datetime import time as time_of_day
from pathlib import Path
from typing import IO, Final

from sqlalchemy import URL, Connection, CursorResult, Engine, create_engine, event, exc, make_url
from sqlalchemy.pool import NullPool

from orchestrator.adapters.datasets.access import Accesses, access_to, option
from orchestrator.adapters.datasets.place import Keep, RemoteFile
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.report import format_size
from orchestrator.domain.text import clean

_TIMEOUT: Final = 300.0
_LIMIT: Final = 1 << 30
_ROWS: Final = 1000
_SORTED_AT_ONCE: Final = 32 << 20
"""Bytes of rows that are sorted in memory; more are sorted in pieces, on disk."""
_CHUNK: Final = 1 << 20
_QUOTED: Final = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$\$.*?\$\$""", re.DOTALL)
_ORDER_BY: Final = re.compile(r"\border\s+by\b", re.IGNORECASE)
_NEEDS_QUOTES: Final = re.compile(r'[",\r\n]|^\s|\s$|^$')
_PARQUET_ROWS: Final = 100_000
_MYSQL_DRIVERS: Final = ("pymysql", "mysqldb")


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of which database, and within which bounds: seconds and bytes."""

    dataset: DatasetSpec
    url: URL
    query: str
    timeout: float
    limit: int

    @property
    def place(self) -> str:
        """The database for people, without a password."""
        return self.url.render_as_string(hide_password=True)


class SqlPlace:
    """The Place of queries' results. ``spool`` is where large results are sorted (None: the system's)."""

    def __init__(self, accesses: Accesses, spool: Path | None = None) -> None:
        self._accesses = accesses
        self._spool = spool

    def files(self, dataset: DatasetSpec, keep: Keep) -> Iterable[RemoteFile]:
        """One file, ``result.csv`` or ``result.parquet``."""
        with ExitStack() as stack:
            yield keep(self._name(dataset), stack.enter_context(self._result(dataset)))

    @contextmanager
    def open(self, dataset: DatasetSpec, entry: FileEntry, offset: int) -> Iterator[Iterator[bytes]]:
        """The query is asked once more: what comes is compared by its hash by whoever asked."""
        with self._result(dataset) as chunks:
            yield _after(chunks, offset)

    def _name(self, dataset: DatasetSpec) -> str:
        return f"result.{option(dataset, 'format') or 'csv'}"

    @contextmanager
    def _result(self, dataset: DatasetSpec) -> Iterator[Iterator[bytes]]:
        access = access_to(dataset, self._accesses)
        try:
            url = make_url(access.secrets.get("sql", ""))
        except exc.ArgumentError:
            raise DatasetRefused(
                f"dataset {dataset.name}: its sql: is no address of a database",
                "DIALECT://USER:PASSWORD@HOST/DATABASE, as SQLAlchemy writes it",
            ) from None
        question = _Question(
            dataset,
            url,
            option(dataset, "query") or "",
            float(access.settings.get("timeout", _TIMEOUT)),
            int(access.settings.get("limit", _LIMIT)),
        )
        parquet = option(dataset, "format") == "parquet"
        with (
            tempfile.TemporaryDirectory(dir=self._spool) as spool,
            _translated(question),
            _connected(question) as connection,
        ):
            deadline = time.monotonic() + question.timeout
            # Without parameters a percent sign is one.
            asking = connection.execution_options(stream_results=True, no_parameters=True)
            result = asking.exec_driver_sql(question.query)
            if not result.returns_rows:
                raise DatasetRefused(
                    f"dataset {dataset.name}: its query gives no rows", "write one SELECT as query:"
                )
            rows = _rows(question, result, deadline)
            ordered = bool(_ORDER_BY.search(_outermost(question.query)))
            write = _parquet if parquet else _csv
            yield write(list(result.keys()), rows, ordered, Path(spool))


def _rows(
    question: _Question, result: CursorResult[tuple[object, ...]], deadline: float
) -> Iterator[Sequence[object]]:
    size = 0
    for rows in result.partitions(_ROWS):
        if time.monotonic() > deadline:
            raise _too_slow(question)
        for row in rows:
            size += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
            yield row
        if size > question.limit:
            raise DatasetRefused(
                f"dataset {question.dataset.name}: its result is larger than {format_size(question.limit)}",
                "ask for less, or raise limit:",
            )


def _csv(
    names: Sequence[str], rows: Iterable[Sequence[object]], ordered: bool, spool: Path
) -> Iterator[bytes]:
    """Comma-separated values, as RFC 4180 writes them but for the ends of lines; NULL is an empty field
    without quotes.
    """
    lines = (_line(row) for row in rows)
    buffer = bytearray(_line(names).encode())
    for line in lines if ordered else _sorted(lines, spool):
        buffer += line.encode()
        if len(buffer) >= _CHUNK:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def _sorted(lines: Iterable[str], spool: Path) -> Iterator[str]:
    """All lines in order, with little of them in memory. Those of several rows stay together."""
    with ExitStack() as stack:
        pieces: list[Iterator[str]] = []
        batch: list[str] = []
        size = 0
        for line in lines:
            batch.append(line)
            size += len(line)
            if size >= _SORTED_AT_ONCE:
                pieces.append(_spilled(sorted(batch), stack.enter_context(_spill(spool))))
                batch, size = [], 0
        batch.sort()
        yield from heapq.merge(*pieces, batch)


def _spill(spool: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=spool)


def _spilled(lines: Sequence[str], file: IO[bytes]) -> Iterator[str]:
    for line in lines:
        # A value may hold an end of line: each line goes as JSON, which never does.
        file.write(json.dumps(line).encode() + b"\n")
    file.seek(0)
    return (str(json.loads(line)) for line in file)


def _parquet(
    names: Sequence[str], rows: Iterable[Sequence[object]], ordered: bool, spool: Path
) -> Iterator[bytes]:
    """A Parquet file, whose rows are in memory together while it is written."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DatasetRefused(
            f"writing Parquet needs the package {error.name}", "pip install 'ml-ci-orchestrator[parquet]'"
        ) from error
    columns: list[list[object]] = [[] for _ in names]
    for row in rows if ordered else sorted(rows, key=_line):
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    table = pa.table(dict(zip(names, (pa.array(column) for column in columns), strict=True)))
    path = spool / "result.parquet"
    parquet.write_table(table, path, row_group_size=_PARQUET_ROWS)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _line(row: Sequence[object]) -> str:
    return ",".join([_field(value) for value in row]) + "\n"


def _field(value: object) -> str:
    """A value as text that is the same each time."""
    match value:
        case None:
            return ""
        case str():
            text = value
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value) if math.isfinite(value) else str(value)
        case date() | time_of_day():
            text = value.isoformat()
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case dict() | list():
            text = json.dumps(value, sort_keys=True, default=str)
        case _:
            text = str(value)
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def _outermost(query: str) -> str:
    """A query without its comments, its texts and what stands in parentheses."""
    bare = _QUOTED.sub(" ", query)
    while (shorter := re.sub(r"\([^()]*\)", " ", bare)) != bare:
        bare = shorter
    return bare


def _after(chunks: Iterator[bytes], offset: int) -> Iterator[bytes]:
    for chunk in chunks:
        if offset < len(chunk):
            yield chunk[offset:]
        offset = max(0, offset - len(chunk))


@contextmanager
def _connected(question: _Question) -> Iterator[Connection]:
    """A connection that cannot write, and gives up in time."""
    engine = _engine(question)
    try:
        with engine.connect() as connection:
            yield connection
            connection.rollback()
    finally:
        engine.dispose()


def _engine(question: _Question) -> Engine:
    milliseconds = max(1, round(question.timeout * 1000))
    match question.url.get_backend_name():
        case "sqlite":
            return _sqlite(question)
        case "postgresql":
            settings = f"-c default_transaction_read_only=on -c statement_timeout={milliseconds}"
            # The server ends what takes long; the rest is for a server or a network that has gone.
            gone = {"keepalives_idle": 10, "keepalives_interval": 10, "keepalives_count": 3}
            arguments = {"connect_timeout": 20, "options": settings, "tcp_user_timeout": 30_000, **gone}
            return create_engine(question.url, poolclass=NullPool, connect_args=arguments)
        case "mysql" | "mariadb":
            if question.url.get_driver_name() not in _MYSQL_DRIVERS:
                raise DatasetRefused(
                    f"dataset {question.dataset.name}: {question.url.drivername} may never give up",
                    " or ".join(f"mysql+{driver}://" for driver in _MYSQL_DRIVERS),
                )
            seconds = max(1, round(question.timeout))
            # A server of MySQL may ask its client for any file of this machine, unless the client says no.
            limits = {"connect_timeout": 20, "read_timeout": seconds, "write_timeout": 20, "local_infile": 0}
            engine = create_engine(question.url, poolclass=NullPool, connect_args=limits)

            @event.listens_for(engine, "connect")
            def read_only(connection: object, record: object) -> None:
                with connection.cursor() as cursor:  # type: ignore[attr-defined]  # any driver's connection
                    cursor.execute("SET SESSION TRANSACTION READ ONLY")

            return engine
        case other:
            raise DatasetRefused(
                f"dataset {question.dataset.name}: {other} cannot be kept from writing as far as is known",
                "one of sqlite, postgresql, mysql, mariadb",
            )


def _sqlite(question: _Question) -> Engine:
    import sqlite3

    path = question.url.database or ""
    if not Path(path).is_absolute():
        raise DatasetRefused(
            f"dataset {question.dataset.name}: {question.place} is not an absolute path",
            "sqlite:////PATH, with four slashes",
        )

    def connect() -> sqlite3.Connection:
        address = f"{Path(path).as_uri()}?mode=ro"
        connection = sqlite3.connect(address, uri=True, timeout=20, check_same_thread=False)
        deadline = time.monotonic() + question.timeout
        connection.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(lambda: int(time.monotonic() > deadline), 10_000)
        return connection

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _too_slow(question: _Question) -> DatasetUnavailable:
    return DatasetUnavailable(
        f"dataset {question.dataset.name}: its query takes longer than {question.timeout:g} s",
        "make it faster, with an index perhaps, or raise timeout:",
    )


@contextmanager
def _translated(question: _Question) -> Iterator[None]:
    began = time.monotonic()
    name = f"dataset {question.dataset.name}"
    try:
        yield
    except (exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatasetRefused(
            f"{name}: the driver for {question.url.drivername} is not installed", "install its package"
        ) from error
    except (exc.ProgrammingError, exc.InternalError, exc.NotSupportedError) as error:
        raise DatasetRefused(
            f"{name}: {question.place} refuses the query: {_said(question, error)}", "correct query:"
        ) from error
    except (exc.DBAPIError, exc.TimeoutError) as error:
        if time.monotonic() - began >= question.timeout:
            raise _too_slow(question) from error
        raise DatasetUnavailable(
            f"{name}: {question.place} gives no result: {_said(question, error)}",
            "check the address, the database and the query",
        ) from error


def _said(question: _Question, error: exc.SQLAlchemyError) -> str:
    """The first line of what the driver says, without the password."""
    text = clean(str(getattr(error, "orig", None) or error).strip().partition("\n")[0])
    password = question.url.password
    return text.replace(str(password), "***") if password else text
