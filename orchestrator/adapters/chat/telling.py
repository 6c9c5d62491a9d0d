"""What all chats are told of a report, in the words of the report; each writes it down in its own form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.domain.gate import Outcome
from orchestrator.domain.report import Report, tells_result
from orchestrator.domain.run import RunState
from orchestrator.domain.text import clean

Mask = Callable[[str], str]
CHECKS: Final = 8
METRICS: Final = 8
WARNINGS: Final = 3
_TEXT: Final = 500
_NAME: Final = 80
MARKS: Final = {Outcome.PASS: "✓", Outcome.FAIL: "✗", Outcome.INCONCLUSIVE: "?", Outcome.SKIPPED: "-"}
_GOOD, _BAD, _UNSURE, _QUIET = "2e7d32", "c62828", "b26a00", "5f6368"
_COLOURS: Final = {
    RunState.PASSED: _GOOD,
    RunState.REJECTED: _BAD,
    RunState.FAILED: _BAD,
    RunState.ERRORED: _UNSURE,
    RunState.INCONCLUSIVE: _UNSURE,
}


@dataclass(frozen=True, slots=True)
class Telling:
    """A report cut to what a chat shows. All texts are on one line and without secrets; none is escaped.

    ``colour`` as RRGGBB. ``checks`` are whole sentences, ``metrics`` rows of name, value, baseline and
    difference under ``columns``.
    """

    title: str
    subject: str
    headline: str
    colour: str
    url: str
    facts: tuple[tuple[str, str], ...]
    checks: tuple[str, ...]
    columns: tuple[str, ...]
    metrics: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    good: bool
    bad: bool


def telling_of(report: Report, mask: Mask) -> Telling:
    """What is told of a report. Masked whole and then cut: half a secret would be known by nobody."""

    def text(value: str, length: int = _TEXT) -> str:
        shown = " ".join(clean(mask(value)).split())
        return shown if len(shown) <= length else f"{shown[: length - 1].rstrip()}…"

    run = report.run
    revision = run.change.revision
    facts = [
        ("Branch", text(revision.branch, _NAME)),
        ("Commit", text(f"{revision.short} {revision.subject}", 160)),
        ("Author", text(revision.author, _NAME)),
        ("Duration", report.duration),
        ("Host", text(report.host, _NAME)),
        ("What changed", text(report.what_changed, 300)),
        ("Deployments", text(report.outcome, 300)),
    ]
    checks = [f"{MARKS[c.outcome]} {text(c.check, _NAME)}: {text(c.sentence)}" for c in report.checks]
    metrics = [
        (
            text(m.name, 40),
            text(f"{m.value} {m.unit}".strip(), 24),
            text(m.baseline, 24),
            text(m.difference, 24),
        )
        for m in report.metrics[:METRICS]
    ]
    notes = [f"Likely cause: {text(report.likely_cause)}"] if report.likely_cause else []
    notes += [text(warning, 200) for warning in report.warnings[:WARNINGS]]
    left = {
        "check": len(checks) - CHECKS,
        "metric": len(report.metrics) - METRICS,
        "warning": len(report.warnings) - WARNINGS,
    }
    notes += [f"and {count} more {what}{'s' * (count > 1)}" for what, count in left.items() if count > 0]
    # A verdict is mostly the sentence of the check that decided.
    sentences = {check.sentence for check in report.checks[:CHECKS]}
    began = not tells_result(report.word)
    state = None if began else run.state
    return Telling(
        title=text(f"{run.title}: {report.label}", 140),
        subject=text(report.subject, 250),
        headline="" if report.headline in sentences else text(report.headline),
        colour=_QUIET if state is None else _COLOURS.get(state, _QUIET),
        url=report.url,
        facts=tuple((name, value) for name, value in facts if value),
        checks=tuple(checks[:CHECKS]),
        columns=("metric", "value", text(report.baseline_title, 24) or "baseline", "difference"),
        metrics=tuple(metrics),
        notes=tuple(notes),
        good=state is RunState.PASSED,
        bad=state in (RunState.REJECTED, RunState.FAILED),
    )


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a font of one width."""
    every = [columns, *rows]
    widths = [max(len(row[index]) for row in every) for index in range(len(columns))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in every)
    return "\n".join(line.rstrip() for line in lines)


def fitting(text: str, limit: int, escape: Callable[[str], str]) -> str:
    """As much of a text as fits into ``limit`` UTF-16 units once it is escaped, and that it was cut."""
    escaped = escape(text)
    if units(escaped) <= limit:
        return escaped
    # No sign becomes more than eight.
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if units(escape(text[:middle])) + 1 <= limit:
            low = middle
        else:
            high = middle - 1
    return f"{escape(text[:low])}…" if limit > 0 else ""


def units(text: str) -> int:
    """How long services count a text to be at most: in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
