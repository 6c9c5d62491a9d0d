"""Files with a prediction for each row of the evaluation data: CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import io
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from orchestrator.adapters.collectors.common import lines_of
from orchestrator.adapters.collectors.jsonlines import parse_line
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.predictions import Column, Predictions
from orchestrator.ports.collecting import LeftFile, Wanted

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet as parquet

MOST_ROWS: Final = 20_000_000
_MOST_COLUMNS: Final = 1_000
_TOGETHER: Final = 1 << 14
_TEXT_TOGETHER: Final = 4 << 20
"""Characters of the rows that are gathered before they are added to the columns."""
_LARGEST: Final = 2 << 30
_LONGEST_LINE: Final = 1 << 20
_LONGEST_TEXT: Final = 10_000
"""Bytes of a text in Parquet."""
_NUMBER: Final = 8
_CODE: Final = 4
_ENTRY: Final = 100
"""Bytes that a column takes for each number, each place of a text, and each text beside itself."""
_EXPECTED: Final = (
    "expected a line of names, one of them the row's id, and a row below it for each prediction"
)


def read_predictions(file: LeftFile, wanted: Wanted, most: int) -> Predictions:
    """The wanted columns. Raises InvalidInput for an unknown format, for what cannot be read as that, and
    for columns that take more than ``most`` bytes.
    """
    suffix = PurePosixPath(file.path.lower()).suffix
    if suffix not in _READERS:
        raise InvalidInput(
            f"{file.path}: predictions are not read from {suffix or 'files without a suffix'}",
            f"one of {', '.join(_READERS)}",
        )
    if not 0 < file.size <= _LARGEST:
        what = f"it has {file.size} bytes, and may have {_LARGEST}" if file.size else "the file is empty"
        raise InvalidInput(f"{file.path}: {what}", _EXPECTED)
    read = _Reading(file.path, wanted, most, frozenset())
    _READERS[suffix](file, read)
    read.flush()
    if read.turned:
        # A column is one of numbers until a value is none. "007" is kept as it was written, so all is read
        # once more, now knowing every column of texts.
        read = _Reading(file.path, wanted, most, frozenset(read.texts | read.turned))
        _READERS[suffix](file, read)
        read.flush()
    return read.predictions()


class _Reading:
    """Columns while they grow. ``texts`` are those known to hold texts, ``turned`` found to do so late."""

    def __init__(self, path: str, wanted: Wanted, most: int, texts: frozenset[str]) -> None:
        self._path = path
        self._wanted = wanted
        self._most = most
        self.texts = set(texts)
        self.turned: set[str] = set()
        self._header: Sequence[str] = ()
        self.kept: Sequence[str] = ()
        self._places: Sequence[int] = ()
        self._numbers: dict[str, array[float]] = {}
        self._codes: dict[str, array[int]] = {}
        self._words: dict[str, dict[str, int]] = {}
        self._rows = 0
        self._held = 0
        self._block: list[Sequence[str]] = []
        self._weight = 0

    def begin(self, header: Sequence[str]) -> None:
        """The names. InvalidInput when they are none."""
        if len(set(header)) < len(header) or not all(header) or len(header) > _MOST_COLUMNS:
            raise InvalidInput(f"{self._path}:1: a column has no name or the name of another", _EXPECTED)
        self._header = header
        wanted = self._wanted(header)
        self._places = [at for at, name in enumerate(header) if name in wanted]
        self.kept = [header[at] for at in self._places]
        for name in self.kept:
            self._numbers[name] = array("d")
            self._codes[name] = array("i")
            self._words[name] = {}

    def row(self, values: Sequence[str], weight: int) -> None:
        """One row with all its columns; ``weight`` is about how many characters it has."""
        if len(values) != len(self._header):
            raise InvalidInput(
                f"{self._path}: row {self._rows + 1} has {len(values)} values"
                f" and there are {len(self._header)} names",
                _EXPECTED,
            )
        self.add([values[at] for at in self._places], weight)

    def add(self, values: Sequence[str], weight: int) -> None:
        """One row of the columns that are kept."""
        self._rows += 1
        if self._rows > MOST_ROWS:
            raise InvalidInput(f"{self._path}: it has more than {MOST_ROWS} rows", "fewer rows")
        self._block.append(values)
        self._weight += weight
        if len(self._block) >= _TOGETHER or self._weight >= _TEXT_TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Add the rows that were gathered to the columns."""
        if self._block:
            for name, values in zip(self.kept, zip(*self._block, strict=True), strict=True):
                self._extend(name, values)
        self._block.clear()
        self._weight = 0

    def _extend(self, name: str, values: Sequence[str]) -> None:
        if name in self.turned:
            return
        numbers = self._numbers[name]
        if name not in self.texts:
            try:
                read = [float(value) for value in values]
            except ValueError:
                self._held -= len(numbers) * _NUMBER
            else:
                self._take(len(values) * _NUMBER)
                numbers.extend(read)
                return
            if numbers:
                self.turned.add(name)
                del numbers[:]
                return
            self.texts.add(name)
        words = self._words[name]
        self._take(len(values) * _CODE)
        for value in values:
            if value not in words:
                self._take(sys.getsizeof(value) + _ENTRY)
                words[value] = len(words)
        self._codes[name].extend([words[value] for value in values])

    def _take(self, size: int) -> None:
        self._held += size
        if self._held > self._most:
            raise InvalidInput(
                f"{self._path}: its columns take more than the {self._most} bytes that are left for the"
                " predictions of all files that are compared",
                "fewer rows, numbers as ids, or a baseline of fewer runs",
            )

    def predictions(self) -> Predictions:
        """What was read, once all is flushed."""
        if not self._rows:
            raise InvalidInput(f"{self._path}: there are no rows below its names", _EXPECTED)
        columns = {
            name: Column(codes=self._codes[name], words=tuple(self._words[name]))
            if name in self.texts
            else Column(self._numbers[name])
            for name in self.kept
        }
        return Predictions(self._path, self._rows, columns, tuple(self._header), self._held)


