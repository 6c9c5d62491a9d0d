"""How data reach the person: tables and text on standard output, talk on standard error, JSON for programs.

Texts from repositories, containers and servers are data: no control code of theirs reaches the terminal, and
none of them is read as markup.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO, TypeAlias

from orchestrator.domain.report import format_ago
from orchestrator.domain.text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PLAIN_WIDTH: Final = 100
"""Columns where there is no terminal to ask."""
_NARROWEST: Final = 8

STYLES: Final = {
    "passed": "green",
    "passed (fixed)": "green",
    "active": "green",
    "ok": "green",
    "done": "green",
    "delivered": "green",
    "rejected": "red",
    "rejected (broken)": "red",
    "rejected (still broken)": "red",
    "rejected (still failing)": "red",
    "failed": "red",
    "failed (broken)": "red",
    "failed (still broken)": "red",
    "failed (still failing)": "red",
    "fail": "red",
    "given_up": "red",
    "inconclusive": "yellow",
    "warn": "yellow",
    "errored": "magenta",
    "running": "blue",
    "preparing": "blue",
    "collecting": "blue",
    "evaluating": "blue",
    "queued": "cyan",
    "✓": "green",
    "✗": "red",
    "?": "yellow",
    "pass": "green",
    "▲ better": "green",
    "▼ worse": "red",
    "cancelled": "bright_black",
    "skipped": "bright_black",
}

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


_UNSHOWN: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def console(stream: TextIO | None = None) -> Console:
    """Where tables and text go; plain when it is no terminal, or NO_COLOR is set."""
    from rich.console import Console

    out = stream or sys.stdout
    return Console(
        file=out,
        width=None if out.isatty() else PLAIN_WIDTH,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=not out.isatty(),
    )


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person watches, on a terminal that can move its cursor and may: not with NO_COLOR."""
    plain = os.environ.get("TERM") == "dumb" or bool(os.environ.get("NO_COLOR"))
    return (stream or sys.stderr).isatty() and not plain


def say(text: str) -> None:
    """Talk: one line on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is how a command talks


def ask(question: str) -> None:
    """Go on when a person says yes. Raises InvalidInput where nobody can, Abort when the answer is no."""
    import click

    from orchestrator.domain.errors import InvalidInput

    if not sys.stdin.isatty():
        raise InvalidInput("nobody can be asked here whether that may go", "say --yes, or --dry-run to look")
    click.confirm(question, abort=True, err=True)


def print_json(value: Json) -> None:
    """Data for a program: on standard output, nothing else beside it.

    What a terminal would obey, or show in another order, is written as the escape that means the same.
    """
    print(json_text(value, indent=2))  # noqa: T201 - this is how a command answers


def json_text(value: Json, indent: int | None = None) -> str:
    """JSON that shows itself on a terminal as it is; on one line without ``indent``."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Where a line is too short, ``elastic`` ones are cut and ``fold`` ones wrapped, but not below ``least``
    cells. ``keep_end``: cut at the beginning. ``spare``: left out when all that is not enough.
    """

    title: str
    right: bool = False
    elastic: bool = False
    fold: bool = False
    keep_end: bool = False
    spare: bool = False
    least: int = _NARROWEST


def print_table(columns: Sequence[Column | str], rows: Iterable[Sequence[str]], empty: str = "") -> None:
    """A table on standard output; ``empty`` is said on standard error when there are no rows."""
    from rich.text import Text

    made = [Column(column) if isinstance(column, str) else column for column in columns]
    cells = [[clean(cell) for cell in row] for row in rows]
    if not cells:
        if empty:
            say(empty)
        return
    screen = console()
    widths = _widths(made, cells, screen.width)
    kept = _kept(made, widths, screen.width)
    made, widths = [made[n] for n in kept], [widths[n] for n in kept]
    cells = [[row[n] for n in kept] for row in cells]
    if any(column.title for column in made):
        screen.print(Text(_joined(made, [c.title for c in made], widths), style="bold"))
    for row in cells:
        for line in _lines(made, row, widths):
            screen.print(_styled(made, line, widths))


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    from rich.cells import cell_len

    widths = [
        max(cell_len(row[n]) for row in (*rows, [c.title for c in columns])) for n in range(len(columns))
    ]
    excess = sum(widths) + 2 * (len(columns) - 1) - room
    while excess > 0:
        stretchy = [n for n, c in enumerate(columns) if (c.elastic or c.fold) and widths[n] > c.least]
        if not stretchy:
            break
        widest = max(stretchy, key=lambda n: widths[n])
        widths[widest] -= 1
        excess -= 1
    return widths


def _kept(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """Which columns are shown: all of them, unless the line is too long without the spare ones."""
    kept = list(range(len(columns)))
    for n in reversed(range(len(columns))):
        if columns[n].spare and sum(widths[k] + 2 for k in kept) - 2 > room:
            kept.remove(n)
    return kept


def _lines(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> list[list[str]]:
    """A row as one line or, where a column folds, several."""
    from textwrap import wrap

    from rich.cells import cell_len, set_cell_size

    parts: list[list[str]] = []
    for column, cell, width in zip(columns, row, widths, strict=True):
        if cell_len(cell) <= width:
            parts.append([cell])
        elif column.fold:
            parts.append(wrap(cell, width) or [""])
        elif column.keep_end:
            start = next(n for n in range(len(cell)) if cell_len(cell[n:]) < width)
            parts.append(["…" + cell[start:]])
        else:
            parts.append([set_cell_size(cell, width - 1).rstrip() + "…"])
    height = max(len(part) for part in parts)
    return [[part[n] if n < len(part) else "" for part in parts] for n in range(height)]


def _padded(column: Column, cell: str, width: int) -> str:
    from rich.cells import cell_len

    space = " " * max(0, width - cell_len(cell))
    return space + cell if column.right else cell + space


def _joined(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(_padded(*each) for each in zip(columns, cells, widths, strict=True)).rstrip()


def _styled(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> Text:
    from rich.text import Text

    line = Text(_joined(columns, cells, widths), no_wrap=True, overflow="ignore")
    start = 0
    for cell, width in zip(cells, widths, strict=True):
        if cell in STYLES:
            line.stylize(STYLES[cell], start, start + width)
        start += width + 2
    return line


def count(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """``5 s ago``, ``3 m ago``, ``2 h ago``, ``4 d ago``; empty for None."""
    if moment is None:
        return ""
    return format_ago(((now or datetime.now(UTC)) - moment).total_seconds())


def stamp(moment: datetime | None) -> str:
    """A moment in the person's own time zone, to the second; empty for None."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def iso(moment: datetime | None) -> str | None:
    """A moment for a program."""
    return None if moment is None else moment.astimezone(UTC).isoformat()
