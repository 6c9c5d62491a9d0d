"""What a YAML syntax error means for somebody who only wanted to write a list of branches."""

from __future__ import annotations

from typing import Protocol

import yaml

from orchestrator.config.problems import Position, Problem

_QUOTES = ("'", '"')
_CLOSING = {"[": "]", "{": "}"}


class _Mark(Protocol):
    """A place as PyYAML gives it, counted from 0; its C and Python versions are two classes."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


def position_of(mark: _Mark | None) -> Position:
    """A parser's mark as a position that counts from 1."""
    return Position(1, 1) if mark is None else Position(mark.line + 1, mark.column + 1)


def explain(error: yaml.YAMLError, text: str, file: str, last: yaml.Event | None) -> Problem:
    """The problem behind `error`; `last` is the event that the parser gave before it failed.

    libyaml's own words ("did not find expected key") point at the symptom. The characters at the two marks
    of the error tell the cause, so these are looked at; the wording of the error is the last resort.
    """
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(file, Position(1, 1), f"this is not YAML: {error}", "valid YAML")
    lines = text.split("\n")
    here = position_of(error.problem_mark or error.context_mark)
    origin = position_of(error.context_mark or error.problem_mark)
    line = _line(lines, here)
    char = line[here.column - 1 : here.column]
    opener = _line(lines, origin)[origin.column - 1 : origin.column]

    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent and here.column <= len(indent) + 1:
        return Problem(file, Position(here.line, indent.find("\t") + 1), "a tab is used to indent", "spaces")
    if opener in _QUOTES and isinstance(error, yaml.scanner.ScannerError):
        return _quoted(file, opener, origin, here, line)
    if isinstance(last, yaml.ScalarEvent) and last.style in _QUOTES:
        begin, end = position_of(last.start_mark), position_of(last.end_mark)
        if begin.line != end.line:
            message = f"the quoted text that begins here ends on line {end.line}, and YAML breaks there"
            return Problem(file, begin, message, "a closing quote where the text ends")
    if "${{" in line and opener in _CLOSING:
        return Problem(
            file, here, "${{ … }} stands bare between brackets", 'quotes around it: "${{ env.NAME }}"'
        )
    return _at_character(file, char, opener, origin, here, line) or Problem(
        file,
        here,
        f"this is not YAML: {error.problem}",
        "keys of one mapping in one column, and quotes closed above",
    )


def _quoted(file: str, opener: str, origin: Position, here: Position, line: str) -> Problem:
    if "\\" in line[max(0, here.column - 2) : here.column]:
        message = "this backslash begins no known escape"
        return Problem(file, here, message, "single quotes around text with backslashes")
    return Problem(file, origin, f"the quote {opener} is never closed", "a closing quote")


def _at_character(
    file: str, char: str, opener: str, origin: Position, here: Position, line: str
) -> Problem | None:
    before = line[: here.column]
    if opener == "!":
        message = "text that starts with ! is read as a YAML tag"
        return Problem(file, origin, message, 'quotes around it: "!docs/**"')
    if opener == "*" or char == "*":
        message = "text that starts with * is read as an alias"
        return Problem(file, here, message, 'quotes around it, for example "*.png"')
    if char and char in "@`%":
        return Problem(file, here, f"no text may start with {char}", "quotes around it")
    if char == ":" and ": " in before:
        expected = "one `key: value` a line, or quotes around the value"
        return Problem(file, here, "a second colon on this line", expected)
    if char == ":" and before.strip() == ":":
        return Problem(file, here, "there is no key before this colon", "key: value")
    if char == ":":
        expected = "keys of one mapping in one column, and brackets and quotes closed above"
        return Problem(file, here, "no key is possible here", expected)
    if opener in _CLOSING:
        message = f"the {opener} of line {origin.line} is not closed here"
        return Problem(file, here, message, f"a comma or {_CLOSING[opener]}")
    return None


def _line(lines: list[str], position: Position) -> str:
    return lines[position.line - 1] if position.line <= len(lines) else ""
