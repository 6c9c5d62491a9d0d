"""Metrics in plain files: JSON, YAML, TOML, JSON lines, tables."""

from __future__ import annotations

import math
import random

import pytest

from orchestrator.adapters.collectors import common, documents
from orchestrator.domain.collected import Reading
from orchestrator.domain.errors import InvalidInput
from tests.support.left_files import curve, left, reading_of, readings, values


def refusal(name: str, content: bytes, *, form: str = "") -> str:
    """Why a declared file cannot be read."""
    with pytest.raises(InvalidInput) as refused:
        reading_of(name, content, form=form)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b'{"accuracy": 0.93, "val": {"loss": 1e-5}, "note": "0.5", "done": true}'),
        ("metrics.yaml", b"accuracy: 0.93\nval: {loss: 1e-5}\nnote: '0.5'\ndone: yes\n"),
        ("metrics.yml", b"accuracy: .93\nval:\n  loss: 1.0e-05\n"),
        ("metrics.toml", b"accuracy = 0.93\nwhen = 2026-01-01\n[val]\nloss = 1e-5\n"),
        ("metrics.csv", b"metric,value\naccuracy,0.93\nval/loss,1e-5\n"),
        ("metrics.json", b'\xef\xbb\xbf{"accuracy": 0.93, "val/loss": 0.00001}'),
    ],
)
def test_numbers_are_found_by_their_flattened_names(name: str, content: bytes) -> None:
    assert values(reading_of(name, content)) == {"accuracy": 0.93, "val/loss": 1e-5}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.json", b'{"a": NaN, "b": Infinity, "c": -Infinity, "d": "nan"}'),
        ("m.yaml", b"a: .nan\nb: .inf\nc: -.inf\nd: 'NaN'\n"),
        ("m.toml", b"a = nan\nb = inf\nc = -inf\nd = 'nan'\n"),
        ("m.jsonl", b'{"a": NaN, "b": Infinity, "c": -Infinity, "d": "NaN"}\n'),
        ("m.csv", b"a,b,c,d\nnan,inf,-Infinity,NaN\n"),
    ],
)
def test_nan_and_infinities_are_kept_as_such(name: str, content: bytes) -> None:
    found = values(reading_of(name, content))
    assert math.isnan(found["a"])
    assert found["b"] == math.inf
    assert found["c"] == -math.inf
    assert math.isnan(found["d"])


def test_the_last_value_of_a_column_that_is_not_empty_is_the_metric_and_all_rows_the_series() -> None:
    table = b"step,loss,val_loss,timestamp\n0,4,,1600000000\n10,2,7,1600000001\n20,1,,1600000002500\n"
    reading = reading_of("history.csv", table)
    found = {metric.name: (metric.value, metric.step) for metric in reading.metrics}
    assert found == {"loss": (1, 20), "val_loss": (7, 10)}
    assert curve(reading, "loss") == [(0, 4), (10, 2), (20, 1)]
    (series,) = reading.series
    assert list(series.timestamps) == [1.6e9, 1.6e9 + 1, 1.6e9 + 2.5]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_tables_are_read_with_any_usual_separator(separator: str) -> None:
    table = separator.join(["epoch", " a ", "b"]) + "\r\n" + separator.join(["1", "2", "3"]) + "\r\n"
    assert values(reading_of("m.csv", table.encode())) == {"a": 2, "b": 3}


def test_columns_of_texts_are_left_out_with_a_warning() -> None:
    reading = reading_of("m.csv", b"epoch,model,loss\n1,mlp,2\n2,mlp,1\n")
    assert values(reading) == {"loss": 1}
    assert reading.warnings == ("m.csv: of the columns model not all values are numbers",)


def test_json_lines_are_series_by_their_steps() -> None:
    reading = reading_of(
        "log.jsonl", b'{"step": 5, "loss": 2, "val": {"f1": 0.5}}\n\n{"step": 6, "loss": 1}\n'
    )
    assert values(reading) == {"loss": 1, "val/f1": 0.5}
    assert curve(reading, "loss") == [(5, 2), (6, 1)]


