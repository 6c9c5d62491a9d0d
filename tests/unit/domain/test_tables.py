"""Tables in the data: rows and columns of CSV and Parquet files, and how they changed."""

from __future__ import annotations

import csv
import io
from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from orchestrator.domain.parquet import TAIL, footer_size, table_of
from orchestrator.domain.separated import columns_of, rows_of
from orchestrator.domain.tabular import ColumnFacts, TableFacts, described, table_changes

CELLS = st.text(st.sampled_from('ab,;"\n\r é'), max_size=6)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=8), st.integers(1, 7))
def test_rows_are_counted_as_the_standard_library_reads_them(rows: list[list[str]], size: int) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["one", "two"], *rows])
    raw = out.getvalue().encode()
    assert rows_of(raw[at : at + size] for at in range(0, len(raw), size)) == len(rows)


@pytest.mark.parametrize(
    ("raw", "rows"),
    [(b"", 0), (b"a,b", 0), (b"a,b\n", 0), (b"a\n1", 1), (b"a\n1\n\n\n", 1), (b"a\r\n1\r\n\r\n", 1)],
)
def test_ends_of_files_are_no_rows(raw: bytes, rows: int) -> None:
    assert rows_of([raw]) == rows


@pytest.mark.parametrize(
    ("head", "name", "columns"),
    [
        (b"id,name\n1,x\n", "a.csv", ["id", "name"]),
        (b"\xef\xbb\xbfid;name;ph\r\n", "a.csv", ["id", "name", "ph"]),
        (b"id\tname, first\n", "a.tsv", ["id", "name, first"]),
        (b'"two\nlines",b\n1,2\n', "a.csv", ["two\nlines", "b"]),
        (b"one", "a.csv", ["one"]),
    ],
)
def test_columns_are_what_the_first_line_names(head: bytes, name: str, columns: list[str]) -> None:
    assert [column.name for column in columns_of(head, True, name)] == columns


@pytest.mark.parametrize(
    ("head", "whole", "why"),
    [(b"\xff\xfe", True, "UTF-8"), (b"a" * 9, False, "more than"), (b"\0", True, "zero")],
)
def test_a_first_line_that_is_none_is_told(head: bytes, whole: bool, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        columns_of(head, whole, "a.csv")


def parquet_file(table: pa.Table) -> bytes:
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def test_a_parquet_file_tells_its_rows_and_columns() -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int64()),
            "name": ["a", "b", "c"],
            "ph": [1.0, None, 2.0],
            "good": [True, False, None],
            "at": pa.array([0, 1, 2], pa.timestamp("us")),
            "tags": [["x"], [], None],
            "place": [{"x": 1, "y": 2}] * 3,
        }
    )
    raw = parquet_file(table)
    length = footer_size(raw[-TAIL:], len(raw))
    rows, columns = table_of(raw[-TAIL - length : -TAIL])
    assert rows == 3
    assert [(c.name, c.type) for c in columns] == [
        ("id", "int64"),
        ("name", "string"),
        ("ph", "double"),
        ("good", "boolean"),
        ("at", "timestamp"),
        ("tags.list.element", "string"),
        ("place.x", "int64"),
        ("place.y", "int64"),
    ]


def footer_of(elements: list[tuple[str, int]]) -> bytes:
    """An end with these elements in its schema: their names, and how many there are within each."""
    written = b"".join(
        b"\x48" + _varint(len(name)) + name.encode() + b"\x15" + _varint(2 * children) + b"\x00"
        for name, children in elements
    )
    return b"\x29\xfc" + _varint(len(elements)) + written + b"\x16\x02\x00"


def _varint(value: int) -> bytes:
    more, rest = divmod(value, 128)
    return bytes([rest | 128]) + _varint(more) if more else bytes([rest])


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ([("", 1)] * 20_000 + [("a", 0)], "within one another"),
        ([("", 1), ("a" * (1 << 20), 20)] + [("b", 0)] * 20, "too long"),
        ([("", 1)] + [("a" * (1 << 18), 1)] * 50 + [("b", 0)], "too long"),
    ],
)
def test_names_of_columns_are_not_multiplied_without_bound(elements: list[tuple[str, int]], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        table_of(footer_of(elements))


def test_columns_far_within_one_another_are_told() -> None:
    _, (column,) = table_of(footer_of([("", 1)] + [("a", 1)] * 90 + [("b", 0)]))
    assert column.name == "a." * 90 + "b"


@given(st.binary(max_size=200))
def test_what_is_no_parquet_file_is_told_and_nothing_else_happens(raw: bytes) -> None:
    try:
        rows, _ = table_of(raw)
    except ValueError:
        return
    assert rows >= 0


@given(st.data())
def test_a_damaged_end_is_told_or_read_but_never_a_crash(data: st.DataObject) -> None:
    raw = bytearray(parquet_file(pa.table({"a": [1, 2], "b": ["x", "y"]})))
    at = data.draw(st.integers(len(raw) // 2, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        length = footer_size(bytes(raw[-TAIL:]), len(raw))
        rows, columns = table_of(bytes(raw[-TAIL - length : -TAIL]))
        assert rows >= 0
        assert len(columns) <= len(raw)


@pytest.mark.parametrize(
    ("tail", "why"), [(b"", "no Parquet"), (b"\1\0\0\0PAR2", "no Parquet"), (b"\xff\xff\0\0PAR1", "cut off")]
)
def test_an_end_that_is_none_is_told(tail: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        footer_size(tail, 100)


def facts(content: str, rows: int | None, *columns: str, problem: str = "") -> TableFacts:
    named = tuple(ColumnFacts(*column.split(":")) for column in columns)
    return TableFacts(content, rows, named, problem)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (facts("1", 1500, "a"), facts("2", 1540, "a"), ("t.csv: 1,540 rows, +40",)),
        (facts("1", 2, "a", "b"), facts("2", 2, "a", "c"), ("t.csv: new column c; without column b",)),
        (facts("1", 2, "a:int32"), facts("2", 2, "a:string"), ("t.csv: a is string, was int32",)),
        (facts("1", 2, "a", "b"), facts("2", 2, "b", "a"), ("t.csv: columns in another order",)),
        (facts("1", 2, "a"), facts("2", 2, "a"), ()),
        (facts("1", 2, "a"), facts("1", 3, "a"), ()),
        (facts("1", 2, "a"), facts("2", None, problem="it is cut off"), ("t.csv: it is cut off",)),
        (facts("1", None, "a"), facts("2", 3, "a"), ()),
    ],
)
def test_what_changed_in_a_table_is_one_line(old: TableFacts, new: TableFacts, told: tuple[str, ...]) -> None:
    assert table_changes({"t.csv": old, "gone.csv": old}, {"t.csv": new, "new.csv": new}) == told


def test_a_table_is_described_in_a_few_words() -> None:
    assert described(facts("1", 1, "a", "b")) == "1 row, 2 columns"
    assert described(facts("1", None, "a")) == "rows not counted, 1 column"
    assert described(facts("1", None, problem="it is cut off")) == "it is cut off"
