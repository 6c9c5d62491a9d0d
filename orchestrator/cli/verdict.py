"""The verdict block: what the mail says, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from orchestrator.bootstrap import Application
from orchestrator.cli.output import STYLES, Column, console, print_table
from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import EmailAction, place_of
from orchestrator.domain.gate import Outcome
from orchestrator.domain.report import Report
from orchestrator.domain.run import Run
from orchestrator.domain.text import clean
from orchestrator.ports.records import OutboxMessage

_MARKS = {Outcome.PASS: "✓", Outcome.FAIL: "✗", Outcome.INCONCLUSIVE: "?", Outcome.SKIPPED: "-"}


def print_verdict(app: Application, run: Run, *, with_files: bool = True) -> None:
    """The headline, checks, metrics, deployments and mails of a run that has ended, on standard output.

    Without ``with_files`` for a caller that lists them itself.
    """
    report = app.reports.build(run)
    screen = console()
    word = report.label
    screen.print(
        Text.assemble(
            (report.run.title, "bold"),
            "  ",
            (word, f"bold {STYLES.get(word, '')}".strip()),
            "  ",
            _facts(report),
        )
    )
    screen.print(Text(clean(report.headline)))
    if report.likely_cause:
        screen.print(Text(f"likely cause: {clean(report.likely_cause)}"))
    if report.checks:
        screen.print()
        _print_checks(report)
    if report.metrics:
        screen.print()
        _print_metrics(report)
    screen.print()
    for text in _rest(app, report, with_files):
        screen.print(text)


def _rest(app: Application, report: Report, with_files: bool) -> Iterator[Text]:
    for line in _changes(report):
        yield Text(line)
    for warning in report.warnings:
        yield Text(f"! {clean(warning)}", style="yellow")
    if report.log_tail:
        yield Text("last lines of the log:")
    yield from (Text(f"  | {clean(line)}") for line in report.log_tail)
    yield from _acts(app.store.actions.of_run(report.run.id), app.store.actions.outbox_of_run(report.run.id))
    if report.artifacts and with_files:
        yield Text(f"artifacts: {', '.join(clean(a.path) for a in report.artifacts)}")
    if report.url:
        yield Text(f"page: {report.url}")


def _facts(report: Report) -> str:
    revision = report.run.change.revision
    subject = f' "{clean(revision.subject)}"' if revision.subject else ""
    by = f" by {clean(revision.author)}" if revision.author else ""
    data = [version.label for version in report.run.change.datasets]
    parts = [f"{clean(revision.branch)} {revision.short}{subject}{by}", *data, report.host, report.duration]
    return "  ".join(part for part in parts if part)


def _print_checks(report: Report) -> None:
    rows = [
        (_MARKS[c.outcome], c.outcome.value, c.check, _unless_said(c.sentence, report)) for c in report.checks
    ]
    print_table(("", "outcome", "check", Column("evidence", fold=True)), rows)


def _unless_said(sentence: str, report: Report) -> str:
    return "see above" if report.headline.startswith(sentence) else sentence


def _print_metrics(report: Report) -> None:
    number = [
        Column(title, right=True) for title in ("value", report.baseline_title or "baseline", "difference")
    ]
    rows = [
        (row.name, f"{row.value} {row.unit}".strip(), row.baseline, row.difference, _direction(row.better))
        for row in report.metrics
    ]
    print_table((Column("metric", elastic=True), *number, ""), rows)


def _direction(better: bool | None) -> str:
    if better is None:
        return ""
    return "▲ better" if better else "▼ worse"


def _changes(report: Report) -> Iterator[str]:
    if report.what_changed:
        yield f"what changed: {clean(report.what_changed)}"
    for line in (*(row.line for row in report.commits), *report.data_changes):
        yield f"  * {clean(line)}"


def _acts(actions: Sequence[Action], mails: Sequence[OutboxMessage]) -> Iterator[Text]:
    for action in actions:
        if isinstance(action.spec, EmailAction) and action.state is ActionState.DONE:
            continue
        what = action.spec.kind
        if not isinstance(action.spec, EmailAction):
            what = f"{what} to {clean(place_of(action.spec))}"
        told = f"{what}: {action.state.value}"
        if action.message:
            told += f", {clean(action.message)}"
        yield Text(told, style=STYLES.get(action.state.value, ""))
    for mail in mails:
        told = f"mail to {clean(', '.join(mail.recipients))}: {mail.state.replace('_', ' ')}"
        if mail.last_error and mail.state != "delivered":
            told += f", {clean(mail.last_error)}"
        for address, answer in mail.refused if mail.state == "delivered" else ():
            told += f", but not to {clean(address)}: {clean(answer)}"
        yield Text(told, style=STYLES.get(mail.state, ""))
