"""What is wrong in a configuration, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]
ItemPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file. Both numbers count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `str()` is the line that people read.

    `suggestion` is what the text should probably have been, without quotes. It never holds a secret's value.
    """

    file: str
    position: Position
    message: str
    expected: str = ""
    suggestion: str = ""
    severity: Severity = "error"

    @property
    def line(self) -> int:
        return self.position.line

    @property
    def column(self) -> int:
        return self.position.column

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: "
        if self.severity == "warning":
            text += "warning: "
        text += self.message
        if self.expected:
            text += f"; expected {self.expected}"
        if self.suggestion and self.suggestion != self.expected:
            text += f'; did you mean "{self.suggestion}"?'
        return text


def in_reading_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sorted by file and place, without repetitions."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.position, p.message)))


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` was probably meant to be, or an empty string."""
    by_fold = {name.casefold().replace("_", "-"): name for name in known}
    found = difflib.get_close_matches(word.casefold().replace("_", "-"), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else ""


def any_of(words: Iterable[str], limit: int = 12) -> str:
    """`one of a, b, c` for a message; long lists are cut, and say so."""
    names = list(words)
    if len(names) == 1:
        return names[0]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return "one of " + ", ".join(names[:limit]) + more
