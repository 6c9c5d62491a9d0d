"""The reference of all keys in Markdown, made from the same descriptions as the schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from orchestrator.config.schema import KINDS, Kind, json_schema
from orchestrator.config.yaml_loader import Plain

BEGIN: Final = "<!-- reference: made by `python -m orchestrator.config.schema docs`; do not edit below -->"
END: Final = "<!-- end of the reference -->"
_PLACES: Final[dict[Kind, str]] = {
    "orchestrator": "config/orchestrator.yaml",
    "runner": "config/runners/NAME.yaml",
    "pipeline": "config/pipelines/NAME.yaml",
}
_WORDS: Final = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
    "array": "list",
}

_Schema = dict[str, Plain]


def updated(page: str) -> str:
    """`page` with the part between the two marks made anew. Raises ValueError if the marks are missing."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page lacks the marks around its reference")
    return f"{head}{BEGIN}\n\n{reference()}\n{END}{tail}"


def reference() -> str:
    """All keys of all files as Markdown tables."""
    return "\n".join(line for kind in KINDS for line in _file(kind))


def _file(kind: Kind) -> Iterator[str]:
    schema = json_schema(kind)
    definitions = schema.get("$defs")
    walker = _Walker(definitions if isinstance(definitions, dict) else {})
    yield f"## {_PLACES[kind]}"
    yield ""
    yield from walker.section("", schema)


class _Walker:
    """Walks a schema and writes one table for each kind of mapping, where it is first met."""

    def __init__(self, definitions: _Schema) -> None:
        self.definitions = definitions
        self.places: dict[str, str] = {}

    def section(self, place: str, schema: _Schema) -> Iterator[str]:
        if place:
            yield f"### {place}"
            yield ""
            yield f"{schema.get('description', '')}"
            yield ""
        yield "| key | value | default | meaning |"
        yield "| --- | --- | --- | --- |"
        required = schema.get("required")
        below: list[tuple[str, str]] = []
        properties = schema.get("properties")
        for key, spec in properties.items() if isinstance(properties, dict) else ():
            if not isinstance(spec, dict):
                continue
            needed = isinstance(required, list) and key in required
            yield f"| `{key}` | {self.kind(spec)} | {_default(spec, needed)} | {_meaning(spec)} |"
            path = f"{place}.{key}" if place else key
            below += self.nested(spec, path)
        yield ""
        later = schema.get("x-later")
        if isinstance(later, dict):
            yield "Not available in this version: " + ", ".join(f"`{key}`" for key in later) + "."
            yield ""
        for name, path in below:
            if name not in self.places:
                self.places[name] = path
                definition = self.definitions[name]
                if isinstance(definition, dict):
                    yield from self.section(path, definition)

    def kind(self, spec: _Schema) -> str:
        if isinstance(name := spec.get("$ref"), str):
            return "mapping" if name else ""
        if isinstance(words := spec.get("enum"), list):
            return ", ".join(f"`{word}`" for word in words)
        if isinstance(options := spec.get("anyOf") or spec.get("oneOf"), list):
            kinds = [self.kind(option) for option in options if isinstance(option, dict)]
            return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null"))
        unit = spec.get("x-unit")
        if unit in ("duration", "size", "margin"):
            return str(unit)
        if spec.get("type") == "array" and isinstance(items := spec.get("items"), dict):
            return f"list of {self.kind(items)}"
        if (values := _values(spec)) is not None:
            return f"mapping of names to {self.kind(values)}"
        word = spec.get("type")
        plain = _WORDS.get(word, word) if isinstance(word, str) else "value"
        return f"{plain} ({unit})" if isinstance(unit, str) else plain

    def nested(self, spec: Plain, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(spec, list):
            for item in spec:
                yield from self.nested(item, path)
        if not isinstance(spec, dict):
            return
        if isinstance(name := spec.get("$ref"), str):
            yield name.rpartition("/")[2], path
        for key in ("anyOf", "oneOf"):
            yield from self.nested(spec.get(key), path)
        yield from self.nested(spec.get("items"), f"{path}[]")
        yield from self.nested(_values(spec), f"{path}.NAME")


def _values(spec: _Schema) -> _Schema | None:
    """What the values of a mapping with free keys look like."""
    patterns = spec.get("patternProperties")
    values = next(iter(patterns.values())) if isinstance(patterns, dict) else spec.get("additionalProperties")
    return values if isinstance(values, dict) and values else None


def _default(spec: _Schema, needed: bool) -> str:
    if needed:
        return "required"
    default = spec.get("default")
    if default in (None, {}, [], ""):
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)}`"


def _meaning(spec: _Schema) -> str:
    text = str(spec.get("description", ""))
    examples = spec.get("examples")
    if isinstance(examples, list) and examples:
        shown = [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in examples]
        text += " For example " + ", ".join(f"`{item}`" for item in shown) + "."
    return text.replace("|", "\\|")
