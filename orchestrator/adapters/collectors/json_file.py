"""Plain JSON: every number in it is a metric, nested names joined by ``/``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Json, Metric, flatten

_MOST_METRICS = 10_000
_LONGEST_NAME = 500
_EXPECTED = 'expected an object of named numbers such as {"accuracy": 0.93}'


class JsonCollector:
    """Reads ``*.json``. Accepts NaN, Infinity and -Infinity, which Python's own ``json`` writes."""

    def reads(self, path: str) -> bool:
        """Whether the name ends with ``.json``."""
        return path.lower().endswith(".json")

    def read(self, path: str, content: bytes) -> tuple[Metric, ...]:
        """All numbers. InvalidInput for what is not JSON, no object, too much, or has a name twice."""
        try:
            document = _parse(path, content)
            if not isinstance(document, dict):
                raise InvalidInput(f"{path}: this is {_kind(document)}", _EXPECTED)
            metrics = flatten(document, path, "json")
        except RecursionError:
            raise InvalidInput(f"{path}: it is nested too deeply", _EXPECTED) from None
        if len(metrics) > _MOST_METRICS:
            raise InvalidInput(
                f"{path}: it holds {len(metrics)} numbers, and one file may have {_MOST_METRICS}",
                "write single numbers here, and series or predictions to a file of their own",
            )
        names: set[str] = set()
        for metric in metrics:
            if metric.name in names:
                raise InvalidInput(f"{path}: two numbers are called {metric.name!r}", "rename one of them")
            if len(metric.name) > _LONGEST_NAME:
                raise InvalidInput(
                    f"{path}: the name {metric.name[:60]!r}... is too long", "nest less deeply"
                )
            names.add(metric.name)
        return metrics


def _parse(path: str, content: bytes) -> Json:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path}: byte {error.start + 1} is not UTF-8", "write the file as UTF-8"
        ) from None
    if not text.strip():
        raise InvalidInput(f"{path}: the file is empty", _EXPECTED)

    def unique(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for name, value in pairs:
            if name in found:
                raise InvalidInput(
                    f"{path}: the name {name!r} appears twice in one object", "rename one of them"
                )
            found[name] = value
        return found

    try:
        return cast("Json", json.loads(text, object_pairs_hook=unique, parse_int=float))
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}", _EXPECTED) from None


def _kind(document: Json) -> str:
    match document:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case int() | float():
            return "a single number without a name"
        case str():
            return "a text"
        case _:
            return "a list"
