"""Bringing the predictions of two sides together, row by row."""

from __future__ import annotations

from array import array

import pytest

from orchestrator.domain.gate.context import Rows, RowScore
from orchestrator.domain.predictions import Column, Predictions, rows_together


def numbers(*values: float) -> Column:
    """A column of numbers."""
    return Column(array("d", values))


def words(*values: str) -> Column:
    """A column of texts."""
    known = tuple(dict.fromkeys(values))
    return Column(codes=array("i", map(known.index, values)), words=known)


def file(name: str = "preds.csv", **columns: Column) -> Predictions:
    """A file of predictions."""
    first = next(iter(columns.values()))
    return Predictions(name, len(first.keys()), columns)


MINE = file(
    "mine.csv",
    row_id=numbers(1, 2, 3),
    label=words("a", "b", "a"),
    prediction=words("a", "b", "b"),
    loss=numbers(1, 2, 3),
)
THEIRS = file(
    "theirs.csv",
    row_id=numbers(3, 1, 2),
    label=words("a", "a", "b"),
    prediction=words("a", "b", "b"),
    loss=numbers(7, 8, 9),
)


def test_rows_are_matched_by_their_ids_whatever_their_order() -> None:
    rows = rows_together([MINE], [THEIRS], "accuracy")
    assert rows == Rows(([1, 1, 0],), ([0, 1, 1],))


def test_a_column_of_the_metrics_name_is_each_rows_value() -> None:
    rows = rows_together([MINE, THEIRS], [THEIRS], "loss")
    assert isinstance(rows, Rows)
    assert [list(side) for side in (*rows.candidate, *rows.baseline)] == [[1, 2, 3], [8, 9, 7], [8, 9, 7]]


def test_f1_keeps_predictions_and_labels_apart() -> None:
    one = file(id=words("x", "y"), label=numbers(1, 0), prediction=numbers(0, 1))
    two = file(id=words("y", "x"), label=numbers(0, 1), prediction=numbers(0, 1))
    rows = rows_together([one], [two], "f1")
    assert isinstance(rows, Rows)
    assert (rows.score, list(rows.labels)) == (RowScore.F1, [1, 0])
    assert [list(rows.candidate[0]), list(rows.baseline[0])] == [[0, 1], [1, 0]]


def test_slices_are_the_places_of_the_rows_with_each_value() -> None:
    mine = file(id=numbers(1, 2, 3), loss=numbers(1, 1, 1), region=words("eu", "us", "eu"))
    theirs = file(id=numbers(1, 2, 3), loss=numbers(1, 1, 1))
    rows = rows_together([mine], [theirs], "loss", slices="region")
    assert isinstance(rows, Rows)
    assert rows.slices == {"eu": [0, 2], "us": [1]}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (file("o.csv", row_id=numbers(1, 2, 4), loss=numbers(1, 1, 1)), "o.csv has no row 3.0"),
        (
            file("o.csv", row_id=numbers(1, 2, 3, 4), loss=numbers(1, 1, 1, 1)),
            "o.csv has 4 rows and mine.csv 3",
        ),
        (file("o.csv", row_id=numbers(1, 2, 2), loss=numbers(1, 1, 1)), "names some rows twice"),
        (file("o.csv", id=numbers(1, 2, 3), loss=numbers(1, 1, 1)), "o.csv has no column row_id"),
        (file("o.csv", row_id=numbers(1, 2, 3), other=numbers(1, 1, 1)), "o.csv has no column loss"),
        (file("o.csv", row_id=numbers(1, 2, 3), loss=words("a", "b", "c")), "column loss holds texts"),
        (
            file("o.csv", row_id=numbers(1, 2, 3), loss=numbers(1, float("nan"), 1)),
            "no finite number in row 2",
        ),
    ],
)
def test_files_that_do_not_fit_together_are_not_compared(other: Predictions, said: str) -> None:
    rows = rows_together([MINE], [other], "loss")
    assert isinstance(rows, str)
    assert said in rows


@pytest.mark.parametrize(
    ("metric", "column"),
    [
        ("accuracy", numbers(1, 1)),
        ("accuracy", words("1", "0")),
        ("mae", numbers(1, 1)),
        ("mse", numbers(1, 1)),
        ("loss", numbers(1, 1)),
    ],
)
def test_no_metric_is_compared_by_labels_of_its_own(metric: str, column: Column) -> None:
    both = {"id": numbers(1, 2), "prediction": numbers(1, 1), "loss": numbers(0.1, 0.2)}
    one, two = file("one.csv", label=numbers(1, 0), **both), file("two.csv", label=column, **both)
    assert rows_together([one], [two], metric) == "two.csv and one.csv have other labels for the same rows"


def test_scores_of_rows_are_compared_where_no_label_is_known() -> None:
    nan = float("nan")
    one = file("one.csv", id=numbers(1, 2), label=numbers(1, nan), loss=numbers(1, 2))
    two = file("two.csv", id=numbers(2, 1), label=numbers(nan, 1), loss=numbers(3, 4))
    bare = file("bare.csv", id=numbers(1, 2), loss=numbers(5, 6))
    rows = rows_together([one], [two, bare], "loss")
    assert isinstance(rows, Rows)
    assert [list(side) for side in (*rows.candidate, *rows.baseline)] == [[1, 2], [4, 3], [5, 6]]


def test_other_labels_for_the_same_rows_are_not_compared() -> None:
    one = file("one.csv", id=numbers(1, 2), label=numbers(1, 0), score=numbers(0.5, 0.2))
    two = file("two.csv", id=numbers(1, 2), label=numbers(1, 1), score=numbers(0.5, 0.2))
    assert rows_together([one], [two], "auc") == "two.csv and one.csv have other labels for the same rows"


def test_a_metric_that_predictions_do_not_tell_says_what_it_needs() -> None:
    told = rows_together([MINE], [THEIRS], "bleu")
    assert told == "mine.csv: how bleu comes from predictions is not known; give it a column of its name"
    bare = file("bare.csv", id=numbers(1), guess=numbers(1))
    assert "there are: id, guess" in str(rows_together([bare], [bare], "accuracy"))
    assert rows_together([], [MINE], "accuracy") == "one side has no predictions"