class _Lines:
    """The lines of a CSV. ``taken`` counts their characters, and is set back by whoever got a whole row."""

    def __init__(self, path: str, text: io.TextIOWrapper) -> None:
        self._path = path
        self._text = text
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(_LONGEST_LINE):
            self.taken += len(line)
            if self.taken >= _LONGEST_LINE:
                raise InvalidInput(
                    f"{self._path}: a row has more than {_LONGEST_LINE} characters",
                    "one row on each line; is a quote not closed?",
                )
            yield line


def _csv(file: LeftFile, read: _Reading) -> None:
    with file.open() as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
        try:
            head = text.readline(_LONGEST_LINE)
            tabs = file.path.lower().endswith(".tsv")
            separator = "\t" if tabs else max(",;\t|", key=head.count)
            read.begin([name.strip() for name in next(csv.reader([head], delimiter=separator), [])])
            lines = _Lines(file.path, text)
            for row in csv.reader(lines, delimiter=separator):
                if row:
                    read.row(row, lines.taken)
                lines.taken = 0
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{file.path}: it is not UTF-8: {error.reason}", "write it as UTF-8") from None
        except csv.Error as error:
            raise InvalidInput(f"{file.path}: it cannot be read: {error}", _EXPECTED) from None


def _json_lines(file: LeftFile, read: _Reading) -> None:
    names: set[str] = set()
    for at, line in lines_of(file):
        if not line.strip():
            continue
        record = parse_line(line)
        if record is None or (names and record.keys() != names):
            raise InvalidInput(
                f"{file.path}:{at}: this is no JSON object with the names of the first", _EXPECTED
            )
        if not names:
            names.update(record)
            read.begin(list(record))
        read.add([_text(record[name]) for name in read.kept], len(line))


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
            rows = opened.metadata.num_rows
            if rows > MOST_ROWS:
                raise InvalidInput(f"{file.path}: it has more than {MOST_ROWS} rows", "fewer rows")
            schema = opened.schema_arrow
            read.begin(schema.names)
            _check_size(file.path, opened, read.kept)
            texts = [name for name in read.kept if _holds_texts(file.path, name, schema.field(name).type)]
            # Texts stay coded, each once: a few bytes can say that a long one stands in every row.
            opened = parquet.ParquetFile(stream, read_dictionary=texts)
            if not read.kept:
                for _ in range(rows):
                    read.add((), 1)
                return
            for batch in opened.iter_batches(_TOGETHER, columns=list(read.kept), use_threads=False):
                columns = [_values(file.path, name, batch.column(name)) for name in read.kept]
                for row in zip(*columns, strict=True):
                    read.add(row, 1)
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidInput(f"{file.path}: it is no Parquet that can be read: {error}", "CSV") from None


def _check_size(path: str, opened: parquet.ParquetFile, kept: Sequence[str]) -> None:
    places = [at for at, name in enumerate(opened.schema.names) if name in kept]
    groups = map(opened.metadata.row_group, range(opened.metadata.num_row_groups))
    size = sum(group.column(at).total_uncompressed_size for group in groups for at in places)
    if size > _LARGEST:
        raise InvalidInput(f"{path}: its columns have {size} bytes, and may have {_LARGEST}", "fewer rows")


def _holds_texts(path: str, name: str, kind: pyarrow.DataType) -> bool:
    """Whether a column's values are texts; InvalidInput where they are neither that nor plain values."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _holds_texts(path, name, kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind):
        return True
    if types.is_primitive(kind) or types.is_decimal(kind):
        return False
    raise InvalidInput(f"{path}: column {name} holds {str(kind)[:100]}", "numbers or texts")


def _values(path: str, name: str, column: pyarrow.Array) -> Sequence[str]:
    import pyarrow
    from pyarrow import compute

    if not pyarrow.types.is_dictionary(column.type):
        return list(map(_text, column.to_pylist()))
    words = column.dictionary
    if pyarrow.types.is_string(words.type) or pyarrow.types.is_large_string(words.type):
        longest = compute.max(compute.binary_length(words)).as_py() or 0
        if longest > _LONGEST_TEXT:
            raise InvalidInput(
                f"{path}: a text in column {name} has {longest} bytes, and may have {_LONGEST_TEXT}",
                "shorter texts",
            )
    places = column.indices.to_pylist()
    known = {at: "None" if at is None else _text(words[at].as_py()) for at in set(places)}
    return [known[at] for at in places]


_READERS: Final[Mapping[str, Callable[[LeftFile, _Reading], None]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
