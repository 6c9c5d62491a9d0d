"""The plain text of a report, as complete as the page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from orchestrator.adapters.render.view import View

_WIDTH = 76


def plain_text(view: View) -> str:
    """Lines of at most 76 characters, except where a table, a log line or an address needs more."""
    blocks = [block for block in _blocks(view) if block]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _blocks(view: View) -> Iterator[list[str]]:
    yield [
        f"{view.title}: {view.word}",
        *_wrap(view.headline),
        *_wrap(view.news),
        *([view.url] if view.url else []),
    ]
    yield _section("Now", [*_bullets(view.standing, "*"), *_more(view, "standing")])
    yield _section("Likely cause", _wrap(view.likely_cause, "  "))
    yield _section("Checks", _checks(view))
    yield _section("What changed", _changes(view))
    title = f"Metrics, compared with {view.baseline_title}" if view.baseline_title else "Metrics"
    rows = [(m.name, m.value, m.baseline, m.difference, m.direction) for m in view.metrics]
    header = ("", "this run", "baseline", "difference", "")
    yield _section(title, [*_table([header, *rows] if rows else [], "lrrrl"), *_more(view, "metrics")])
    yield _section("Deployments", _deployments(view))
    yield _section("Warnings", [*_bullets(view.warnings, "!"), *_more(view, "warnings")])
    yield _section("Last lines of the log", [*(f"  | {line}" for line in view.log), *_more(view, "log")])
    yield _section("Artifacts", [*_table(view.artifacts, "lr"), *_more(view, "artifacts")])
    yield _section("Actions", _actions(view))
    yield _section("Run", _table([(name, fact.text) for name, fact in view.facts], "ll"))


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *lines] if lines else []


def _checks(view: View) -> list[str]:
    lines: list[str] = []
    for check in view.checks:
        lines += _wrap(f"{check.text} ({check.outcome})", f"  {check.mark} ", "    ")
        lines += _wrap(check.sentence, "    ")
        lines += _wrap(check.details, "    ")
        lines += [line for warning in check.warnings for line in _wrap(warning, "    ! ", "      ")]
    return [*lines, *_more(view, "checks")]


def _changes(view: View) -> list[str]:
    return [
        *_wrap(view.what_changed, "  "),
        *_bullets([row.text for row in view.commits], "*"),
        *([f"  {view.compare_url}"] if view.compare_url else []),
        *_more(view, "commits"),
        *_bullets(view.data_changes, "*"),
        *_more(view, "data_changes"),
    ]


def _deployments(view: View) -> list[str]:
    rows = [(f"{row.server}: {row.state}, release {row.release}", row.message) for row in view.deployments]
    return [*_entries(rows), *_more(view, "deployments")]


def _actions(view: View) -> list[str]:
    rows = [(f"{row.what}: {row.state}", row.message) for row in view.actions]
    return [*_entries(rows), *_more(view, "actions")]


def _entries(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Each with what came of it below."""
    return [line for title, told in rows for line in (*_wrap(title, "  ", "    "), *_wrap(told, "    "))]


def _more(view: View, section: str) -> list[str]:
    count = view.more.get(section, 0)
    return [f"  … {count} more not shown here"] if count else []


def _bullets(rows: Iterable[str], mark: str) -> list[str]:
    return [line for row in rows for line in _wrap(row, f"  {mark} ", "    ")]


def _wrap(text: str, first: str = "", rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(rows: Sequence[tuple[str, ...]], alignment: str) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(alignment))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, alignment, strict=True)
        ).rstrip()
        for row in rows
    ]
