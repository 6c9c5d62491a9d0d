"""A strict YAML reader that remembers where everything stood.

It differs from `yaml.safe_load` where YAML 1.1 surprises people: only `true` and `false` are booleans, only
`null`, `~` and nothing are null, `22:22` and `2026-01-01` are text, digits with a leading zero are text,
and keys are always text. Duplicate keys, tags, several documents, self-reference and alias bombs are
refused. Merge keys (`<<`) and a modest use of anchors are welcome.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Never, TypeAlias

import yaml

from orchestrator.config.problems import ItemPath, Position, Problem
from orchestrator.config.yaml_syntax import explain, position_of

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 50
MAX_NODES: Final = 20_000
MAX_CHARACTERS: Final = 1024 * 1024

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None, "~": None, "": None}
_TEXT_TAGS = {"!", "tag:yaml.org,2002:str"}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


@dataclass(frozen=True)
class Document:
    """The values of one file, and the place of each key and value in it.

    A path is the keys and list indices that lead to a value, from the top.
    """

    file: str
    data: Plain
    keys: dict[ItemPath, Position] = field(default_factory=dict)
    values: dict[ItemPath, Position] = field(default_factory=dict)

    def key_position(self, path: ItemPath) -> Position:
        """Where the key at `path` is written; for a list item, where the item is."""
        return self.keys.get(path) or self.value_position(path)

    def value_position(self, path: ItemPath) -> Position:
        """Where the value at `path` begins; for a path that is not there, its nearest parent."""
        while path not in self.values and path:
            path = path[:-1]
        return self.values.get(path, Position(1, 1))

    def holds(self, path: ItemPath) -> bool:
        return path in self.values

    def problem(self, path: ItemPath, message: str, expected: str = "", suggestion: str = "") -> Problem:
        return Problem(self.file, self.value_position(path), message, expected, suggestion)


@dataclass(slots=True)
class _Node:
    at: Position
    value: bool | int | float | str | list[_Node] | dict[str, tuple[Position, _Node]] | None
    nodes: int = 1
    characters: int = 0


class _RefusedError(Exception):
    """Reading of this file cannot go on; the problem says why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def read(raw: bytes, file: str) -> tuple[Document | None, list[Problem]]:
    """Parse the bytes of one file, named `file` in messages.

    The document is None where nothing usable could be read. Duplicate keys are reported, and the rest is
    still returned, so that its own problems can be reported in the same go.
    """
    try:
        text = _decode(raw, file)
        composer = _Composer(text, file)
        root = composer.compose()
    except _RefusedError as refused:
        return None, [refused.problem]
    if root is None:
        return None, composer.problems
    document = Document(file, None)
    data = _expand(root, (), document)
    return Document(file, data, document.keys, document.values), composer.problems


