"""CSV and TSV: each column is a series, and its last value that is not empty the metric."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Final

from orchestrator.adapters.collectors.common import Findings, lines_of, number, seconds
from orchestrator.domain.collected import Reading
from orchestrator.domain.errors import InvalidInput
from orchestrator.ports.collecting import LeftFile

_SEPARATORS: Final = (",", "\t", ";", "|")
_STEPS: Final = ("step", "global_step", "iteration", "iter", "epoch")
"""Columns that say at which step a row was written, the better ones first."""
_MOMENTS: Final = ("timestamp", "wall_time")
_NAMES: Final = frozenset({"metric", "name", "key"})
_EXPECTED: Final = "expected a line of names, and below it rows of numbers"
_MOST_COLUMNS: Final = 10_000


def read_table(file: LeftFile, reader: str = "csv", *, without: Sequence[str] = ()) -> Reading:
    """A table's numbers. Columns of texts are left out, and so are those in ``without``."""
    found = Findings(reader, file.path)
    note_table(found, file, without=without)
    return found.reading()


def note_table(
    found: Findings, file: LeftFile, *, prefix: str = "", without: Sequence[str] = (), name: str = ""
) -> None:
    """Note a table's numbers, their names behind ``prefix``.

    ``name`` is that of the one column of numbers when it differs from its header. A table of the columns
    ``metric`` and ``value`` has a metric in each row. Raises InvalidInput for what is no such table.
    """
    rows = _rows(file)
    header = [column.strip() for column in next(rows, (0, []))[1]]
    if not any(header):
        raise InvalidInput(f"{file.path}: the file is empty", _EXPECTED)
    if len(header) > _MOST_COLUMNS:
        raise InvalidInput(f"{file.path}: it has {len(header)} columns", f"at most {_MOST_COLUMNS} columns")
    if all(number(column) is not None for column in header):
        raise InvalidInput(f"{file.path}:1: the first line has numbers and no names", _EXPECTED)
    named = [column for column in header if column]
    if len(set(named)) < len(named):
        twice = next(column for column in named if named.count(column) > 1)
        raise InvalidInput(f"{file.path}:1: two columns are called {twice!r}", "rename one of them")
    low = [column.lower() for column in header]
    if len(low) == 2 and low[0] in _NAMES and low[1] == "value":
        _note_list(found, file, rows, prefix)
        return
    _note_columns(found, file, rows, header, prefix, set(without), name)


def _note_list(found: Findings, file: LeftFile, rows: Iterator[tuple[int, list[str]]], prefix: str) -> None:
    seen: set[str] = set()
    for at, row in rows:
        if not row:
            continue
        if len(row) != 2 or (value := number(row[1])) is None:
            raise InvalidInput(f"{file.path}:{at}: this row has no name with a number", "name,number")
        if row[0] in seen:
            raise InvalidInput(f"{file.path}:{at}: two numbers are called {row[0]!r}", "rename one of them")
        seen.add(row[0])
        found.metric(prefix + row[0], value, source=file.path)


def _note_columns(
    found: Findings,
    file: LeftFile,
    rows: Iterator[tuple[int, list[str]]],
    header: Sequence[str],
    prefix: str,
    without: set[str],
    name: str,
) -> None:
    low = [column.lower() for column in header]
    axis = next((low.index(column) for column in _STEPS if column in low), -1)
    moment = next((low.index(column) for column in _MOMENTS if column in low), -1)
    aside = {*_STEPS, *_MOMENTS} if len(set(low) - {*_STEPS, *_MOMENTS} - without) else set()
    columns = [
        (index, prefix + (name or column))
        for index, column in enumerate(header)
        if column and low[index] not in aside and column not in without
    ]
    words: set[int] = set()
    count, wrong = 0, 0
    for at, row in rows:
        if not any(row):
            continue
        if len(row) > len(header):
            wrong = wrong or at
            continue
        count += 1
        step = number(row[axis]) if 0 <= axis < len(row) else None
        when = number(row[moment]) if 0 <= moment < len(row) else None
        for index, column in columns:
            if index >= len(row) or index in words or not row[index]:
                continue
            value = number(row[index])
            if value is None:
                words.add(index)
                if not row[index].strip():
                    words.discard(index)
                continue
            found.point(
                column,
                count - 1 if step is None else step,
                value,
                math.nan if when is None else seconds(when),
                file.path,
            )
    if wrong:
        found.warn(f"{file.path}:{wrong}: this row, and maybe others, has more values than there are names")
    if not count:
        raise InvalidInput(f"{file.path}: there are no rows below its names", _EXPECTED)
    texts = [header[index] for index in sorted(words)]
    if texts and len(texts) == len(columns):
        raise InvalidInput(
            f"{file.path}: column {texts[0]!r} holds texts, and no other holds numbers", _EXPECTED
        )
    if texts:
        found.warn(f"{file.path}: of the columns {', '.join(texts[:5])} not all values are numbers")


def _rows(file: LeftFile) -> Iterator[tuple[int, list[str]]]:
    """The rows with the number of their line."""
    lines = lines_of(file)
    first = next(((at, line) for at, line in lines if line.strip()), None)
    if first is None:
        return
    head = first[1]
    place = [first[0]]
    if "\0" in head:
        raise InvalidInput(f"{file.path}:{place[0]}: the line has zero bytes", _EXPECTED)
    separator = "\t" if file.path.lower().endswith(".tsv") else max(_SEPARATORS, key=head.count)

    def texts() -> Iterator[str]:
        yield head + "\n"
        for at, line in lines:
            place[0] = at
            yield line + "\n"

    reader = csv.reader(texts(), delimiter=separator)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise InvalidInput(
                f"{file.path}:{place[0]}: the row cannot be read: {error}", _EXPECTED
            ) from None
        if row is None:
            return
        yield place[0], row


def header_of(file: LeftFile) -> list[str]:
    """The names in a table's first line; none where it cannot be read."""
    with file.open() as stream:
        line = stream.readline(1 << 16)
    try:
        text = line.decode("utf-8-sig")
        return [column.strip() for column in next(csv.reader(io.StringIO(text)), [])]
    except (UnicodeDecodeError, csv.Error):
        return []
