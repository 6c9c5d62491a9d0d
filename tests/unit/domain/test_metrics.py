"""Numbers: their names, directions and how people read them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.metrics import (
    Direction,
    Json,
    flatten,
    format_amount,
    format_apart,
    format_compared,
    format_difference,
    format_exact,
    format_value,
    infer_direction,
)


def flat(document: Json) -> dict[str, float]:
    return {metric.name: metric.value for metric in flatten(document, "metrics.json", "json")}


def test_nested_keys_are_joined_and_list_items_numbered() -> None:
    document: Json = {"test": {"accuracy": 0.9, "per class": [{"f1": 1}, {"f1": 0.5}]}, "epochs": 3}
    assert flat(document) == {
        "test/accuracy": 0.9,
        "test/per class/0/f1": 1.0,
        "test/per class/1/f1": 0.5,
        "epochs": 3.0,
    }


def test_what_is_no_number_is_left_out() -> None:
    assert flat({"ok": True, "name": "tree", "none": None, "empty": {}, "list": [], "n": "0.5"}) == {}


@pytest.mark.parametrize("document", [5, 0.5, "NaN", True, None, [], {}])
def test_a_document_without_a_name_for_its_number_has_no_metrics(document: Json) -> None:
    assert flat(document) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [("Infinity", math.inf), ("-Infinity", -math.inf), ("inf", math.inf), (" -inf ", -math.inf)],
)
def test_texts_that_stand_for_infinities_are_numbers(text: str, value: float) -> None:
    assert flat({"loss": text}) == {"loss": value}


@pytest.mark.parametrize("text", ["NaN", "nan", " NaN "])
def test_texts_that_stand_for_nan_are_numbers(text: str) -> None:
    assert math.isnan(flat({"loss": text})["loss"])


def test_an_integer_beyond_every_float_is_infinite() -> None:
    assert flat(json.loads('{"a": 1' + "0" * 400 + ', "b": -1' + "0" * 400 + "}")) == {
        "a": math.inf,
        "b": -math.inf,
    }


def test_each_metric_keeps_where_it_came_from() -> None:
    (metric,) = flatten({"a": 1}, "out/metrics.json", "json")
    assert (metric.source, metric.reader) == ("out/metrics.json", "json")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=20,
    )
)
def test_any_document_can_be_flattened(document: Json) -> None:
    assert all(type(metric.value) is float for metric in flatten(document, "f", "json"))


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("accuracy", Direction.HIGHER),
        ("val/Accuracy", Direction.HIGHER),
        ("macro avg/f1-score", Direction.HIGHER),
        ("ROC-AUC", Direction.HIGHER),
        ("r2", Direction.HIGHER),
        ("mAP@50", Direction.HIGHER),
        ("acc,none", Direction.HIGHER),
        ("val_loss", Direction.LOWER),
        ("RMSE", Direction.LOWER),
        ("latency_ms", Direction.LOWER),
        ("mean_squared_error", Direction.LOWER),
        ("accuracy_loss", None),
        ("lossless", None),
        ("precision_error", None),
        ("rows", None),
        ("accuracyscore", None),
        ("", None),
    ],
)
def test_a_direction_is_inferred_only_from_unmistakable_names(name: str, direction: Direction | None) -> None:
    assert infer_direction(name) is direction


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9120000000001, "0.912"),
        (1234567.0, "1234567"),
        (0.1234567, "0.123457"),
        (1e-7, "1e-07"),
        (3.0, "3"),
        (0.0, "0"),
        (-0.0, "0"),
        (-0.5, "-0.5"),
        (1e20, "1e+20"),
        (math.nan, "NaN"),
        (math.inf, "infinity"),
        (-math.inf, "-infinity"),
    ],
)
def test_values_are_shown_without_trailing_noise(value: float, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.012, "+0.012"), (-0.0034567, "-0.0035"), (0.0, "±0"), (-0.0, "±0"), (math.nan, "NaN"), (5.0, "+5")],
)
def test_a_difference_always_has_its_sign(value: float, text: str) -> None:
    assert format_difference(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_two_different_values_can_be_shown_apart(value: float, other: float) -> None:
    if value != other:
        assert format_apart(value, other) != format_value(other)
    else:
        assert format_apart(value, other) == format_value(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_written_exactly_is_read_back_exactly(value: float) -> None:
    assert float(format_exact(value)) == value


@pytest.mark.parametrize(
    ("value", "other", "shown"),
    [
        (0.888889, 0.930556, ("0.889", "0.931")),
        (0.8, 0.7, ("0.8", "0.7")),
        (0.91234, 0.91229, ("0.91234", "0.91229")),
        (120.0, 80.5, ("120", "80.5")),
        (0.5, 0.5, ("0.5", "0.5")),
        (math.nan, 0.5, ("NaN", "0.5")),
    ],
)
def test_compared_values_have_the_decimals_that_their_difference_needs(
    value: float, other: float, shown: tuple[str, str]
) -> None:
    assert format_compared(value, other) == shown


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_compared_values_that_differ_are_shown_apart_and_in_their_order(value: float, other: float) -> None:
    mine, theirs = (float(text) for text in format_compared(value, other))
    if value != other:
        assert (mine > theirs) == (value > other)
        assert mine != theirs


@pytest.mark.parametrize(
    ("amount", "limit", "text"),
    [(4.16667, 1.0, "4.2"), (1.0400001, 1.0, "1.04"), (0.99999, 1.0, "0.99999"), (1.0, 1.0, "1")],
)
def test_an_amount_is_never_rounded_across_or_onto_its_limit(amount: float, limit: float, text: str) -> None:
    assert format_amount(amount, limit) == text
