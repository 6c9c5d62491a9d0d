"""Numbers from JSON files."""

import io
import json
import math

import pytest

from orchestrator.adapters.collectors import format_readers
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Metric
from orchestrator.ports.collecting import LeftFile


def metrics(path: str, content: bytes) -> tuple[Metric, ...]:
    return format_readers().read_as(LeftFile(path, len(content), lambda: io.BytesIO(content)), "json").metrics


def read(text: str | bytes) -> dict[str, float]:
    content = text.encode() if isinstance(text, str) else text
    return {metric.name: metric.value for metric in metrics("metrics.json", content)}


def test_nested_numbers_are_flattened_and_say_where_they_come_from() -> None:
    document = {"accuracy": 0.9, "test": {"rmse": 2, "by_class": [1.5, 2.5]}, "name": "wine", "done": True}
    assert metrics("out/metrics.json", json.dumps(document).encode()) == tuple(
        Metric(name, value, "out/metrics.json", "json")
        for name, value in [
            ("accuracy", 0.9),
            ("test/rmse", 2.0),
            ("test/by_class/0", 1.5),
            ("test/by_class/1", 2.5),
        ]
    )


def test_what_python_writes_for_numbers_that_json_lacks_is_kept() -> None:
    found = read(json.dumps({"a": math.nan, "b": math.inf, "c": -math.inf, "d": "NaN"}))
    assert math.isnan(found["a"])
    assert (found["b"], found["c"]) == (math.inf, -math.inf)
    assert math.isnan(found["d"])


def test_a_number_beyond_all_floats_is_infinite() -> None:
    assert read('{"a": 1e400, "b": ' + "9" * 5000 + "}") == {"a": math.inf, "b": math.inf}


def test_a_byte_order_mark_does_no_harm() -> None:
    assert read(b"\xef\xbb\xbf" + b'{"a": 1}') == {"a": 1.0}


def test_an_object_without_numbers_has_no_metrics() -> None:
    assert read('{"name": "wine", "nothing": null}') == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b'{"a": 1,\n "b": oops}', r"metrics\.json:2:7: not JSON"),
        (b'{"a": 1} {"b": 2}', r"metrics\.json:1:10: not JSON"),
        (b'{"a": 1', "not JSON"),
        (b"0.93", "a single number without a name"),
        (b"[1, 2]", "a list"),
        (b"null", "null"),
        (b"true", "a truth value"),
        (b'"text"', "a text"),
        (b'{"a": "\xff"}', "byte 8 is not UTF-8"),
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"a/b": 1, "a": {"b": 2}}', "two numbers are called 'a/b'"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"a": [' + b"1," * 10_000 + b"1]}", "more than 10000 numbers"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(content: bytes, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as raised:
        read(content)
    assert "metrics.json" in raised.value.message


@pytest.mark.parametrize("content", [b'{"a":' * 900 + b"1" + b"}" * 900, b'{"' + b"x" * 501 + b'": 1}'])
def test_a_number_with_too_long_a_name_is_left_out_with_a_warning(content: bytes) -> None:
    file = LeftFile("metrics.json", len(content), lambda: io.BytesIO(content))
    reading = format_readers().read_as(file, "json")
    assert reading.metrics == ()
    (warning,) = reading.warnings
    assert warning.startswith("metrics.json: the name")
