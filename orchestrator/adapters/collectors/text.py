"""Numbers in texts: by a pattern of the user's, or in lines that a program prints as most do.

Patterns are RE2's, which takes time in proportion to the text: one of Python's could take for ever on a line
that a training prints, and stop the whole server meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, Protocol, cast

from orchestrator.adapters.collectors.common import Findings, number
from orchestrator.adapters.collectors.jsonlines import note_record, parse_line
from orchestrator.domain.collected import Reading
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.text import readable
from orchestrator.ports.collecting import LeftFile

LONGEST_LINE: Final = 64 << 10
_MOST_MEMORY: Final = 8 << 20
_LONGEST_PATTERN: Final = 1_000
_STEPS: Final = ("step", "epoch")
_EXPECTED: Final = r"expected a pattern with named groups, such as accuracy:\s+(?P<accuracy>[0-9.]+)"


class _Match(Protocol):
    def groupdict(self) -> dict[str, str | None]: ...


class _Pattern(Protocol):
    groupindex: Mapping[str, int]

    def finditer(self, text: str) -> Iterator[_Match]: ...


def compiled(pattern: str) -> _Pattern:
    """A pattern with at least one named group that is no step. Raises InvalidInput for any other."""
    import re2

    if len(pattern) > _LONGEST_PATTERN:
        raise InvalidInput(f"the pattern has {len(pattern)} characters", f"at most {_LONGEST_PATTERN}")
    options = re2.Options()
    options.max_mem = _MOST_MEMORY
    options.log_errors = False
    try:
        made = cast("_Pattern", re2.compile(pattern, options))
    except re2.error as error:
        said = error.args[0] if error.args else ""
        why = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise InvalidInput(
            f"the pattern {pattern!r} cannot be used: {why}",
            "expected an expression of RE2's kind: without look-around and references to groups",
        ) from None
    if not set(made.groupindex) - set(_STEPS):
        raise InvalidInput(f"the pattern {pattern!r} has no named group for a number", _EXPECTED)
    return made


def search_text(file: LeftFile, pattern: str) -> Reading:
    """A file's numbers by a pattern."""
    made = compiled(pattern)
    found = Findings("pattern", file.path)
    count = 0
    with file.open() as stream:
        while line := stream.readline(LONGEST_LINE):
            count = _note_matches(found, made, line.decode("utf-8", "replace"), count)
    if not count:
        what = "the file is empty" if not file.size else f"nothing in it fits the pattern {pattern!r}"
        raise InvalidInput(f"{file.path}: {what}", _EXPECTED)
    return found.reading()


def _note_matches(found: Findings, pattern: _Pattern, text: str, count: int) -> int:
    for match in pattern.finditer(text):
        groups = match.groupdict()
        step = next((number(said) for name in _STEPS if (said := groups.get(name))), None)
        for name, matched in groups.items():
            if name in _STEPS or matched is None:
                continue
            value = number(matched)
            if value is None:
                found.warn(f"{found.source}: {matched[:60]!r} was found for {name} and is no number")
                continue
            found.point(name, count if step is None else step, value)
        count += 1
    return count


def read_printed(lines: Iterable[bytes], wanted: Collection[str], pattern: str) -> Reading:
    """What a program printed."""
    found = Findings("output", "output")
    made = compiled(pattern) if pattern else None
    finders = [(name, _finder(name)) for name in wanted]
    records = matches = 0
    printed: dict[str, tuple[int, float]] = {}
    for at, raw in enumerate(lines):
        line = readable(raw[:LONGEST_LINE])
        if line.lstrip().startswith("{") and (record := parse_line(line)) is not None:
            note_record(found, record, records)
            records += 1
            continue
        if made is not None:
            matches = _note_matches(found, made, line, matches)
        for name, find in finders:
            value = find(line)
            if value is not None:
                printed[name] = (at, value)
    reading = found.reading()
    known = {metric.name for metric in reading.metrics}
    for name, (_, value) in printed.items():
        if name not in known:
            found.metric(name, value)
    return found.reading()


_AFTER: Final = re.compile(
    r"[\"'*]{0,3}\s{0,20}(?:[:=]|is\b)?\s{0,20}"
    r"([-+]?[0-9.]{1,40}(?:[eE][-+]?[0-9]{1,4})?|[-+]?(?:nan|inf(?:inity)?)\b)(?:\s{0,4}(%))?",
    re.IGNORECASE,
)


def _finder(name: str) -> Callable[[str], float | None]:
    """Finds the number behind the last mention of a name in a line, a percentage as the fraction it is."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    said = re.compile(
        rf"(?<![A-Za-z0-9]){r'[ _/.-]'.join(map(re.escape, words))}(?![A-Za-z0-9])", re.IGNORECASE
    )

    def find(line: str) -> float | None:
        value = None
        if not words:
            return None
        for mention in said.finditer(line):
            behind = _AFTER.match(line, mention.end())
            shown = None if behind is None else number(behind[1].rstrip("."))
            if behind is not None and shown is not None:
                value = shown / 100 if behind[2] else shown
        return value

    return find
