"""What a file of comma-separated values holds: how many rows, and which columns its first line names."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Final

from orchestrator.domain.tabular import ColumnFacts

HEAD: Final = 1 << 16
"""Bytes within which the first line has to end."""
_SEPARATORS: Final = (",", ";", "\t", "|")


def columns_of(head: bytes, whole: bool, name: str) -> tuple[ColumnFacts, ...]:
    """The columns that a file's first bytes name. ``whole``: there are no more.

    ValueError when they are no such line.
    """
    end = _end_of_record(head)
    if end is None and not whole:
        raise ValueError(f"its first line has more than {HEAD} bytes")
    try:
        text = head[:end].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("its first line is not UTF-8") from None
    if "\0" in text:
        raise ValueError("its first line has zero bytes")
    separator = "\t" if name.lower().endswith(".tsv") else max(_SEPARATORS, key=text.count)
    try:
        names = next(csv.reader([text.rstrip("\r\n")], delimiter=separator), [])
    except csv.Error as error:
        raise ValueError(f"its first line cannot be read: {error}") from None
    return tuple(ColumnFacts(each.strip()) for each in names)


def rows_of(chunks: Iterable[bytes]) -> int:
    """How many rows there are below the first line; ends of lines within quotes are none."""
    records = 0
    quoted = False
    last = b""
    for chunk in chunks:
        if quoted or b'"' in chunk:
            parts = chunk.split(b'"')
            records += sum(part.count(b"\n") for part in parts[quoted::2])
            quoted ^= not len(parts) % 2
        else:
            records += chunk.count(b"\n")
        last = (last + chunk)[-HEAD:]
    # Empty lines at the end are no rows, and the last row needs no end of line.
    empty = len(last) - len(last.rstrip(b"\r\n"))
    if empty:
        records -= last[-empty:].count(b"\n") - 1
    elif last:
        records += 1
    return max(records - 1, 0)


def _end_of_record(head: bytes) -> int | None:
    at = 0
    while (end := head.find(b"\n", at)) >= 0:
        if head.count(b'"', 0, end) % 2 == 0:
            return end
        at = end + 1
    return None
