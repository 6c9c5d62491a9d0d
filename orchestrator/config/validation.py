"""From pydantic's errors to problems that a person can act upon."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, TypeVar, Union, get_args, get_origin

from pydantic import Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from orchestrator.config.models.common import NOT_YET, Context, Model, kind_of
from orchestrator.config.problems import ItemPath, Problem, any_of, closest
from orchestrator.config.yaml_loader import Document

M = TypeVar("M", bound=Model)

_TYPE_NAMES: Final = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "model_type": "a mapping (key: value)",
    "dict_type": "a mapping (key: value)",
    "mapping_type": "a mapping (key: value)",
}
_LIMITS: Final = {
    "greater_than_equal": ("too small", "at least", "ge"),
    "greater_than": ("too small", "more than", "gt"),
    "less_than_equal": ("too large", "at most", "le"),
    "less_than": ("too large", "less than", "lt"),
}
_TRUE_WORDS: Final = {"yes", "on", "y", "true", "1"}
_FALSE_WORDS: Final = {"no", "off", "n", "false", "0"}


def validate(model: type[M], document: Document, context: Context) -> tuple[M | None, list[Problem]]:
    """The document as a `model`, or None and everything that is wrong in it."""
    if not isinstance(document.data, dict):
        found = kind_of(document.data)
        first = next(iter(model.model_fields))
        problem = document.problem(
            (), f"the file holds {found}, not a mapping", f"lines of `key: value`, such as {first}: …"
        )
        return None, [problem]
    try:
        return model.model_validate(document.data, context=context), []
    except ValidationError as error:
        problems = [_problem(model, document, details) for details in error.errors(include_url=False)]
        return None, _without_echoes(problems, document)


def _without_echoes(problems: list[Problem], document: Document) -> list[Problem]:
    """A misspelt required key is unknown and missing at once: one message is enough."""
    meant = {problem.suggestion for problem in problems if problem.message.startswith("unknown key")}
    return [problem for problem in problems if problem.message not in {_missing(name) for name in meant}]


def _missing(name: str) -> str:
    return f'the key "{name}" is missing'


def _problem(model: type[Model], document: Document, details: ErrorDetails) -> Problem:
    path = _path(details["loc"])
    kind = details["type"]
    if kind == "config":
        return _own(document, path, details)
    if kind == "extra_forbidden":
        return _unknown_key(model, document, path, details)
    if kind == "missing":
        name = str(path[-1])
        expected = _example(_field(_reach(model, details["loc"][:-1]), name), name)
        return Problem(document.file, document.key_position(path[:-1]), _missing(name), expected)
    if details["input"] is None and kind in _TYPE_NAMES:
        return Problem(
            document.file,
            document.key_position(path),
            f'the key "{path[-1]}" has no value',
            f"{_TYPE_NAMES[kind]}, or no such key",
        )
    message, expected, suggestion = _explain(kind, details)
    return document.problem(path, message, expected, suggestion)


def _own(document: Document, path: ItemPath, details: ErrorDetails) -> Problem:
    context = details.get("ctx", {})
    message, expected, suggestion = (
        str(context.get(name, "")) for name in ("message", "expected", "suggestion")
    )
    key = str(context.get("key", ""))
    if key and document.holds((*path, key)):
        position = document.key_position((*path, key))
    elif details["loc"][-1:] == ("[key]",):
        position = document.key_position(path)
    else:
        position = document.value_position(path)
    return Problem(document.file, position, message, expected, suggestion)


def _unknown_key(model: type[Model], document: Document, path: ItemPath, details: ErrorDetails) -> Problem:
    name = str(path[-1])
    owner = next((m for m in _options(_reach(model, details["loc"][:-1])) if _is_model(m)), None)
    position = document.key_position(path)
    if not (isinstance(owner, type) and issubclass(owner, Model)):
        return Problem(document.file, position, f'unknown key "{name}"')
    known = [field.alias or own for own, field in owner.model_fields.items()]
    if name in owner.later:
        hint = f" ({owner.later[name]})" if owner.later[name] else ""
        return Problem(document.file, position, f'"{name}" is {NOT_YET}{hint}', any_of(known, 24))
    return Problem(document.file, position, f'unknown key "{name}"', any_of(known, 24), closest(name, known))


def _explain(kind: str, details: ErrorDetails) -> tuple[str, str, str]:
    value: object = details["input"]
    context: Mapping[str, object] = details.get("ctx", {})
    if kind in _TYPE_NAMES:
        wanted = _TYPE_NAMES[kind]
        found = f'"{value}"' if isinstance(value, str) and len(value) < 40 else kind_of(value)
        if isinstance(value, str) and value.strip().isdecimal() and kind != "bool_type":
            return f"{found} is text, because of its quotes", f"{wanted} without quotes", ""
        return f"{found} is not possible here", wanted, _boolean(value) if kind == "bool_type" else ""
    if kind in _LIMITS:
        word, phrase, name = _LIMITS[kind]
        return f"{value} is {word}", f"{phrase} {context.get(name)}", ""
    if kind == "literal_error":
        words = [
            word.strip("'") for word in str(context.get("expected", "")).replace(" or ", ", ").split(", ")
        ]
        shown = f'"{value}"' if isinstance(value, str) else kind_of(value)
        return f"{shown} is not possible here", any_of(words), closest(str(value), words)
    if kind in ("too_short", "string_too_short"):
        return "this is empty", "at least one item" if kind == "too_short" else "text", ""
    return details["msg"], "", ""


def _boolean(value: object) -> str:
    word = str(value).lower()
    return "true" if word in _TRUE_WORDS else "false" if word in _FALSE_WORDS else ""


def _example(field: FieldInfo | None, name: str) -> str:
    if field is None or not field.examples:
        return f"{name}: …"
    example = field.examples[0]
    return f"{name}: {example}" if isinstance(example, str | int | float) else f"{name}: …"


def _path(location: tuple[int | str, ...]) -> ItemPath:
    """The place in the file: pydantic's location without the tags of unions, which no file contains."""
    return tuple(part for part in location if not _is_tag(part))


