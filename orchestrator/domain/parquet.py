"""What the end of a Parquet file says of the table in it: its rows and columns.

Only the part of Apache Thrift's compact protocol that such an end is written in, and of it only as much as is
asked for. It comes from outside: every length is bounded by the bytes that are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrator.domain.tabular import ColumnFacts

MAGIC: Final = b"PAR1"
TAIL: Final = 8
"""Bytes at the very end: the length of what is before them, and the magic word."""
_DEPTH: Final = 16
_ELEMENTS: Final = 100_000
_WITHIN: Final = 100
"""So many columns may be within one another, whose names stand before those of the innermost."""
_LETTERS: Final = 16 << 20
"""Characters that the names of all columns, and of what they are in, may have together."""

_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(13)
_PHYSICAL: Final = ("boolean", "int32", "int64", "int96", "float", "double", "bytes", "bytes")
_LOGICAL: Final = {
    1: "string",
    4: "enum",
    5: "decimal",
    6: "date",
    7: "time",
    8: "timestamp",
    10: "integer",
    11: "null",
    12: "json",
    13: "bson",
    14: "uuid",
}
_CONVERTED: Final = {
    0: "string",
    4: "enum",
    5: "decimal",
    6: "date",
    7: "time",
    8: "time",
    9: "timestamp",
} | {
    10: "timestamp",
    19: "json",
    20: "bson",
}


@dataclass(slots=True)
class _Element:
    """A node of the schema, before its children."""

    name: str = ""
    type: str = ""
    children: int = 0


def footer_size(tail: bytes, size: int) -> int:
    """How many bytes before the last eight of a file of ``size`` bytes say what it is.

    ValueError when it is no Parquet file.
    """
    if len(tail) != TAIL or tail[4:] != MAGIC:
        raise ValueError("it is no Parquet file")
    length = int.from_bytes(tail[:4], "little")
    if length > size - TAIL:
        raise ValueError("it is cut off")
    return length


def table_of(footer: bytes) -> tuple[int, tuple[ColumnFacts, ...]]:
    """The rows and the columns that the end of a file tells. ValueError when it cannot be read."""
    reader = _Reader(footer)
    rows: int | None = None
    elements: list[_Element] | None = None
    field = 0
    while rows is None or elements is None:
        kind, field = reader.field(field)
        if kind == _STOP:
            raise ValueError("it does not say what it holds")
        if field == 2 and kind == _LIST:
            elements = _elements(reader)
        elif field == 3 and kind == _I64:
            rows = reader.integer()
        else:
            reader.skip(kind, 0)
    if rows < 0:
        raise ValueError("it says that it has fewer than no rows")
    return rows, _leaves(elements)


def _elements(reader: _Reader) -> list[_Element]:
    kind, count = reader.list_head()
    if kind != _STRUCT or count > _ELEMENTS:
        raise ValueError("its schema cannot be read")
    return [_element(reader) for _ in range(count)]


def _element(reader: _Reader) -> _Element:
    found = _Element()
    field = 0
    logical = ""
    while True:
        kind, field = reader.field(field)
        match field, kind:
            case _, 0:
                found.type = logical or found.type
                return found
            case 1, 5:
                physical = reader.integer()
                found.type = _PHYSICAL[physical] if 0 <= physical < len(_PHYSICAL) else "unknown"
            case 4, 8:
                found.name = reader.binary().decode("utf-8", "replace")
            case 5, 5:
                found.children = reader.integer()
            case 6, 5:
                logical = logical or _CONVERTED.get(reader.integer(), "")
            case 10, 12:
                logical = _LOGICAL.get(reader.union(), "") or logical
            case _:
                reader.skip(kind, 0)


def _leaves(elements: list[_Element]) -> tuple[ColumnFacts, ...]:
    """The columns, those within others with the names of these before a point."""
    found: list[ColumnFacts] = []
    above: list[tuple[str, int]] = []
    letters = 0
    for position, element in enumerate(elements):
        while above and above[-1][1] == 0:
            above.pop()
        if above:
            prefix, left = above[-1]
            above[-1] = (prefix, left - 1)
        elif position:
            raise ValueError("its schema cannot be read")
        else:
            prefix = ""
        name = f"{prefix}{element.name}" if position else ""
        letters += len(name)
        if letters > _LETTERS:
            raise ValueError("the names of its columns are too long")
        if element.children > 0:
            if len(above) >= _WITHIN:
                raise ValueError("too many columns are within one another")
            above.append((f"{name}." if position else "", element.children))
        elif position:
            found.append(ColumnFacts(name, element.type))
    return tuple(found)


class _Reader:
    """Reads what the compact protocol wrote. ValueError where the bytes end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """The next byte."""
        if self._at >= len(self._data):
            raise ValueError("its end is cut off")
        self._at += 1
        return self._data[self._at - 1]

    def varint(self) -> int:
        """A number without a sign."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number in its end is too long")

    def integer(self) -> int:
        """A number with a sign."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def binary(self) -> bytes:
        """Bytes with their length before them."""
        length = self.varint()
        if length > len(self._data) - self._at:
            raise ValueError("its end is cut off")
        self._at += length
        return self._data[self._at - length : self._at]

    def field(self, last: int) -> tuple[int, int]:
        """The kind and the number of the next field of a struct."""
        head = self.byte()
        kind, delta = head & 0x0F, head >> 4
        if kind == _STOP:
            return _STOP, 0
        return kind, last + delta if delta else self.integer()

    def list_head(self) -> tuple[int, int]:
        """The kind and number of the items of a list."""
        head = self.byte()
        count = head >> 4
        return head & 0x0F, self.varint() if count == 15 else count

    def union(self) -> int:
        """The number of the field that a union has."""
        kind, field = self.field(0)
        if kind != _STOP:
            self.skip(kind, 0)
            self.skip_rest(field, 0)
        return field

    def skip_rest(self, last: int, depth: int) -> None:
        """Go to the end of a struct."""
        while True:
            kind, last = self.field(last)
            if kind == _STOP:
                return
            self.skip(kind, depth + 1)

    def skip(self, kind: int, depth: int) -> None:
        """Go over a value."""
        if depth > _DEPTH:
            raise ValueError("its end is nested too deeply")
        match kind:
            case 1 | 2:
                return
            case 3:
                self.byte()
            case 4 | 5 | 6:
                self.varint()
            case 7:
                for _ in range(8):
                    self.byte()
            case 8:
                self.binary()
            case 9 | 10:
                item, count = self.list_head()
                for _ in range(count):
                    # In a list truth takes a byte of its own.
                    self.skip(_BYTE if item in (_TRUE, _FALSE) else item, depth + 1)
            case 12:
                self.skip_rest(0, depth)
            case _:
                raise ValueError("its end cannot be read")
