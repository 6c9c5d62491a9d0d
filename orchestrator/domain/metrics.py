"""Numbers that a training leaves behind."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias


class Direction(StrEnum):
    """Which way is good."""

    HIGHER = "higher"
    LOWER = "lower"

    @property
    def sign(self) -> int:
        """+1 when higher is better, -1 when lower is."""
        return 1 if self is Direction.HIGHER else -1


@dataclass(frozen=True, slots=True)
class Metric:
    """One value.

    ``name`` is flattened with ``/``; ``value`` may be NaN or infinite; ``source`` is the file it came
    from and ``reader`` the format it was read as. The rest is what the file says, None or empty where it says
    nothing: ``step`` is that of the value, ``timestamp`` is in seconds since 1970 in UTC, ``stderr`` is the
    standard error of the value in its own unit.
    """

    name: str
    value: float
    source: str = ""
    reader: str = ""
    step: int | None = None
    timestamp: float | None = None
    stderr: float | None = None
    direction: Direction | None = None
    unit: str = ""


_LOWER = frozenset(
    ["loss", "error", "err", "rmse", "mse", "mae", "mape", "latency", "perplexity", "logloss", "wer", "cer"]
)
_HIGHER = frozenset(
    [
        "accuracy",
        "acc",
        "f1",
        "auc",
        "auroc",
        "r2",
        "precision",
        "recall",
        "bleu",
        "map",
        "ndcg",
        "iou",
        "dice",
    ]
)


def infer_direction(name: str) -> Direction | None:
    """The direction that a metric's name says unmistakably, else None.

    The name is split at everything that is not a letter or digit; words for both directions, or none, say
    nothing.
    """
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    lower, higher = bool(words & _LOWER), bool(words & _HIGHER)
    if lower == higher:
        return None
    return Direction.LOWER if lower else Direction.HIGHER


# What a JSON document may hold once it is parsed.
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


def flatten(document: Json, source: str, reader: str) -> tuple[Metric, ...]:
    """Every number in a parsed document as a Metric, nested keys joined by ``/``; list items by their index.

    Booleans and texts are left out, except the texts that stand for NaN and the infinities (``"NaN"``,
    ``"Infinity"``, ``"-Infinity"``), which some libraries write because JSON has no such numbers.
    """
    return tuple(Metric(name, value, source, reader) for name, value in _numbers(document, ""))


_SPECIAL = {"nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer beyond what a float holds
        return math.inf if number > 0 else -math.inf


def _numbers(node: Json, prefix: str) -> Iterator[tuple[str, float]]:
    match node:
        case bool() | None:
            return
        case int() | float():
            if prefix:
                yield prefix, _as_float(node)
        case str():
            if prefix and node.strip().lower() in _SPECIAL:
                yield prefix, _SPECIAL[node.strip().lower()]
        case Mapping():
            for key, value in node.items():
                yield from _numbers(value, f"{prefix}/{key}" if prefix else str(key))
        case _:
            for index, value in enumerate(node):
                yield from _numbers(value, f"{prefix}/{index}" if prefix else str(index))


def format_value(value: float) -> str:
    """A number as people read it: at most six significant digits, no trailing noise."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"


def format_exact(value: float | Decimal) -> str:
    """A finite number with all its digits, for what a person wrote: ``0.9``, ``12``, ``1e-7``."""
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact:
        return "0"
    exact = exact.normalize()
    return f"{exact:f}" if -7 < exact.adjusted() < 15 else f"{exact:e}"


def format_apart(value: float, other: float) -> str:
    """As :func:`format_value`, with as many more digits as it takes to tell it from ``other``."""
    text = format_value(value)
    for digits in range(7, 18):
        if value == other or text != format_value(other):
            break
        text = f"{value:.{digits}g}"
    return text


def format_compared(value: float, other: float) -> tuple[str, str]:
    """Two numbers side by side, with as many decimals as their difference needs and no more.

    The difference shows in at least two significant digits; three decimals are kept where there are any.
    """
    if not (math.isfinite(value) and math.isfinite(other)) or value == other:
        return format_value(value), format_value(other)
    decimals = max(1 - math.floor(math.log10(abs(value - other))), 3)
    if decimals > 12 or max(abs(value), abs(other)) >= 1e12:
        return format_apart(value, other), format_apart(other, value)
    return _decimals(value, decimals), _decimals(other, decimals)


def _decimals(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_amount(value: float, limit: float) -> str:
    """An amount with two significant digits, or as many as it takes to stay on its side of a limit."""
    for digits in range(2, 18):
        text = f"{value:.{digits}g}"
        shown = float(text)
        if (shown > limit) == (value > limit) and (shown < limit) == (value < limit):
            return format_exact(shown)
    return format_exact(value)


def format_difference(value: float) -> str:
    """A difference with its sign, two significant digits, and no fewer than its whole part has."""
    if not math.isfinite(value):
        return format_value(value)
    if value == 0:
        return "±0"
    return f"{value:+.0f}" if abs(value) >= 10 else f"{value:+.2g}"


Values: TypeAlias = Mapping[str, float]
"""One replicate's metrics by name."""


def values_of(metrics: Mapping[int, Sequence[Metric]]) -> dict[int, Values]:
    """A run's metrics by replicate, rising, and name; the first file's, where several hold a name."""
    found: dict[int, Values] = {}
    for replicate in sorted(metrics):
        values: dict[str, float] = {}
        for metric in metrics[replicate]:
            values.setdefault(metric.name, metric.value)
        found[replicate] = values
    return found
