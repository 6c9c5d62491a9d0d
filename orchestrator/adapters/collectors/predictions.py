"""Files with a prediction for each row of the evaluation data: CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

from orchestrator.adapters.collectors.common import lines_of
from orchestrator.adapters.collectors.jsonlines import parse_line
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.predictions import Column, Predictions
from orchestrator.ports.collecting import LeftFile

MOST_ROWS: Final = 20_000_000
_MOST_COLUMNS: Final = 1_000
_MOST_WORDS: Final = 5_000_000
"""So many different texts of all columns together are kept."""
_TOGETHER: Final = 1 << 14
_LARGEST: Final = 2 << 30
_LONGEST_LINE: Final = 1 << 20
_EXPECTED: Final = (
    "expected a line of names, one of them the row's id, and a row below it for each prediction"
)

Rows = Iterator[Sequence[str]]


def read_predictions(file: LeftFile) -> Predictions:
    """All columns. Raises InvalidInput for an unknown format, and for what cannot be read as that."""
    suffix = PurePosixPath(file.path.lower()).suffix
    if suffix not in _READERS:
        raise InvalidInput(
            f"{file.path}: predictions are not read from {suffix or 'files without a suffix'}",
            f"one of {', '.join(_READERS)}",
        )
    if not 0 < file.size <= _LARGEST:
        what = f"it has {file.size} bytes, and may have {_LARGEST}" if file.size else "the file is empty"
        raise InvalidInput(f"{file.path}: {what}", _EXPECTED)
    texts: set[str] = set()
    while True:
        # A column is one of numbers until a value is none; all is then read again with that one as texts.
        read = _Reading(file.path, texts)
        try:
            _READERS[suffix](file, read)
        except _TextsAmongNumbers as found:
            texts.add(found.args[0])
        else:
            return read.predictions()


class _TextsAmongNumbers(Exception):
    """The column of this name holds texts after all."""


class _Reading:
    """Columns while they grow. ``texts`` are those known to hold texts; more are added to it."""

    def __init__(self, path: str, texts: set[str]) -> None:
        self._path = path
        self._texts = texts
        self._header: Sequence[str] = ()
        self._numbers: dict[str, array[float]] = {}
        self._codes: dict[str, array[int]] = {}
        self._words: dict[str, dict[str, int]] = {}
        self._rows = 0

    def begin(self, header: Sequence[str]) -> None:
        """The names. InvalidInput when they are none."""
        if len(set(header)) < len(header) or not all(header) or len(header) > _MOST_COLUMNS:
            raise InvalidInput(f"{self._path}:1: a column has no name or the name of another", _EXPECTED)
        self._header = header
        for name in header:
            self._numbers[name] = array("d")
            self._codes[name] = array("i")
            self._words[name] = {}

    def add(self, rows: Rows) -> None:
        """All rows, some at a time."""
        while block := list(islice(rows, _TOGETHER)):
            self._rows += len(block)
            if self._rows > MOST_ROWS:
                raise InvalidInput(f"{self._path}: it has more than {MOST_ROWS} rows", "fewer rows")
            if set(map(len, block)) != {len(self._header)}:
                at = next(at for at, row in enumerate(block) if len(row) != len(self._header))
                raise InvalidInput(
                    f"{self._path}: row {self._rows - len(block) + at + 1} has {len(block[at])} values"
                    f" and there are {len(self._header)} names",
                    _EXPECTED,
                )
            for name, values in zip(self._header, zip(*block, strict=True), strict=True):
                self._extend(name, values)

    def _extend(self, name: str, values: Sequence[str]) -> None:
        if name not in self._texts:
            try:
                self._numbers[name].extend(map(float, values))
                return
            except ValueError:
                if self._rows > len(values):
                    raise _TextsAmongNumbers(name) from None
                self._texts.add(name)
        words = self._words[name]
        self._codes[name].extend([words.setdefault(value, len(words)) for value in values])
        if sum(map(len, self._words.values())) > _MOST_WORDS:
            raise InvalidInput(
                f"{self._path}: its columns have more than {_MOST_WORDS} different texts", "numbers as ids"
            )

    def predictions(self) -> Predictions:
        """What was read."""
        if not self._rows:
            raise InvalidInput(f"{self._path}: there are no rows below its names", _EXPECTED)
        columns = {
            name: Column(codes=self._codes[name], words=tuple(self._words[name]))
            if name in self._texts
            else Column(self._numbers[name])
            for name in self._header
        }
        return Predictions(self._path, self._rows, columns)


def _csv(file: LeftFile, read: _Reading) -> None:
    with file.open() as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
        try:
            head = text.readline(_LONGEST_LINE)
            tabs = file.path.lower().endswith(".tsv")
            separator = "\t" if tabs else max(",;\t|", key=head.count)
            read.begin([name.strip() for name in next(csv.reader([head], delimiter=separator), [])])
            read.add(filter(None, csv.reader(text, delimiter=separator)))
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{file.path}: it is not UTF-8: {error.reason}", "write it as UTF-8") from None
        except csv.Error as error:
            raise InvalidInput(f"{file.path}: it cannot be read: {error}", _EXPECTED) from None


def _json_lines(file: LeftFile, read: _Reading) -> None:
    names: list[str] = []

    def rows() -> Rows:
        for at, line in lines_of(file):
            if not line.strip():
                continue
            record = parse_line(line)
            if record is None or (names and set(record) != set(names)):
                raise InvalidInput(
                    f"{file.path}:{at}: this is no JSON object with the names of the first", _EXPECTED
                )
            if not names:
                names.extend(record)
                read.begin(names)
            yield [_text(record[name]) for name in names]

    read.add(rows())


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _parquet(file: LeftFile, read: _Reading) -> None:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise InvalidInput(
            f"{file.path}: reading Parquet needs the extra [parquet], which is not installed", "CSV"
        ) from None
    try:
        with file.open() as stream:
            opened = parquet.ParquetFile(stream)
            if opened.metadata.num_rows > MOST_ROWS:
                raise InvalidInput(f"{file.path}: it has more than {MOST_ROWS} rows", "fewer rows")
            read.begin(opened.schema_arrow.names)

            def rows() -> Rows:
                for batch in opened.iter_batches(batch_size=_TOGETHER, use_threads=False):
                    columns = [map(_text, column.to_pylist()) for column in batch.columns]
                    yield from zip(*columns, strict=True)

            read.add(rows())
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidInput(f"{file.path}: it is no Parquet that can be read: {error}", "CSV") from None


_READERS: Final[Mapping[str, Callable[[LeftFile, _Reading], None]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