def _decode(raw: bytes, file: str) -> str:
    start = Position(1, 1)
    if len(raw) > MAX_BYTES:
        raise _RefusedError(
            Problem(file, start, f"the file has {len(raw):,} bytes", f"at most {MAX_BYTES:,} bytes of YAML")
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = raw[: error.start].decode("utf-8", errors="replace")
        raise _RefusedError(
            Problem(file, _place(good, len(good)), "this is not UTF-8 text", "a file saved as UTF-8")
        ) from None
    if found := _CONTROL.search(text):
        name = f"U+{ord(found.group()):04X}"
        raise _RefusedError(
            Problem(
                file,
                _place(text, found.start()),
                f"the control character {name} is not allowed",
                "text without it",
            )
        )
    return text


def _place(text: str, index: int) -> Position:
    before = text[:index]
    return Position(before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)


class _Composer:
    """Turns parser events into nodes, within the limits, noting duplicate keys as it goes."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.text = text
        self.problems: list[Problem] = []
        self.anchors: dict[str, _Node] = {}
        self.open_anchors: set[str] = set()
        self.nodes = 0
        self.characters = 0
        self.last: yaml.Event | None = None
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)

    def compose(self) -> _Node | None:
        root: _Node | None = None
        while not isinstance(event := self.next(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self.refuse(event, "a second document starts here", "one document in each file")
                root = self.node(self.next(), 0)
        return root

    def next(self) -> yaml.Event:
        try:
            self.last = next(self.events)
        except yaml.YAMLError as error:
            raise _RefusedError(explain(error, self.text, self.file, self.last)) from None
        return self.last

    def refuse(self, event: yaml.Event, message: str, expected: str = "", suggestion: str = "") -> Never:
        raise _RefusedError(Problem(self.file, _at(event), message, expected, suggestion))

    def node(self, event: yaml.Event, depth: int) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        self.grow(event, 1, 0)
        anchor = event.anchor if isinstance(event, yaml.NodeEvent) else None
        if anchor is not None:
            self.open_anchors.add(anchor)
        if isinstance(event, yaml.ScalarEvent):
            node = self.scalar(event)
        elif depth >= MAX_DEPTH:
            raise _RefusedError(
                Problem(
                    self.file, _at(event), "the values are nested too deep", f"at most {MAX_DEPTH} levels"
                )
            )
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(event, depth + 1)
        elif isinstance(event, yaml.MappingStartEvent):
            node = self.mapping(event, depth + 1)
        else:
            raise TypeError(f"the YAML parser gave {event!r} where a value begins")
        if anchor is not None:
            self.open_anchors.discard(anchor)
            self.anchors[anchor] = node
        return node

    def alias(self, event: yaml.AliasEvent) -> _Node:
        name = str(event.anchor)
        if name in self.open_anchors:
            self.refuse(
                event, f"*{name} stands inside the value that it names", "an alias of a finished value"
            )
        if name not in self.anchors:
            self.refuse(
                event,
                f"*{name} is an alias, and no &{name} comes before it",
                "an anchor above it, or quotes around text that starts with *",
            )
        node = self.anchors[name]
        self.grow(event, node.nodes, node.characters)
        return node

    def grow(self, event: yaml.Event, nodes: int, characters: int) -> None:
        self.nodes += nodes
        self.characters += characters
        if self.nodes > MAX_NODES or self.characters > MAX_CHARACTERS:
            self.refuse(
                event,
                "the file grows too large once its aliases are written out",
                f"at most {MAX_NODES:,} values and {MAX_CHARACTERS:,} characters",
            )

    def scalar(self, event: yaml.ScalarEvent) -> _Node:
        self.check_tag(event)
        self.grow(event, 0, len(event.value))
        plain = event.implicit[0] and event.tag is None
        value = _plain_value(event.value) if plain else event.value
        return _Node(_at(event), value, 1, len(event.value))

    def sequence(self, start: yaml.SequenceStartEvent, depth: int) -> _Node:
        self.check_tag(start)
        items: list[_Node] = []
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            items.append(self.node(event, depth))
        return _weighed(_Node(_at(start), items), items)

    def mapping(self, start: yaml.MappingStartEvent, depth: int) -> _Node:
        self.check_tag(start)
        own: dict[str, tuple[Position, _Node]] = {}
        merged: dict[str, tuple[Position, _Node]] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key, is_merge = self.key(event)
            value = self.node(self.next(), depth)
            if is_merge:
                for name, entry in self.merged(event, value).items():
                    merged.setdefault(name, entry)
            elif key in own:
                first = own[key][0]
                self.problems.append(
                    Problem(
                        self.file,
                        _at(event),
                        f'the key "{key}" is here a second time; it is on line {first.line} already',
                        "each key once",
                    )
                )
            else:
                own[key] = (_at(event), value)
        entries = merged | own
        return _weighed(_Node(_at(start), entries), [node for _, node in entries.values()])

    def key(self, event: yaml.Event) -> tuple[str, bool]:
        if not isinstance(event, yaml.ScalarEvent):
            self.refuse(
                event,
                "this key is not plain text",
                "text before the colon, in quotes if it starts with { [ or *",
            )
        self.check_tag(event)
        self.grow(event, 0, len(event.value))
        plain = bool(event.implicit[0])
        if plain and event.value == "":
            self.refuse(event, "there is no key before this colon", "key: value")
        return event.value, plain and event.value == "<<"

    def merged(self, event: yaml.Event, value: _Node) -> dict[str, tuple[Position, _Node]]:
        parts = value.value if isinstance(value.value, list) else [value]
        merged: dict[str, tuple[Position, _Node]] = {}
        for part in parts:
            if not isinstance(part.value, dict):
                raise _RefusedError(
                    Problem(
                        self.file,
                        _at(event),
                        "<< does not name a mapping",
                        "<<: *name of an anchored mapping",
                    )
                )
            for name, entry in part.value.items():
                merged.setdefault(name, entry)
        return merged

    def check_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is None or (event.tag in _TEXT_TAGS and isinstance(event, yaml.ScalarEvent)):
            return
        self.refuse(
            event,
            f"the YAML tag {event.tag} is not supported",
            "no tag, or quotes around text that starts with !",
            f"'{event.tag}'" if event.tag.startswith("!") else "",
        )


def _weighed(node: _Node, children: list[_Node]) -> _Node:
    node.nodes += sum(child.nodes for child in children)
    node.characters += sum(child.characters for child in children)
    return node


def _at(event: yaml.Event) -> Position:
    return position_of(event.start_mark)


def _plain_value(text: str) -> bool | int | float | str | None:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and len(text) <= 20:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return _SPECIAL.get(text, text)


def _expand(node: _Node, path: ItemPath, document: Document) -> Plain:
    document.values[path] = node.at
    if isinstance(node.value, list):
        return [_expand(item, (*path, index), document) for index, item in enumerate(node.value)]
    if isinstance(node.value, dict):
        result: dict[str, Plain] = {}
        for name, (at, child) in node.value.items():
            document.keys[(*path, name)] = at
            result[name] = _expand(child, (*path, name), document)
        return result
    return node.value
