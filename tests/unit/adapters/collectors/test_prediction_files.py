"""Files of predictions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.adapters.collectors import predictions
from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.predictions import Predictions
from orchestrator.ports.collecting import LeftFile, Wanted
from tests.support.left_files import left


def read(name: str, content: bytes, wanted: Wanted = frozenset, most: int = 1 << 20) -> Predictions:
    """A file of predictions."""
    return FormatReaders().predictions(left({name: content})[name], wanted, most)


def parquet(**columns: Sequence[object]) -> bytes:
    """A Parquet file."""
    made = io.BytesIO()
    pq.write_table(pa.table(columns), made)
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", b"\xef\xbb\xbfrow_id,label,score\n1,cat,0.5\n\n2,dog,0.25\n"),
        ("p.csv", b'row_id;label;score\r\n1;"cat";0.5\r\n2;dog;0.25'),
        ("p.tsv", b"row_id\tlabel\tscore\n1\tcat\t0.5\n2\tdog\t0.25\n"),
        (
            "p.jsonl",
            b'{"row_id": 1, "label": "cat", "score": 0.5}\n{"score": 0.25, "label": "dog", "row_id": 2}\n',
        ),
        ("p.parquet", parquet(row_id=[1, 2], label=["cat", "dog"], score=[0.5, 0.25])),
    ],
)
def test_every_format_gives_the_same_columns(name: str, content: bytes) -> None:
    found = read(name, content)
    assert found.rows == 2
    assert {name: list(column.keys()) for name, column in found.columns.items()} == {
        "row_id": [1, 2],
        "label": ["cat", "dog"],
        "score": [0.5, 0.25],
    }


def test_ids_that_turn_out_to_be_texts_late_are_texts_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_TOGETHER", 2)
    found = read("p.csv", b"id,x\n007,1\n1.0,2\n3,3\n4,4\nlast,5\n")
    assert list(found.columns["id"].keys()) == ["007", "1.0", "3", "4", "last"]
    assert list(found.columns["x"].keys()) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.csv", b"", "the file is empty"),
        ("p.csv", b"a,b\n", "there are no rows"),
        ("p.csv", b"a,a\n1,2\n", "has no name or the name of another"),
        ("p.csv", b"a,b\n1,2\n3\n", "row 2 has 1 values and there are 2 names"),
        ("p.csv", b"a,b\n1,\xff\n", "it is not UTF-8"),
        ("p.jsonl", b'{"a": 1}\n{"b": 1}\n', "p.jsonl:2: this is no JSON object with the names of the first"),
        ("p.parquet", b"PAR1 and no more", "it is no Parquet that can be read"),
        ("p.parquet", parquet(a=[1, 2])[:-9], "it is no Parquet that can be read"),
        ("p.pkl", b"x", "predictions are not read from .pkl"),
    ],
)
def test_predictions_that_cannot_be_read_say_why(name: str, content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read(name, content)


def test_more_rows_than_there_may_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "MOST_ROWS", 3)
    with pytest.raises(InvalidInput, match="more than 3 rows"):
        read("p.csv", b"a\n1\n2\n3\n4\n")


COLUMNS = [
    ("p.csv", b"id,skip,x\n" + b"".join(b"%d,text %d,0\n" % (at, at) for at in range(5000))),
    ("p.jsonl", b"".join(b'{"id": %d, "skip": "text %d", "x": 0}\n' % (at, at) for at in range(5000))),
    ("p.parquet", parquet(id=range(5000), skip=[f"text {at}" for at in range(5000)], x=[0] * 5000)),
]


@pytest.mark.parametrize(("name", "content"), COLUMNS)
def test_columns_that_are_not_needed_take_nothing(name: str, content: bytes) -> None:
    found = read(name, content, lambda names: {"id", "x"}, 5000 * 2 * 8)
    assert list(found.columns) == ["id", "x"]
    assert (found.rows, found.held, list(found.names)) == (5000, 5000 * 2 * 8, ["id", "skip", "x"])


@pytest.mark.parametrize(("name", "content"), COLUMNS)
def test_columns_that_take_more_than_is_left_are_refused(name: str, content: bytes) -> None:
    with pytest.raises(InvalidInput, match="take more than the 79999 bytes that are left"):
        read(name, content, lambda names: {"id", "x"}, 5000 * 2 * 8 - 1)
    with pytest.raises(InvalidInput, match="take more than the 500000 bytes that are left"):
        read(name, content, lambda names: {"skip"}, 500_000)


def test_texts_that_come_late_in_many_columns_cost_one_reading_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_TOGETHER", 2)
    width = 50
    rows = [["07"] * width] * 2 + [
        ["x" if at == late else "1" for at in range(width)] for late in range(width)
    ]
    names = [f"c{at}" for at in range(width)]
    content = "\n".join(map(",".join, [names, *rows])).encode()
    file = left({"p.csv": content})["p.csv"]
    opened: list[int] = []

    def again() -> BinaryIO:
        opened.append(1)
        return file.open()

    found = FormatReaders().predictions(LeftFile(file.path, file.size, again), frozenset, 1 << 20)
    assert len(opened) == 2
    assert {frozenset(column.words) for column in found.columns.values()} == {frozenset(("07", "1", "x"))}


def test_a_text_that_parquet_names_in_every_row_is_held_once() -> None:
    content = parquet(id=range(3000), label=["y" * 9_000] * 3000)
    assert len(content) < 100_000
    found = read("p.parquet", content, frozenset, 3000 * 12 + 10_000)
    assert found.columns["label"].words == ("y" * 9_000,)
    with pytest.raises(InvalidInput, match="a text in column label has 10001 bytes, and may have 10000"):
        read("p.parquet", parquet(id=range(3000), label=["y" * 10_001] * 3000))


def test_parquet_of_lists_is_refused_where_it_is_needed() -> None:
    content = parquet(id=[1, 2], embedding=[[1.0], [2.0]])
    assert list(read("p.parquet", content, lambda names: {"id"}).columns) == ["id"]
    with pytest.raises(InvalidInput, match=r"column embedding holds list"):
        read("p.parquet", content)


def test_parquet_that_unpacks_to_too_much_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    content = parquet(id=range(3000), label=[f"{at}" * 1000 for at in range(3000)])
    monkeypatch.setattr(predictions, "_LARGEST", len(content))
    with pytest.raises(InvalidInput, match=r"its columns have \d+ bytes, and may have"):
        read("p.parquet", content)


def test_missing_values_of_parquet_are_texts_like_those_of_json_lines() -> None:
    for name, content in (
        ("p.parquet", parquet(id=[1, 2], label=["a", None])),
        ("p.jsonl", b'{"id": 1, "label": "a"}\n{"id": 2, "label": null}\n'),
    ):
        assert list(read(name, content).columns["label"].keys()) == ["a", "None"]


def test_a_quote_that_is_never_closed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_LONGEST_LINE", 1000)
    with pytest.raises(InvalidInput, match="a row has more than 1000 characters"):
        read("p.csv", b"a\n" + b'"\n",' * 1000)
    assert read("p.csv", b"a,b\n" + b"1,2\n" * 1000).rows == 1000
