"""Files of predictions."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.adapters.collectors import predictions
from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.predictions import Predictions
from tests.support.left_files import left


def read(name: str, content: bytes) -> Predictions:
    """A file of predictions."""
    return FormatReaders().predictions(left({name: content})[name])


def parquet(**columns: list[object]) -> bytes:
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


def test_texts_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_MOST_WORDS", 2)
    with pytest.raises(InvalidInput, match="more than 2 different texts"):
        read("p.csv", b"a\nx\ny\nz\n")
