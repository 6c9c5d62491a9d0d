"""Markdown for forges, of texts that somebody else wrote: nothing in them is obeyed."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.text import clean

_JOINER = "\u2060"
_AS_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKUP = frozenset("\\`*_{}[]()+-.!|~$:\"'=^")
# Forges look for these in what Markdown became, where no backslash is left: one that nobody sees does.
_CALLS = {"@": f"@{_JOINER}", "#": f"\\#{_JOINER}", "/": f"/{_JOINER}"}


def plain(text: str) -> str:
    """A text on one line that shows as it is: no link, no image, no markup, and nobody is called by it."""
    return "".join(_AS_HTML.get(c) or _CALLS.get(c) or (f"\\{c}" if c in _MARKUP else c) for c in clean(text))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain texts; empty without rows."""
    if not rows:
        return ""
    lines = [headings, ["---"] * len(headings), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def shortened(text: str, length: int) -> str:
    """A text on one line with at most that many characters."""
    return cut(clean(text).strip(), length)


def cut(text: str, length: int) -> str:
    """At most that many characters of a text, and that it was cut."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
