"""Reading JSON that a server answers, without believing that it has the form that was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias, cast

from orchestrator.domain.errors import DatasetUnavailable

_NUMBER: Final = re.compile(r"[0-9]{1,18}")

Plain: TypeAlias = "bool | int | float | str | Sequence[Plain] | Mapping[str, Plain] | None"


class Answered:
    """A JSON object of an answer, for a dataset. DatasetUnavailable when something is not as it should be."""

    def __init__(self, dataset: str, value: Plain) -> None:
        if not isinstance(value, Mapping):
            raise _odd(dataset, "no JSON object")
        self._dataset = dataset
        self._value = value

    def text(self, key: str, default: str | None = None) -> str:
        """Text, or a default that is not None."""
        found = self._value.get(key, default)
        if not isinstance(found, str):
            raise _odd(self._dataset, f"no text at {key}")
        return found

    def number(self, key: str) -> int:
        """A whole number, which may be written as text."""
        found = self._value.get(key)
        if isinstance(found, str):
            found = number_of(found)
        if not isinstance(found, int) or isinstance(found, bool):
            raise _odd(self._dataset, f"no number at {key}")
        return found

    def inner(self, key: str) -> Answered | None:
        """An object in it; None when there is none."""
        found = self._value.get(key)
        return None if found is None else Answered(self._dataset, found)

    def items(self, key: str) -> list[Answered]:
        """The objects of a list; none when there is no list."""
        return listed(self._dataset, self._value.get(key, ()))

    def time(self, key: str) -> datetime | None:
        """A moment with its zone."""
        try:
            found = datetime.fromisoformat(self.text(key))
        except (ValueError, OverflowError, DatasetUnavailable):
            return None
        return found if found.tzinfo else None


def number_of(text: str) -> int | None:
    """A number of at most 18 digits; None for anything else."""
    return int(text) if _NUMBER.fullmatch(text) else None


def time_of(text: str) -> datetime | None:
    """A moment as headers tell it; None for anything else."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # "-0000" is a zone that nobody tells: the moment itself is that of UTC.
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def answered(dataset: str, content: bytes) -> Answered:
    """An answer that is an object."""
    return Answered(dataset, _parsed(dataset, content))


def listed(dataset: str, value: Plain | bytes) -> list[Answered]:
    """An answer, or a part of one, that is a list of objects."""
    plain = _parsed(dataset, value) if isinstance(value, bytes) else value
    if not isinstance(plain, list | tuple):
        raise _odd(dataset, "no list")
    return [Answered(dataset, item) for item in plain]


def _parsed(dataset: str, content: bytes) -> Plain:
    try:
        return cast("Plain", json.loads(content))
    except (ValueError, RecursionError) as error:
        raise _odd(dataset, "no JSON") from error


def _odd(dataset: str, what: str) -> DatasetUnavailable:
    return DatasetUnavailable(
        f"dataset {dataset}: the server's answer is not understood: {what}",
        "check that the address is that of such a service",
    )
