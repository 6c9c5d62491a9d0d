"""What a model says of each row of the evaluation data, and two sides' brought together row by row."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from orchestrator.domain.gate.context import Rows, RowScore

_LABELS: Final = ("label", "target", "truth", "actual", "y_true", "expected", "y")
_PREDICTIONS: Final = ("prediction", "predicted", "pred", "y_pred", "output")
_SCORES: Final = ("score", "probability", "prob", "proba", "y_score")
_IDS: Final = ("row_id", "id", "row", "index")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``numbers``, or with ``words`` for each row the place of its text in those."""

    numbers: array[float] = field(default_factory=lambda: array("d"))
    codes: array[int] = field(default_factory=lambda: array("i"))
    words: tuple[str, ...] = ()

    def keys(self) -> Sequence[float | str]:
        """The value of each row."""
        return [self.words[code] for code in self.codes] if self.words else self.numbers


@dataclass(frozen=True, slots=True)
class Predictions:
    """A file of predictions. All columns have ``rows`` values.

    ``columns`` are those that are needed of the file's ``names``; they take about ``held`` bytes.
    """

    source: str
    rows: int
    columns: Mapping[str, Column]
    names: Sequence[str] = ()
    held: int = 0

    def column(self, names: Sequence[str]) -> str:
        """The first of the names that there is a column for, whatever their case; empty for none."""
        known = {name.lower(): name for name in self.columns}
        return next((known[name.lower()] for name in names if name.lower() in known), "")


def columns_needed(names: Sequence[str], metric: str, row_id: str = "", slices: str = "") -> frozenset[str]:
    """Which of a file's columns may be asked for by ``rows_together``."""
    known = {
        *(metric.lower(), metric.rpartition("/")[2].lower(), slices.lower()),
        *(_LABELS + _PREDICTIONS + _SCORES),
        *((row_id.lower(),) if row_id else _IDS),
    }
    return frozenset(name for name in names if name.lower() in known)


def rows_together(
    candidate: Sequence[Predictions],
    baseline: Sequence[Predictions],
    metric: str,
    row_id: str = "",
    slices: str = "",
) -> Rows | str:
    """Both sides' predictions for a metric, in the candidate's order; or why they cannot be compared.

    The metric is ``accuracy``, ``f1``, ``auc``, ``mae`` or ``mse``, computed from a column of labels and one
    of predictions or scores; or it has a column of its name with its value for each row. Rows are matched by
    ``row_id``, and only when both sides have the same ones, and the same labels for them.
    """
    if not candidate or not baseline:
        return "one side has no predictions"
    first = candidate[0]
    recipe = _recipe(first, metric)
    if isinstance(recipe, str):
        return recipe
    orders = [_order(first, each, row_id) for each in (*candidate, *baseline)]
    read: list[Sequence[float]] = []
    labels: Sequence[float | str] = ()
    for each, order in zip((*candidate, *baseline), orders, strict=True):
        if isinstance(order, str):
            return order
        values = recipe.values(each)
        if isinstance(values, str):
            return values
        known = recipe.labels(each)
        if isinstance(known, str):
            return known
        if len(known):
            known = [known[at] for at in order]
            if labels and known != labels and not all(map(_is_same, known, labels)):
                return f"{each.source} and {first.source} have other labels for the same rows"
            labels = known
        read.append([values[at] for at in order])
    cut = _slices(first, slices)
    if isinstance(cut, str):
        return cut
    count = len(candidate)
    truth = () if recipe.score is RowScore.MEAN else [value for value in labels if isinstance(value, float)]
    return Rows(tuple(read[:count]), tuple(read[count:]), recipe.score, truth, cut)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a metric comes from the columns: each row's value or why there is none, and its label."""

    score: RowScore
    values: Callable[[Predictions], Sequence[float] | str]
    labels: Callable[[Predictions], Sequence[float | str] | str]


