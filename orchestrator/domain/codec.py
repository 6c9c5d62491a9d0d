"""Domain values to and from plain JSON values, driven by their type hints.

Dataclasses become objects, enums their value, tuples arrays, datetimes ISO 8601 in UTC. A union of
dataclasses is told apart by their ``kind`` field. Fields that are absent take their default, so that old rows
stay readable; unknown ones are ignored. NaN and the infinities, which JSON lacks, become the strings that
:func:`float` reads.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar, Union, cast, get_args, get_origin

T = TypeVar("T")


def to_plain(value: object) -> Any:  # noqa: ANN401 - JSON has no narrower type that callers could use
    """A value as JSON can hold it. Raises TypeError for a type that no domain value uses."""
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Mapping():
            return {str(to_plain(k)): to_plain(v) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return [to_plain(v) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    raise TypeError(f"no plain form for {type(value).__name__}")


def from_plain(kind: type[T], plain: object) -> T:
    """Rebuild a value of ``kind``. Raises ValueError when the plain value does not fit it."""
    try:
        return cast(T, _build(kind, plain))
    except (TypeError, OverflowError) as error:  # a field that lacks, a text where a number belongs
        raise ValueError(f"no {kind} can be made: {error}") from error


@functools.cache
def _fields(cls: type) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((f.name, hints[f.name]) for f in dataclasses.fields(cls))


def _build(hint: Any, plain: Any) -> Any:  # noqa: ANN401 - type hints are values of any type
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _build_union(get_args(hint), plain)
    if origin is tuple:
        args = get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_build(args[0], item) for item in _sequence(plain))
        return tuple(_build(arg, item) for arg, item in zip(args, _sequence(plain), strict=True))
    if origin is not None and issubclass(origin, Mapping):
        key, value = get_args(hint)
        if not isinstance(plain, Mapping):
            raise ValueError(f"expected an object, got {type(plain).__name__}")
        return {_build(key, k): _build(value, v) for k, v in plain.items()}
    if dataclasses.is_dataclass(hint):
        if not isinstance(plain, Mapping):
            raise ValueError(f"expected an object for {hint}")
        return cast(Any, hint)(**{n: _build(h, plain[n]) for n, h in _fields(cast(type, hint)) if n in plain})
    if hint is datetime:
        return datetime.fromisoformat(plain)
    if hint is float:
        return float(plain)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(plain)
    if isinstance(hint, type) and not isinstance(plain, hint):
        raise ValueError(f"expected {hint.__name__}, got {type(plain).__name__}")
    return plain


def _sequence(plain: object) -> Sequence[object]:
    if not isinstance(plain, list | tuple):
        raise ValueError(f"expected an array, got {type(plain).__name__}")
    return plain


def _build_union(options: tuple[Any, ...], plain: Any) -> Any:  # noqa: ANN401 - the same
    if plain is None and type(None) in options:
        return None
    concrete = [option for option in options if option is not type(None)]
    if len(concrete) == 1:
        return _build(concrete[0], plain)
    for option in concrete:
        tag = next((f.default for f in dataclasses.fields(option) if f.name == "kind"), None)
        if isinstance(plain, Mapping) and tag == plain.get("kind"):
            return _build(option, plain)
    raise ValueError(f"no kind fits {plain!r}")
