"""Text that somebody else wrote, made safe to show: a terminal, a page or a mail must not obey it."""

from __future__ import annotations

import re
import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs"})
# ECMA-48: control sequences, operating system commands and other strings, and two-character escapes.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")


def clean(text: str) -> str:
    """A text on one line, without control characters, lone surrogates and marks that reverse the reading."""
    if text.isprintable():
        return text
    return "".join(
        " " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in _HIDDEN
    )


def escaped(text: str) -> str:
    """A text in which everything that :func:`clean` would remove is written out, as ``\\n`` or ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def readable(line: bytes) -> str:
    """A line of a log as a terminal shows it at last: no control codes, ``\\r`` progress at its end."""
    plain = _ESCAPES.sub("", line.decode("utf-8", "replace")).replace("\t", "    ")
    states = [state for state in plain.split("\r") if state.strip()]
    return clean(states[-1]) if states else ""
