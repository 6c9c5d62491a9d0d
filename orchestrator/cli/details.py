"""Everything about one run, for ``runs show``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from orchestrator.bootstrap import Application
from orchestrator.cli.artifacts import kept
from orchestrator.cli.found import (
    MOST_SHOWN,
    params_of,
    plots_of,
    print_params,
    print_series,
    series_of,
)
from orchestrator.cli.output import Column, count, print_table, stamp
from orchestrator.cli.verdict import print_verdict
from orchestrator.cli.views import done_now, reference
from orchestrator.domain.action_spec import place_of
from orchestrator.domain.change import PullRequest
from orchestrator.domain.gate.details import HEADINGS, is_tested, row_of
from orchestrator.domain.report import format_duration, format_size
from orchestrator.domain.run import Attempt, Run
from orchestrator.domain.text import clean, escaped


def print_details(screen: Console, app: Application, run: Run, waiting: Sequence[str], journal: bool) -> None:
    """The verdict block, then the facts behind it."""
    if run.state.final:
        print_verdict(app, run, with_files=False)
    else:
        revision = run.change.revision
        screen.print(Text.assemble((run.title, "bold"), f"  {run.state.value.replace('_', ' ')}"))
        screen.print(Text(f'{clean(revision.branch)} {revision.short} "{clean(revision.subject)}"'))
    for sentence in done_now(app, run):
        screen.print(Text(f"now: {clean(sentence)}", style="blue"))
    for reason in waiting:
        screen.print(Text(f"waits: {clean(reason)}", style="cyan"))
    _heading(screen, "change")
    print_table(
        ("", Column("", fold=True)),
        [*_facts(run), *_decisions(app, run), *_asked_to_end(app, run), *_marks(app, run)],
    )
    _print_evidence(screen, run)
    _heading(screen, "attempts")
    columns = (
        "replicate",
        "try",
        "state",
        "host",
        "seed",
        "started",
        "took",
        Column("how it ended", fold=True),
    )
    attempts = app.store.attempts.of_run(run.id)
    print_table(columns, [_attempt_row(a) for a in attempts])
    _print_gpus(screen, attempts)
    for attempt in attempts:
        if attempt.log_removed:
            screen.print(Text(f"the log of replicate {attempt.replicate} was {attempt.log_removed}"))
    actions = app.store.actions.of_run(run.id)
    if actions:
        _heading(screen, "actions")
        rows = [
            (
                a.trigger.value,
                a.spec.rule.name or a.spec.kind,
                a.state.value,
                str(a.tries),
                a.waits or a.message,
            )
            for a in actions
        ]
        print_table(("on", "what", "state", "tries", Column("told", fold=True)), rows)
        for action in actions:
            if action.output:
                screen.print(Text(f"{action.spec.kind} {place_of(action.spec)} wrote:", style="bold"))
                screen.print(Text(_escaped_lines(action.output)))
    deployments = app.store.deployments.of_run(run.id)
    if deployments:
        _heading(screen, "deployments")
        placed = [(d.server, d.state.value, d.release, stamp(d.activated_at)) for d in deployments]
        print_table(("server", "state", "release", "activated"), placed)
    _print_found(screen, app, run)
    files = kept(app, run)
    if files:
        _heading(screen, "artifacts")
        listed = [(f.path, format_size(f.size), f.sha256[:12], f.removed) for _, f in files]
        print_table(("path", Column("size", right=True), "sha256", Column("", fold=True)), listed)
    if journal:
        _heading(screen, "journal")
        entries = [
            (stamp(e.at), e.subject, e.before, e.after, _short(e.who), e.reason)
            for e in app.store.journal.of_run(run.id)
        ]
        print_table(("when", "what", "from", "to", "who", Column("why", fold=True)), entries)


def _print_found(screen: Console, app: Application, run: Run) -> None:
    """What its files say beside metrics."""
    series = series_of(app, run)
    if series:
        _heading(screen, "series")
        print_series(series[:MOST_SHOWN], "")
        _more(screen, series, f"orchestrator runs series {run.id}")
    params = params_of(app, run)
    if params:
        _heading(screen, "parameters")
        print_params(params[:MOST_SHOWN], "")
        _more(screen, params, f"orchestrator runs params {run.id}")
    plots = plots_of(app, run)
    if plots:
        _heading(screen, "plots")
        drawn = [(p.path, p.kind.value, p.title) for _, p in plots[:MOST_SHOWN]]
        print_table(("path", "kind", Column("title", fold=True)), drawn)
        _more(screen, plots, f"orchestrator --json runs show {run.id}")


def _more(screen: Console, found: Sequence[object], command: str) -> None:
    if len(found) > MOST_SHOWN:
        screen.print(Text(f"and {len(found) - MOST_SHOWN} more: {command}"))


def _print_gpus(screen: Console, attempts: Sequence[Attempt]) -> None:
    if any(attempt.gpus for attempt in attempts):
        _heading(screen, "GPUs")
        headings = ("replicate", "try", "host", Column("GPU", fold=True), "model", "driver")
        given = [row for attempt in attempts for row in _gpu_rows(attempt)]
        print_table((*headings, Column("used", fold=True)), given)


def _print_evidence(screen: Console, run: Run) -> None:
    """The figures of the checks that more than plain values decided."""
    tested = [check for check in run.verdict.checks if is_tested(check)] if run.verdict else []
    if tested:
        _heading(screen, "evidence")
        folded = ("check", "test", "noise", "correction")
        titles = [Column(title, fold=title in folded) for title in HEADINGS]
        print_table(titles, [row_of(check) for check in tested])


def _heading(screen: Console, title: str) -> None:
    screen.print()
    screen.print(Text(title, style="bold underline" if screen.is_terminal else ""))


def _facts(run: Run) -> list[tuple[str, str]]:
    change, revision = run.change, run.change.revision
    data = [
        f"{v.label} ({v.role.value}, {count(v.files, 'file')}, {format_size(v.size)}, {v.fingerprint[:12]})"
        for v in change.datasets
    ]
    facts = [
        ("reference", f"{reference(run)}, id {run.id}"),
        ("cause", change.cause.value.replace("_", " ")),
        ("requested by", change.requested_by),
        ("purpose", "" if run.purpose.value == "train" else run.purpose.value),
        ("repeats", f"run {run.rerun_of}" if run.rerun_of else ""),
        ("source", revision.source),
        ("pull request", _pull(revision.pull)),
        ("commit", revision.commit),
        ("author", f"{revision.author} <{revision.author_email}>" if revision.author else ""),
        *(("data", text) for text in data),
        ("note", change.note),
        ("host wish", run.host_wish or ""),
        ("priority", str(run.priority) if run.priority else ""),
        ("enqueued", stamp(run.created_at)),
        ("started", stamp(run.started_at)),
        ("ended", stamp(run.finished_at)),
    ]
    return [(name, value) for name, value in facts if value]


def _asked_to_end(app: Application, run: Run) -> Iterator[tuple[str, str]]:
    if run.cancel_requested_by is None:
        return
    asked = (
        e.at for e in app.store.journal.of_run(run.id) if e.who == run.cancel_requested_by and not e.after
    )
    yield "asked to end", f"{stamp(next(asked, None))} by {run.cancel_requested_by}".strip()


def _pull(pull: PullRequest | None) -> str:
    if pull is None:
        return ""
    where = f" from {pull.repository}" if pull.fork and pull.repository else ""
    return f"{pull.number} by {pull.author} (id {pull.author_id}){where} into {pull.base}"


def _decisions(app: Application, run: Run) -> Iterator[tuple[str, str]]:
    for decision in app.store.approvals.decisions(run.id):
        told = f"{stamp(decision.at)} by {decision.who}"
        yield decision.ruling.value, f"{told}: {decision.reason}" if decision.reason else told


def _marks(app: Application, run: Run) -> Iterator[tuple[str, str]]:
    """What the forge was told, and why it was not."""
    for mark in app.store.statuses.of_run(run.id):
        told = f"{mark.context}: {mark.sent.replace('_', ' ') or 'not told yet'}"
        yield "status", f"{told}; {mark.last_error}" if mark.last_error else told


def _attempt_row(attempt: Attempt) -> tuple[str, ...]:
    seconds = ""
    if attempt.started_at and attempt.finished_at:
        seconds = format_duration((attempt.finished_at - attempt.started_at).total_seconds())
    how = attempt.reason.value.replace("_", " ") if attempt.reason else ""
    if attempt.message:
        how = f"{how}: {attempt.message}"
    return (
        str(attempt.replicate),
        str(attempt.number),
        attempt.state.value,
        attempt.host or "",
        str(attempt.seed),
        stamp(attempt.started_at),
        seconds,
        how,
    )


def _gpu_rows(attempt: Attempt) -> Iterator[tuple[str, ...]]:
    used = {use.uuid: use for use in attempt.utilisation}
    for gpu in attempt.gpus:
        use = used.get(gpu.uuid)
        told = ""
        if use is not None:
            memory = f"{format_size(use.memory_peak)} of {format_size(gpu.memory)}"
            told = f"{use.mean:.0%} on average, {use.peak:.0%} at most, {memory}"
        where = (str(attempt.replicate), str(attempt.number), attempt.host or "")
        yield (*where, gpu.uuid, gpu.model, gpu.driver, told)


def _short(who: str) -> str:
    """Who it was; of a process only its machine and number."""
    machine, *rest = who.split("/")
    return f"{machine}/{rest[1]}" if len(rest) == 3 else who


def _escaped_lines(text: str) -> str:
    """What others wrote, line by line, without what would steer a terminal."""
    return "\n".join(escaped(line) for line in text.rstrip("\n").split("\n"))
