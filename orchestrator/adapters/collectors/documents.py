"""JSON, YAML and TOML as plain data, from bytes that somebody else's code wrote.

No parser's recursion may be driven by the file: Python's own raise for it, and libyaml's composer ends the
process, for which reason YAML is put together from its events here.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

import yaml

from orchestrator.adapters.collectors.common import LONGEST_NAME, Findings, as_float, number
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Json

MOST_NODES: Final = 2_000_000
"""So many values a document may have: a few bytes can stand for very many."""
_DEEPEST: Final = 100
_LONGEST_TOML: Final = 64 << 10
_EXACT: Final = 1e15
"""Below it, a float that is a whole number was written as one."""


def parse_json(path: str, text: str, expected: str) -> Json:
    """A JSON text. Accepts NaN and Infinity, which Python's own ``json`` writes.

    InvalidInput for what is not JSON, is nested too deeply or has a name twice in one object.
    """

    def unique(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(pairs)
        if len(found) != len(pairs):
            counted = Counter(name for name, _ in pairs)
            twice = next(name for name, count in counted.items() if count > 1)
            raise InvalidInput(
                f"{path}: the name {twice!r} appears twice in one object", "rename one of them"
            )
        return found

    try:
        return cast("Json", json.loads(text, object_pairs_hook=unique, parse_int=float))
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}", expected) from None
    except RecursionError:
        raise InvalidInput(f"{path}: it is nested too deeply", expected) from None


def parse_toml(path: str, text: str, expected: str) -> Json:
    """A TOML text. Short ones alone: names with many dots take time that grows with the square of them."""
    if len(text) > _LONGEST_TOML:
        raise InvalidInput(
            f"{path}: it has {len(text)} characters, and TOML may have {_LONGEST_TOML}", "JSON, or YAML"
        )
    try:
        return cast("Json", tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path}: not TOML: {error}", expected) from None
    except RecursionError:
        raise InvalidInput(f"{path}: it is nested too deeply", expected) from None


def parse_yaml(path: str, text: str, expected: str) -> Json:
    """A YAML text's first document. Numbers are read also as JSON writes them (``1e-5``).

    Tags are not followed: no object is ever made of them. An alias stands for what it repeats when that is a
    single value, and InvalidInput is raised for any other: a few lines of them can stand for billions.
    """
    try:
        return _composed(path, text, expected)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InvalidInput(f"{path}{where}: not YAML: {error.problem or error.context}", expected) from None
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: not YAML: {error}", expected) from None


_Node = dict[str, "Json"] | list["Json"]


class _Composer:
    """The tree that events describe."""

    def __init__(self, path: str) -> None:
        self.root: list[Json] = []
        self._path = path
        self._stack: list[_Node] = [self.root]
        self._keys: list[str | None] = [None]
        self._anchors: dict[str, Json] = {}

    def begin(self, node: _Node) -> None:
        """Go into a mapping or a sequence."""
        if len(self._stack) > _DEEPEST:
            raise InvalidInput(f"{self._path}: it is nested too deeply", f"at most {_DEEPEST} levels")
        if self._awaits_key():
            raise InvalidInput(f"{self._path}: a list or mapping stands where a name should", "name: value")
        self._put(node)
        self._stack.append(node)
        self._keys.append(None)

    def end(self) -> None:
        """Come out of it."""
        self._stack.pop()
        self._keys.pop()

    def scalar(self, text: str, plain: bool, anchor: str | None) -> None:
        """A single value, or the name before one."""
        if self._awaits_key():
            node = cast("dict[str, Json]", self._stack[-1])
            if text in node:
                raise InvalidInput(
                    f"{self._path}: the name {text!r} appears twice in one mapping", "rename one of them"
                )
            self._keys[-1] = text
            return
        value = _plain(text) if plain else text
        if anchor:
            self._anchors[anchor] = value
        self._put(value)

    def alias(self, anchor: str) -> None:
        """A value again."""
        if anchor not in self._anchors:
            raise InvalidInput(
                f"{self._path}: the alias *{anchor} repeats a list or a mapping",
                "write it out, or leave it out",
            )
        value = self._anchors[anchor]
        if self._awaits_key():
            self._keys[-1] = str(value)
        else:
            self._put(value)

    def _awaits_key(self) -> bool:
        return isinstance(self._stack[-1], dict) and self._keys[-1] is None

    def _put(self, value: Json) -> None:
        node = self._stack[-1]
        if isinstance(node, list):
            node.append(value)
        else:
            node[self._keys[-1] or ""] = value
            self._keys[-1] = None


def _composed(path: str, text: str, expected: str) -> Json:
    composer = _Composer(path)
    loader: type[yaml.CSafeLoader] | type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for nodes, event in enumerate(yaml.parse(text, Loader=loader)):
        match event:
            case yaml.MappingStartEvent():
                composer.begin({})
            case yaml.SequenceStartEvent():
                composer.begin([])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                composer.end()
            case yaml.AliasEvent():
                composer.alias(event.anchor or "")
            case yaml.ScalarEvent():
                composer.scalar(event.value, event.implicit[0], event.anchor)
            case yaml.DocumentEndEvent():
                break
        if nodes > MOST_NODES:
            raise InvalidInput(f"{path}: it has more than {MOST_NODES} values", expected)
    return composer.root[0] if composer.root else None


_WORDS: Final[Mapping[str, Json]] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
}


def _plain(text: str) -> Json:
    value = number(text)
    if value is not None:
        return value
    low = text.lower()
    return _WORDS.get(low, text)


def numbers(document: Json) -> Iterator[tuple[str, float]]:
    """Every number in a document, nested names joined by ``/``, items by their index.

    Truth values and texts are left out, apart from texts that stand for NaN and the infinities.
    """
    for name, value in leaves(document):
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, str):
            special = number(value)
            if special is not None and not math.isfinite(special):
                yield name, special
        else:
            yield name, as_float(value)


def below(prefix: str, name: object) -> str:
    """A name within another one. Of what is too long to be kept, no more than shows that is put together."""
    if len(prefix) > LONGEST_NAME:
        return prefix
    short = str(name)[: LONGEST_NAME + 1]
    return f"{prefix}/{short}" if prefix else short


def leaves(document: Json, prefix: str = "") -> Iterator[tuple[str, bool | float | str | None]]:
    """Every single value in a document with its name."""
    match document:
        case Mapping():
            for key, value in document.items():
                yield from leaves(value, below(prefix, key))
        case list():
            for index, value in enumerate(document):
                yield from leaves(value, below(prefix, index))
        case bool() | int() | float() | str() | None:
            if prefix:
                yield prefix, document
        case _:  # dates and times of TOML
            yield prefix, str(document)


def note_params(found: Findings, document: Json, source: str = "") -> None:
    """All single values of a document as parameters; lists of them as one text."""
    for name, text in _texts(document):
        found.param(name, text, source)


def _texts(document: Json, prefix: str = "") -> Iterator[tuple[str, str]]:
    match document:
        case Mapping():
            for key, value in document.items():
                yield from _texts(value, below(prefix, key))
        case str():
            yield prefix, document
        case _:
            yield prefix, json.dumps(_as_written(document), default=str)


def _as_written(node: Json) -> Json:
    """With whole numbers as integers, as which the parsers above do not keep them."""
    if isinstance(node, float) and node.is_integer() and abs(node) < _EXACT:
        return int(node)
    if isinstance(node, list):
        return [_as_written(item) for item in node]
    if isinstance(node, dict):
        return {name: _as_written(value) for name, value in node.items()}
    return node