def _recipe(file: Predictions, metric: str) -> _Recipe | str:
    name = metric.rpartition("/")[2].lower()
    if column := file.column([metric, name]):
        known = file.column(_LABELS)
        # Scores without labels are fine; with others, they are of other data.
        return _Recipe(
            RowScore.MEAN,
            lambda each: _numbers(each, column),
            lambda each: each.columns[known].keys() if known in each.columns else (),
        )
    label, guess, score = file.column(_LABELS), file.column(_PREDICTIONS), file.column(_SCORES)
    if not label or not (guess or score):
        return (
            f"{file.source}: {metric} needs a column of its name, or a column label and one prediction or"
            f" score; there are: {', '.join(list(file.names or file.columns)[:10])}"
        )
    if name in ("accuracy", "acc") and guess:
        return _Recipe(
            RowScore.MEAN, lambda each: _right(each, label, guess), lambda each: _truth(each, label)
        )
    if name in ("mae", "mse") and guess:
        power = 1 if name == "mae" else 2
        return _Recipe(
            RowScore.MEAN,
            lambda each: _distances(each, label, guess, power),
            lambda each: _truth(each, label),
        )
    if name == "f1" and guess:
        return _Recipe(RowScore.F1, lambda each: _binary(each, guess), lambda each: _binary(each, label))
    if name in ("auc", "auroc", "roc_auc") and (score or guess):
        given = score or guess
        return _Recipe(RowScore.AUC, lambda each: _numbers(each, given), lambda each: _binary(each, label))
    return f"{file.source}: how {metric} comes from predictions is not known; give it a column of its name"


def _numbers(file: Predictions, name: str) -> Sequence[float] | str:
    column = file.columns.get(name)
    if column is None:
        return f"{file.source} has no column {name}"
    if column.words:
        return f"{file.source}: column {name} holds texts"
    at = next((at for at, value in enumerate(column.numbers) if not math.isfinite(value)), None)
    return column.numbers if at is None else f"{file.source}: {name} is no finite number in row {at + 1}"


def _binary(file: Predictions, name: str) -> Sequence[float] | str:
    values = _numbers(file, name)
    if isinstance(values, str) or set(values) <= {0.0, 1.0}:
        return values
    return f"{file.source}: {name} has other values than 0 and 1"


def _truth(file: Predictions, name: str) -> Sequence[float | str] | str:
    column = file.columns.get(name)
    return column.keys() if column is not None and column.words else _numbers(file, name)


def _is_same(one: float | str, other: float | str) -> bool:
    return one == other or (one != one and other != other)


def _right(file: Predictions, label: str, guess: str) -> Sequence[float] | str:
    there = [file.columns.get(name) for name in (label, guess)]
    if there[0] is None or there[1] is None:
        return f"{file.source} has no column {label} or {guess}"
    return [float(one == other) for one, other in zip(there[0].keys(), there[1].keys(), strict=True)]


def _distances(file: Predictions, label: str, guess: str, power: int) -> Sequence[float] | str:
    truth, said = _numbers(file, label), _numbers(file, guess)
    if isinstance(truth, str):
        return truth
    return said if isinstance(said, str) else [abs(a - b) ** power for a, b in zip(truth, said, strict=True)]


def _order(first: Predictions, other: Predictions, row_id: str) -> Sequence[int] | str:
    """For each row of the first file, which row of the other it is."""
    name = first.column([row_id] if row_id else _IDS)
    theirs = other.column([name]) if name else ""
    if not name or not theirs:
        wanted = row_id or "row_id"
        return f"{(other if name else first).source} has no column {wanted}, so its rows cannot be matched"
    mine = first.columns[name].keys()
    places = {key: at for at, key in enumerate(other.columns[theirs].keys())}
    if len(places) < other.rows:
        return f"{other.source}: column {theirs} names some rows twice"
    try:
        order = array("i", [places[key] for key in mine])
    except KeyError as missing:
        return f"{other.source} has no row {missing.args[0]!r}, which {first.source} has: other rows"
    if len(order) != other.rows:
        return f"{other.source} has {other.rows} rows and {first.source} {len(order)}: other rows"
    return order


def _slices(file: Predictions, name: str) -> Mapping[str, Sequence[int]] | str:
    if not name:
        return {}
    column = file.columns.get(name)
    if column is None:
        return f"the predictions have no column {name}"
    found: dict[str, list[int]] = {}
    for at, key in enumerate(column.keys()):
        found.setdefault(key if isinstance(key, str) else f"{key:g}", []).append(at)
    return found