def models_below(*roots: type[Model]) -> set[type[Model]]:
    """The models, and all that their fields hold."""
    found: set[type[Model]] = set()
    waiting: list[object] = list(roots)
    while waiting:
        for option in _options(waiting.pop()):
            if isinstance(option, type) and issubclass(option, Model):
                if option not in found:
                    found.add(option)
                    waiting += [field.annotation for field in option.model_fields.values()]
            else:
                waiting += get_args(option)
    return found


def _is_tag(part: int | str) -> bool:
    return isinstance(part, str) and (part == "[key]" or (part.startswith("<") and part.endswith(">")))


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Model)


def _reach(model: type[Model], location: tuple[int | str, ...]) -> object:
    """The annotation at a location inside a model, or None."""
    current: object = model
    for part in location:
        current = _step(current, part)
    return current


def _step(annotation: object, part: int | str) -> object:
    for option in _options(annotation, part if isinstance(part, str) and _is_tag(part) else None):
        if _is_tag(part):
            return option
        if isinstance(option, type) and issubclass(option, Model):
            field = _field(option, str(part))
            return field.annotation if field is not None else None
        if get_origin(option) is tuple:
            return get_args(option)[0]
        if len(get_args(option)) == 2:
            return get_args(option)[1]
    return None


def _options(annotation: object, tag: str | None = None) -> Iterator[object]:
    """What an annotation may be, without Annotated, None and unions; with `tag`, only what carries it."""
    if get_origin(annotation) is Annotated:
        bare, *metadata = get_args(annotation)
        tags = [item.tag for item in metadata if isinstance(item, Tag)]
        if tag is None or tag in tags or not tags:
            yield from _options(bare, None if tag in tags else tag)
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _options(member, tag)
    elif annotation is not type(None) and tag is None:
        yield annotation


def _field(annotation: object, name: str) -> FieldInfo | None:
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, Model):
            for own, field in option.model_fields.items():
                if (field.alias or own) == name:
                    return field
    return None
