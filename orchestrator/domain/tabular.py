"""What a table in the data looks like, and how it changed: rows, and columns with their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SHOWN = 5
"""So many columns or tables are named; of more, how many."""


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column: its name and, where the file says so, its type."""

    name: str
    type: str = ""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A file that is a table. ``content`` is its file's :attr:`FileEntry.content`.

    ``rows`` is None where they were not counted; ``problem`` says why it could not be read as what its name
    says.
    """

    content: str
    rows: int | None = None
    columns: tuple[ColumnFacts, ...] = ()
    problem: str = ""


def table_changes(old: Mapping[str, TableFacts], new: Mapping[str, TableFacts]) -> tuple[str, ...]:
    """A sentence for each table that is in both and changed: ``train.csv: 1,599 rows, +40; columns +ph``."""
    lines = []
    for path in sorted(old.keys() & new.keys()):
        told = _change(old[path], new[path])
        if told:
            lines.append(f"{path}: {told}")
    return tuple(lines)


def described(facts: TableFacts) -> str:
    """A table in a few words: ``1,599 rows, 12 columns``."""
    if facts.problem:
        return facts.problem
    rows = "rows not counted" if facts.rows is None else _count(facts.rows, "row")
    return f"{rows}, {_count(len(facts.columns), 'column')}"


def _change(old: TableFacts, new: TableFacts) -> str:
    if old.content == new.content:
        return ""
    if new.problem:
        return new.problem if new.problem != old.problem else ""
    parts = []
    if new.rows is not None and old.rows is not None and new.rows != old.rows:
        parts.append(f"{_count(new.rows, 'row')}, {new.rows - old.rows:+,}")
    if not old.problem:
        parts += _columns(old.columns, new.columns)
    return "; ".join(parts)


def _columns(old: tuple[ColumnFacts, ...], new: tuple[ColumnFacts, ...]) -> list[str]:
    before, after = {c.name: c.type for c in old}, {c.name: c.type for c in new}
    parts = []
    if added := [name for name in after if name not in before]:
        parts.append(f"new {_named(added)}")
    if removed := [name for name in before if name not in after]:
        parts.append(f"without {_named(removed)}")
    retyped = [
        f"{name} is {after[name]}, was {before[name]}"
        for name in after
        if name in before and before[name] and after[name] and before[name] != after[name]
    ]
    if retyped:
        parts.append(f"{'; '.join(retyped[:SHOWN])}{_rest(retyped)}")
    kept = [c.name for c in new if c.name in before]
    if not parts and kept != [c.name for c in old]:
        parts.append("columns in another order")
    return parts


def _named(names: list[str]) -> str:
    word = "column" if len(names) == 1 else "columns"
    return f"{word} {', '.join(names[:SHOWN])}{_rest(names)}"


def _rest(names: list[str]) -> str:
    return f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
