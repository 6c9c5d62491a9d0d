"""The verdict block: what the mail says, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.bootstrap import Application
from orchestrator.cli.output import STYLES, clean
from orchestrator.domain.action import Action, ActionState, EmailAction
from orchestrator.domain.gate import Outcome
from orchestrator.domain.report import Report
from orchestrator.domain.run import Run
from orchestrator.ports.store import OutboxMessage

_MARKS = {
    Outcome.PASS: ("✓", "green"),
    Outcome.FAIL: ("✗", "red"),
    Outcome.INCONCLUSIVE: ("?", "yellow"),
    Outcome.SKIPPED: ("-", "bright_black"),
}


def print_verdict(screen: Console, app: Application, run: Run) -> None:
    """The headline, checks, metrics, deployments and mails of a run that has ended."""
    report = app.reports.build(run)
    screen.print(
        Group(
            *_blocks(
                report,
                app.store.actions.of_run(run.id),
                app.store.actions.outbox_of_run(run.id),
            )
        )
    )


def _blocks(
    report: Report, actions: Sequence[Action], mails: Sequence[OutboxMessage]
) -> Iterator[RenderableType]:
    word = report.word.value
    title = Text.assemble(
        (report.run.title, "bold"), "  ", (word, f"bold {STYLES.get(word, '')}".strip()), "  ", _facts(report)
    )
    yield title
    yield Text(clean(report.headline))
    if report.likely_cause:
        yield Text(f"likely cause: {clean(report.likely_cause)}")
    if report.checks:
        yield _checks(report)
    if report.metrics:
        yield _metrics(report)
    for line in _changes(report):
        yield Text(line)
    for warning in report.warnings:
        yield Text(f"! {clean(warning)}", style="yellow")
    yield from (Text(f"  | {clean(line)}") for line in report.log_tail)
    yield from _acts(actions, mails)
    if report.artifacts:
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


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        right = title in ("value", "baseline", "difference")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    return table


def _checks(report: Report) -> Table:
    table = _table("", "check", "evidence")
    for check in report.checks:
        mark, style = _MARKS[check.outcome]
        table.add_row(Text(mark, style=style), Text(clean(check.check)), Text(clean(check.sentence)))
    return table


def _metrics(report: Report) -> Table:
    table = _table("metric", "value", "baseline", "difference", "")
    for row in report.metrics:
        word, style = _direction(row.better)
        table.add_row(
            Text(clean(row.name)),
            Text(f"{row.value} {clean(row.unit)}".strip()),
            Text(row.baseline),
            Text(row.difference, style=style),
            Text(word, style=style),
        )
    if report.baseline_title:
        table.caption = f"compared with {clean(report.baseline_title)}"
        table.caption_justify = "left"
    return table


def _direction(better: bool | None) -> tuple[str, str]:
    if better is None:
        return "", ""
    return ("▲ better", "green") if better else ("▼ worse", "red")


def _changes(report: Report) -> Iterator[str]:
    if report.what_changed:
        yield f"what changed: {clean(report.what_changed)}"
    for line in (*report.commits, *report.data_changes):
        yield f"  * {clean(line)}"


def _acts(actions: Sequence[Action], mails: Sequence[OutboxMessage]) -> Iterator[Text]:
    for action in actions:
        if isinstance(action.spec, EmailAction) and action.state is ActionState.DONE:
            continue
        what = action.spec.kind
        if not isinstance(action.spec, EmailAction):
            what = f"{what} to {clean(action.spec.server)}"
        told = f"{what}: {action.state.value}"
        if action.message:
            told += f", {clean(action.message)}"
        yield Text(told, style=STYLES.get(action.state.value, ""))
    for mail in mails:
        told = f"mail to {clean(', '.join(mail.recipients))}: {mail.state.replace('_', ' ')}"
        if mail.last_error and mail.state != "delivered":
            told += f", {clean(mail.last_error)}"
        yield Text(told, style=STYLES.get(mail.state, ""))
