"""File patterns over relative paths with ``/``:

``*`` and ``?`` stay within a folder, ``**`` crosses folders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path fits any of the patterns, wholly. ``model.*`` fits files of the top folder alone."""
    return any(_compiled(pattern).fullmatch(path) for pattern in patterns)


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """:func:`matches` for many paths: whether a path fits any of these patterns."""
    texts = [f"(?:{_compiled(pattern).pattern})" for pattern in patterns]
    if not texts:
        return lambda path: False
    together = re.compile("|".join(texts), re.DOTALL)
    return lambda path: together.fullmatch(path) is not None


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


_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    for token in _TOKEN.findall(pattern.removeprefix("./")):
        match token:
            case "**/":
                parts.append("(?:.*/)?")
            case "**":
                parts.append(".*")
            case "*":
                parts.append("[^/]*")
            case "?":
                parts.append("[^/]")
            case str() if len(token) > 1:
                inside = token[1:-1].replace("\\", "\\\\")
                parts.append(f"[^{inside[1:]}/]" if inside.startswith("!") else f"[{inside}]")
            case _:
                parts.append(re.escape(token))
    return re.compile("".join(parts), re.DOTALL)


def last_decides(rules: Sequence[str], fits: Callable[[str], bool]) -> bool:
    """What the last rule says whose pattern fits; ``!`` before a pattern says no.

    Where none fits: no, unless the first rule is such a no, which only makes sense as an exception from all.
    """
    for rule in reversed(rules):
        if fits(rule.removeprefix("!")):
            return not rule.startswith("!")
    return bool(rules) and rules[0].startswith("!")
