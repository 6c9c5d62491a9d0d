"""A report in Markdown: as a comment under a pull request, and as a file."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.adapters.render.view import Linked, View
from orchestrator.domain.markdown import plain, table

COMMENT_ROWS = 20
"""Warnings and commits in a comment, which people scroll past."""


def as_comment(view: View) -> str:
    """What stands beside a commit or under a pull request.

    The log is not part of it: more people see a commit than may read what a run has printed.
    """
    return "\n\n".join(part for part in _parts(view) if part)


def as_file(view: View) -> str:
    """The whole report, with its title, the end of the log and the facts of the run."""
    parts = [
        f"# {plain(view.title)}: {plain(view.word)}",
        plain(view.news),
        *_parts(view),
        _headed("Last lines of the log", "\n".join(f"    {line}" for line in view.log)),
        _headed("Artifacts", table(("file", "size"), view.artifacts)),
        _headed("Run", "\n".join(f"- {plain(name)}: {_linked(fact)}" for name, fact in view.facts)),
        f"[The run's page](<{view.url}>)" if _is_linkable(view.url) else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _parts(view: View) -> Iterator[str]:
    yield plain(view.headline)
    yield _bullets(view.standing)
    yield f"Likely cause: {plain(view.likely_cause)}" if view.likely_cause else ""
    yield table(
        ("outcome", "check", "evidence"),
        [(check.outcome, check.text, check.sentence) for check in view.checks],
    )
    yield _more(view, "checks")
    yield f"What changed: {plain(view.what_changed)}" if view.what_changed else ""
    yield "\n".join(f"- {_linked(row)}" for row in view.commits[:COMMENT_ROWS])
    yield f"[All changes in code](<{view.compare_url}>)" if _is_linkable(view.compare_url) else ""
    yield _bullets(view.data_changes)
    yield table(
        ("metric", "value", plain(view.baseline_title) or "baseline", "difference", ""),
        [(row.name, row.value, row.baseline, row.difference, row.direction) for row in view.metrics],
    )
    yield _more(view, "metrics")
    yield table(
        ("deployment", "release", "state", ""),
        [(row.server, row.release, row.state, row.message) for row in view.deployments],
    )
    yield table(
        ("action", "state", ""),
        [(row.what, row.state, row.message) for row in view.actions],
    )
    yield _bullets(view.warnings[:COMMENT_ROWS])


def _headed(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _bullets(rows: tuple[str, ...]) -> str:
    return "\n".join(f"- {plain(row)}" for row in rows)


def _more(view: View, section: str) -> str:
    count = view.more.get(section, 0)
    return f"… {count} more not shown here" if count else ""


def _linked(row: Linked) -> str:
    return f"[{plain(row.text)}](<{row.url}>)" if _is_linkable(row.url) else plain(row.text)


def _is_linkable(url: str) -> bool:
    """Whether an address can stand between the signs that end one."""
    return bool(url) and not any(c in "<>\\ \n" for c in url)
