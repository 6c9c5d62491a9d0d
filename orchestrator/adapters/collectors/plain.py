"""Plain JSON, YAML and TOML: every number in it is a metric, nested names joined by ``/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from orchestrator.adapters.collectors.common import Findings, read_text
from orchestrator.adapters.collectors.documents import numbers, parse_json, parse_toml, parse_yaml
from orchestrator.domain.collected import Reading
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Json
from orchestrator.ports.collecting import LeftFile

_EXPECTED: Final[Mapping[str, str]] = {
    "json": 'expected an object of named numbers such as {"accuracy": 0.93}',
    "yaml": "expected named numbers such as accuracy: 0.93",
    "toml": "expected named numbers such as accuracy = 0.93",
}
_PARSERS: Final[Mapping[str, Callable[[str, str, str], Json]]] = {
    "json": parse_json,
    "yaml": parse_yaml,
    "toml": parse_toml,
}


def kind_of(path: str) -> str:
    """``json``, ``yaml`` or ``toml`` by a file's name; empty for all else."""
    suffix = PurePosixPath(path.lower()).suffix.removeprefix(".")
    suffix = "yaml" if suffix == "yml" else suffix
    return suffix if suffix in _PARSERS else ""


def load(file: LeftFile, kind: str = "") -> Json:
    """The document in a file of one of the three kinds, by default that of its name. Raises InvalidInput."""
    kind = kind or kind_of(file.path)
    return _PARSERS[kind](file.path, read_text(file, _EXPECTED[kind]), _EXPECTED[kind])


def load_mapping(file: LeftFile, kind: str = "") -> Mapping[str, Json]:
    """As :func:`load`; InvalidInput also for a document that is no object."""
    kind = kind or kind_of(file.path)
    document = load(file, kind)
    if not isinstance(document, Mapping):
        raise InvalidInput(f"{file.path}: this is {_kind(document)}", _EXPECTED[kind])
    return document


def read_plain(file: LeftFile, document: Mapping[str, Json], kind: str) -> Reading:
    """The numbers of a document that is of no format known better."""
    found = Findings(kind, file.path)
    for name, value in numbers(document):
        if name in found.metrics():
            raise InvalidInput(f"{file.path}: two numbers are called {name!r}", "rename one of them")
        found.metric(name, value)
    return found.reading()


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
        case Sequence():
            return "a list"
        case _:
            return "something else"
