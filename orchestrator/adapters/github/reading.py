"""Reading answers: values of the kinds that the API's description promises, or a clear no."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


class NotUnderstood(Exception):
    """An answer that is not what the API's description promises; the text says what lacks."""


def parsed(text: str) -> Json:
    """A body as JSON."""
    try:
        value: Json = json.loads(text) if text else None
    except ValueError:
        raise NotUnderstood("it is no JSON") from None
    return value


def at(value: Json, *keys: str) -> Json:
    """What stands under some keys; None where one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def text_at(value: Json, *keys: str) -> str:
    found = at(value, *keys)
    if not isinstance(found, str):
        raise NotUnderstood(f"{'.'.join(keys)} is no text")
    return found


def number_at(value: Json, *keys: str) -> int:
    found = at(value, *keys)
    if not isinstance(found, int) or isinstance(found, bool):
        raise NotUnderstood(f"{'.'.join(keys)} is no number")
    return found


def moment_at(value: Json, *keys: str) -> datetime:
    try:
        return datetime.fromisoformat(text_at(value, *keys))
    except ValueError:
        raise NotUnderstood(f"{'.'.join(keys)} is no time") from None


def items_of(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise NotUnderstood("it is no list")
    return value
