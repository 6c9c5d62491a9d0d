"""File patterns over relative paths with ``/``:

``*`` and ``?`` stay within a folder, ``**`` crosses folders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)
_STARS: Final = 2
"""Stars of a pattern that is left to a regular expression."""
_LONG: Final = 512
"""Characters of a path that is left to it."""


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path fits any of the patterns, wholly. ``model.*`` fits files of the top folder alone."""
    return any(_fits(pattern, path) for pattern in patterns)


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """:func:`matches` for many paths: whether a path fits any of these patterns."""
    every = tuple(patterns)
    quick = [f"(?:{_compiled(pattern).pattern})" for pattern in every if _is_quick(pattern)]
    slow = tuple(pattern for pattern in every if not _is_quick(pattern))
    together = re.compile("|".join(quick), re.DOTALL) if quick else None

    def fits(path: str) -> bool:
        if len(path) > _LONG:
            return matches(path, every)
        return (together is not None and together.fullmatch(path) is not None) or (
            bool(slow) and matches(path, slow)
        )

    return fits


def _fits(pattern: str, path: str) -> bool:
    if _is_quick(pattern) and len(path) <= _LONG:
        return _compiled(pattern).fullmatch(path) is not None
    return _steps(pattern).fit(path)


@lru_cache(maxsize=512)
def _is_quick(pattern: str) -> bool:
    """Whether a regular expression cannot take long: each further star multiplies what it may try."""
    return sum(token.startswith("*") for token in _tokens(pattern)) <= _STARS


class _Steps:
    """A pattern that is held against a path in time that grows with both lengths, whatever they are.

    It keeps the set of places in the pattern where the path so far may end, as bits: Thompson's way
    (Communications of the ACM 11, 1968) with one word of any length.
    """

    def __init__(self, pattern: str) -> None:
        self._single: list[tuple[int, re.Pattern[str]]] = []
        self._stays = self._stays_inside = self._skips = self._enters = 0
        at = 0
        for token in _tokens(pattern):
            bit = 1 << at
            match token:
                case "**/":
                    # Two places: before the first folder, and within the folders.
                    self._enters |= bit
                    self._stays |= bit << 1
                    at += 1
                case "**":
                    self._skips |= bit
                    self._stays |= bit
                case "*":
                    self._skips |= bit
                    self._stays_inside |= bit
                case _:
                    self._single.append((bit, re.compile(_expression(token), re.DOTALL)))
            at += 1
        self._end = 1 << at
        self._moves: dict[str, int] = {}

    def fit(self, path: str) -> bool:
        """Whether the whole path fits."""
        places = self._reached(1)
        for character in path:
            ahead = (places & self._moving(character)) << 1
            if character == "/":
                # A folder's end: the place behind ``**/``, from before it and from within it.
                ahead |= ((places & self._enters) << 2) | ((places & (self._enters << 1)) << 1)
            else:
                ahead |= places & self._stays_inside
            ahead |= (places & self._stays) | ((places & self._enters) << 1)
            places = self._reached(ahead)
            if not places:
                return False
        return bool(places & self._end)

    def _reached(self, places: int) -> int:
        """With all places that are reached without a further character."""
        while True:
            more = places | ((places & self._skips) << 1) | ((places & self._enters) << 2)
            if more == places:
                return places
            places = more

    def _moving(self, character: str) -> int:
        """The places that this character takes one step on."""
        if character not in self._moves:
            bits = (bit for bit, single in self._single if single.fullmatch(character))
            self._moves[character] = sum(bits)
        return self._moves[character]


@lru_cache(maxsize=512)
def _steps(pattern: str) -> _Steps:
    return _Steps(pattern)


def fixed_folder(pattern: str) -> str:
    """The folder that holds everything a pattern can match:

    ``a/b`` for ``a/b/*.png``, empty for ``*.png``.
    """
    fixed: list[str] = []
    for part in pattern.removeprefix("./").split("/")[:-1]:
        if any(c in part for c in "*?["):
            break
        fixed.append(part)
    return "/".join(fixed)


def _tokens(pattern: str) -> list[str]:
    return _TOKEN.findall(pattern.removeprefix("./"))


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(map(_expression, _tokens(pattern))), re.DOTALL)


def _expression(token: str) -> str:
    match token:
        case "**/":
            return "(?:.*/)?"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case str() if len(token) > 1:
            inside = token[1:-1].replace("\\", "\\\\")
            return f"[^{inside[1:]}/]" if inside.startswith("!") else f"[{inside}]"
        case _:
            return re.escape(token)


def last_decides(rules: Sequence[str], fits: Callable[[str], bool]) -> bool:
    """What the last rule says whose pattern fits; ``!`` before a pattern says no.

    Where none fits: no, unless the first rule is such a no, which only makes sense as an exception from all.
    """
    for rule in reversed(rules):
        if fits(rule.removeprefix("!")):
            return not rule.startswith("!")
    return bool(rules) and rules[0].startswith("!")
