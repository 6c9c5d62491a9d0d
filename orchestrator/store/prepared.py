"""Statements that every run needs: put together once, and on SQLite handed to the driver as they are.

A small statement takes SQLite a few microseconds, and what SQLAlchemy does around each execution ten times
that: a quarter of the processor time of a server with all slots busy. What is prepared still has SQLAlchemy's
words and types. PostgreSQL, which is waited for anyway, gets it in the usual way.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVarTuple, cast

from sqlalchemy import Connection, Delete, Dialect, Insert, Row, Select, Update
from sqlalchemy.types import TypeEngine

Ts = TypeVarTuple("Ts")
Values = Mapping[str, object]
_Convert = Callable[[Any], Any]
_Statement = Select[*tuple[Any, ...]] | Update | Delete | Insert
_NO_VALUES: Final[Values] = MappingProxyType({})


class _Text:
    """A statement as SQLite reads it, and what it puts in the places of the question marks."""

    def __init__(self, statement: _Statement, keys: Sequence[str], dialect: Dialect) -> None:
        # What a select is given are no columns.
        columns = None if isinstance(statement, Select) else list(keys)
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        # Fixed values are in here; those that the caller is to give are not yet.
        expanded = compiled.construct_expanded_state(dict.fromkeys(keys))
        self.sql = expanded.statement
        self._places: list[tuple[str, _Convert | None, object]] = []
        """Under which name the caller gives a value, and how it is converted; or no name, and a value."""
        for name in expanded.positiontup or ():
            bound = compiled.binds.get(name)
            convert = expanded.processors.get(name) if bound is None else _binding(bound.type, dialect)
            if name in keys:
                self._places.append((name, convert, None))
            else:
                value = expanded.parameters[name]
                self._places.append(("", None, value if convert is None else convert(value)))

    def bound(self, values: Values) -> list[object]:
        """The values in the order of the question marks."""
        return [
            fixed if not name else values[name] if convert is None else convert(values[name])
            for name, convert, fixed in self._places
        ]


class PreparedQuery(Generic[*Ts]):
    """A select. Its values are given by name; lists of any length are not among them."""

    def __init__(self, statement: Select[*Ts]) -> None:
        self._statement = statement
        self._text: _Text | None = None
        columns = list(statement.selected_columns)
        row = namedtuple("row", [column.key or "" for column in columns], rename=True)  # type: ignore[misc]
        self._make: Callable[[Iterable[Any]], tuple[Any, ...]] = row._make
        self._types = [column.type for column in columns]
        self._results: list[_Convert | None] = []
        self._plain = True

    def rows(self, connection: Connection, values: Values = _NO_VALUES) -> Sequence[Row[*Ts]]:
        """All rows; their columns by place or by name."""
        driver = _driver(connection)
        if driver is None:
            return connection.execute(self._statement, values).all()
        text = self._text or self._prepare(values, connection.dialect)
        found = driver.execute(text.sql, text.bound(values)).fetchall()
        # A named tuple has what is used of a Row.
        return cast("Sequence[Row[*Ts]]", found if not found else self._converted(found))

    def one_or_none(self, connection: Connection, values: Values = _NO_VALUES) -> Row[*Ts] | None:
        """The first row, or None."""
        rows = self.rows(connection, values)
        return rows[0] if rows else None

    def scalars(self, connection: Connection, values: Values = _NO_VALUES) -> list[Any]:
        """The first column of all rows."""
        rows = cast("Sequence[tuple[Any, ...]]", self.rows(connection, values))
        return [row[0] for row in rows]

    def scalar(self, connection: Connection, values: Values = _NO_VALUES) -> Any:  # noqa: ANN401 - as SQLAlchemy's
        """The first column of the first row; None without a row."""
        return next(iter(self.scalars(connection, values)), None)

    def _prepare(self, values: Values, dialect: Dialect) -> _Text:
        self._results = [_resulting(kind, dialect) for kind in self._types]
        self._plain = not any(self._results)
        # Last, for another thread takes it as the sign that all is there.
        self._text = _Text(self._statement, list(values), dialect)
        return self._text

    def _converted(self, found: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
        make = self._make
        if self._plain:
            return [make(row) for row in found]
        results = self._results
        return [
            make(
                [
                    value if convert is None else convert(value)
                    for convert, value in zip(results, row, strict=True)
                ]
            )
            for row in found
        ]


class PreparedWrite:
    """An insert, an update or a delete. The columns that it writes are those that it is given values for."""

    def __init__(self, *by_dialect: Update | Delete | Insert) -> None:
        """One statement for all databases, or one for SQLite and one for PostgreSQL."""
        first, last = (
            each.execution_options(preserve_rowcount=True) if isinstance(each, Insert) else each
            for each in (by_dialect[0], by_dialect[-1])
        )
        self._sqlite, self._other = first, last
        self._texts: dict[tuple[str, ...], _Text] = {}

    def count(self, connection: Connection, values: Values = _NO_VALUES) -> int:
        """Execute it; how many rows it changed."""
        driver = _driver(connection)
        if driver is None:
            return connection.execute(self._statement(connection), values).rowcount
        return self._executed(driver, connection, values).rowcount

    def number(self, connection: Connection, values: Values) -> int | None:
        """Execute an insert; the id of the new row, or None where there is none."""
        driver = _driver(connection)
        if driver is None:
            result = connection.execute(self._statement(connection), values)
            key = result.inserted_primary_key if result.rowcount > 0 else None
            return None if key is None else int(key[0])
        cursor = self._executed(driver, connection, values)
        return cursor.lastrowid if cursor.rowcount > 0 else None

    def each(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Execute it for each of these, which all name the same columns."""
        if not rows:
            return
        driver = _driver(connection)
        if driver is None:
            connection.execute(self._statement(connection), rows)
            return
        text = self._text(rows[0], connection)
        driver.executemany(text.sql, [text.bound(values) for values in rows])

    def _statement(self, connection: Connection) -> Update | Delete | Insert:
        return self._sqlite if connection.dialect.name == "sqlite" else self._other

    def _executed(self, driver: sqlite3.Connection, connection: Connection, values: Values) -> sqlite3.Cursor:
        text = self._text(values, connection)
        return driver.execute(text.sql, text.bound(values))

    def _text(self, values: Values, connection: Connection) -> _Text:
        keys = tuple(values)
        text = self._texts.get(keys)
        if text is None:
            text = self._texts[keys] = _Text(self._sqlite, keys, connection.dialect)
        return text


def _driver(connection: Connection) -> sqlite3.Connection | None:
    """SQLite's own connection, in a transaction that has begun; else None."""
    if connection.dialect.name != "sqlite":
        return None
    driver = cast(sqlite3.Connection, connection.connection.dbapi_connection)
    return driver if driver.in_transaction else None


def _binding(kind: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _resulting(kind: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    return kind.dialect_impl(dialect).result_processor(dialect, None)