def test_a_last_json_line_that_was_cut_off_is_a_warning() -> None:
    reading = reading_of("log.jsonl", b'{"loss": 2}\n{"loss": 1}\n{"los')
    assert values(reading) == {"loss": 1}
    assert reading.warnings == ("log.jsonl:3: its last line is no JSON object, as if it were cut off",)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.json", b"", "m.json: the file is empty"),
        ("m.json", b" \n", "m.json: the file is empty"),
        ("m.json", b'{"a": 1', "m.json:1:8: not JSON"),
        ("m.json", b"[1, 2]", "m.json: this is a list"),
        ("m.json", b"0.5", "m.json: this is a single number without a name"),
        ("m.json", b'{"a": 1, "a": 2}', "the name 'a' appears twice"),
        ("m.json", b'{"a": {"b": 1}, "a/b": 2}', "two numbers are called 'a/b'"),
        ("m.json", b'{"\xe9": 1}', "m.json: byte 3 is not UTF-8"),
        ("m.json", '{"a": 1}'.encode("utf-16"), "m.json: byte 1 is not UTF-8"),
        ("m.json", b"[" * 100_000, "m.json: it is nested too deeply"),
        ("m.yaml", b"a: 1\na: 2\n", "the name 'a' appears twice"),
        ("m.yaml", b"a: [1,\n", "m.yaml:2:1: not YAML"),
        ("m.yaml", b"[" * 100_000, "m.yaml: "),
        ("m.yaml", b"a: &a [1]\nb: *a\n", "the alias *a repeats a list or a mapping"),
        ("m.yaml", b"? {a: 1}\n: 2\n", "stands where a name should"),
        ("m.toml", b"a = \n", "m.toml: not TOML"),
        ("m.jsonl", b'{"a": 1}\noops\n{"a": 2}\n', "m.jsonl:2: this is no JSON object"),
        ("m.jsonl", b"\n", "m.jsonl: the file is empty"),
        ("m.csv", b"", "m.csv: the file is empty"),
        ("m.csv", b"loss\n", "m.csv: there are no rows below its names"),
        ("m.csv", b"1,2\n3,4\n", "m.csv:1: the first line has numbers and no names"),
        ("m.csv", b"a,a\n3,4\n", "m.csv:1: two columns are called 'a'"),
        ("m.csv", b"a\nx\n", "m.csv: column 'a' holds texts"),
        ("m.csv", b"a,b\n\xff,1\n", "m.csv:2: byte 1 of the line is not UTF-8"),
        ("m.csv", b"metric,value\na,1\na,2\n", "m.csv:3: two numbers are called 'a'"),
        ("m.csv", b"\x00" * 10_000, "zero bytes"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(name: str, content: bytes, said: str) -> None:
    assert said in refusal(name, content)


def test_a_gigantic_document_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "READ_WHOLE", 10)
    assert "it has 12 bytes, and a file of this kind may have 10" in refusal("m.json", b'{"abc": 1.5}')


def test_a_line_without_an_end_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "LONGEST_LINE", 100)
    assert "m.csv:2: the line has more than 100 bytes" in refusal("m.csv", b"a\n" + b"1" * 101)


def test_more_numbers_than_a_file_may_hold_are_refused() -> None:
    numbers = ",".join(f'"n{n}": 1' for n in range(common.MOST_METRICS + 1))
    assert "more than 10000 numbers" in refusal("m.json", f"{{{numbers}}}".encode())


def test_yaml_of_more_values_than_there_may_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST_NODES", 50)
    assert "it has more than 50 values" in refusal("m.yaml", b"a: [" + b"1," * 60 + b"]")


def test_of_a_series_without_end_the_last_value_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "MOST_POINTS", 3)
    reading = reading_of("m.csv", b"loss\n9\n8\n7\n6\n5\n")
    assert values(reading) == {"loss": 5}
    assert curve(reading, "loss") == [(0, 9), (1, 8), (4, 5)]
    assert reading.warnings == ("m.csv: 2 points of its series were left out; 3 are kept",)


def test_a_name_that_is_too_long_is_left_out_with_a_warning() -> None:
    reading = reading_of("m.json", b'{"%s": 1, "ok": 2}' % (b"x" * 501))
    assert values(reading) == {"ok": 2}
    assert "is too long and was left out" in reading.warnings[0]


def test_an_alias_of_a_single_value_stands_for_it() -> None:
    assert values(reading_of("m.yaml", b"a: &x 3\nb: *x\n")) == {"a": 3, "b": 3}


def test_a_declared_format_goes_before_the_name() -> None:
    assert values(reading_of("result.txt", b"a;b\n1;2\n", form="csv")) == {"a": 1, "b": 2}
    assert values(reading_of("result", b'{"a": 1}', form="json")) == {"a": 1}
    assert "'xls' is no format" in refusal("result", b"", form="xls")


def test_only_known_names_are_read_without_being_declared() -> None:
    files = left({"config.json": b'{"width": 8}', "data.csv": b"a\n1\n", "metrics.toml": b"a = 1\n"})
    assert list(readings(files)) == ["metrics:metrics.toml"]


def test_random_bytes_are_refused_or_read_but_never_crash() -> None:
    made = random.Random(4)  # noqa: S311 - the same bytes each time
    names = ("m.json", "m.yaml", "m.toml", "m.csv", "m.jsonl", "m.xml", "mlflow.db", "a.tfevents.1")
    outcomes: set[str] = set()
    for round_ in range(200):
        content = made.randbytes(made.randrange(200)) if round_ % 2 else bytes(
            made.choices(b'{}[]",:&*!|>-\n\t 01aeE.', k=60)
        )  # fmt: skip
        for name in names:
            try:
                outcomes.add(type(reading_of(name, content)).__name__)
            except InvalidInput:
                outcomes.add("refused")
    assert outcomes == {Reading.__name__, "refused"}
