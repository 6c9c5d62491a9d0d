"""Runs as data: the words and the JSON that ``runs``, ``run`` and ``plan`` share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from orchestrator.bootstrap import Application
from orchestrator.cli.found import params_json, params_of, plots_json, plots_of, series_json, series_of
from orchestrator.cli.output import Column, Json, ago, iso
from orchestrator.cli.settings import INCONCLUSIVE, PASSED, REJECTED, UNKNOWN
from orchestrator.domain.action import ActionState
from orchestrator.domain.codec import to_plain
from orchestrator.domain.host import NOWHERE
from orchestrator.domain.report import format_duration, key_metric, label_for, trend_for, word_for
from orchestrator.domain.run import Attempt, Run, RunState, latest_tries
from orchestrator.ports.records import OutboxMessage
from orchestrator.services.standing import doing, waiting

_EXITS = {
    RunState.PASSED: PASSED,
    RunState.REJECTED: REJECTED,
    RunState.FAILED: REJECTED,
    RunState.CANCELLED: REJECTED,
    RunState.INCONCLUSIVE: INCONCLUSIVE,
    RunState.ERRORED: UNKNOWN,
}


def exit_code(run: Run) -> int:
    """What a shell learns of a run; one that has not ended is not known."""
    return _EXITS.get(run.state, UNKNOWN)


def reference(run: Run) -> str:
    """What a person types to name it."""
    return f"{run.pipeline}#{run.number}"


def word(app: Application, run: Run) -> str:
    """Its verdict in a word, or where it stands."""
    if not run.state.final:
        return run.state.value.replace("_", " ")
    return word_for(run.state, app.store.runs.previous_state(run)).value


def label(app: Application, run: Run) -> str:
    """Its outcome and what that means beside the one before, ``rejected (broken)``, or where it stands."""
    return label_for(run.state, app.store.runs.previous_state(run))


def took(run: Run, now: datetime) -> str:
    """How long it ran, or runs already."""
    if run.started_at is None:
        return ""
    return format_duration(((run.finished_at or now) - run.started_at).total_seconds())


def summary_row(app: Application, run: Run, now: datetime) -> tuple[str, ...]:
    """A run as a row of a table."""
    revision = run.change.revision
    if run.verdict is not None:
        metric = short_metric(key_metric(run.verdict.checks))
    else:
        metric = run.reason.value.replace("_", " ") if run.reason else ""
    return (
        reference(run),
        label(app, run),
        metric,
        run.change.cause.value.replace("_", " "),
        revision.branch,
        revision.short,
        ", ".join(hosts_of(app, run)),
        ago(run.created_at, now),
        took(run, now),
    )


def hosts_of(app: Application, run: Run) -> list[str]:
    """The hosts of the last try of each replicate; none before it has begun."""
    tries = latest_tries(app.store.attempts.of_run(run.id))
    return list(dict.fromkeys(each.host for each in tries if each.host and each.host != NOWHERE))


_METRIC = re.compile(r"(?P<name>.*?) (?P<value>\S+)(?P<difference> \(\S+\))?")
_DIGITS = 4


def short_metric(text: str) -> str:
    """A key metric for a narrow column: four significant digits, which beside a difference are enough."""
    match = _METRIC.fullmatch(text)
    if match is None or sum(c.isdigit() for c in match["value"].lstrip("-0.")) <= _DIGITS:
        return text
    value = float(match["value"])
    shown = f"{value:.0f}" if abs(value) >= 10**_DIGITS else f"{value:.{_DIGITS}g}"
    return f"{match['name']} {shown}{match['difference'] or ''}"


def metric_column(rows: Sequence[tuple[str, ...]]) -> Column:
    """The column of key metrics in rows of summaries: names may be cut, values and differences never."""
    matches = [match for row in rows if (match := _METRIC.fullmatch(row[2]))]
    least = max((len(match[0]) - len(match["name"]) for match in matches), default=0) + 2
    return Column("key metric", elastic=True, keep_end=True, least=max(least, 8))


def run_json(app: Application, run: Run) -> dict[str, Json]:
    """A run as a program reads it in a listing."""
    revision = run.change.revision
    return {
        "id": run.id,
        "reference": reference(run),
        "pipeline": run.pipeline,
        "number": run.number,
        "state": run.state.value,
        "word": word(app, run),
        "trend": trend_for(run.state, app.store.runs.previous_state(run)),
        "purpose": run.purpose.value,
        "cause": run.change.cause.value,
        "requested_by": run.change.requested_by,
        "branch": revision.branch,
        "commit": revision.commit,
        "subject": revision.subject,
        "author": revision.author,
        "datasets": {v.dataset: v.number for v in run.change.datasets},
        "key_metric": key_metric(run.verdict.checks) if run.verdict else "",
        "sentence": run.verdict.sentence if run.verdict else run.message,
        "reason": run.reason.value if run.reason else None,
        "replicates": run.replicates,
        "hosts": hosts_of(app, run),
        "priority": run.priority,
        "rerun_of": run.rerun_of,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
    }


def full_json(app: Application, run: Run, waits: Sequence[str], journal: bool = False) -> dict[str, Json]:
    """Everything about a run as a program reads it."""
    store = app.store
    report = app.reports.build(run)
    attempts = store.attempts.of_run(run.id)
    whole: dict[str, Json] = {
        **run_json(app, run),
        "headline": report.headline,
        "now": done_now(app, run),
        "waiting": list(waits),
        "checks": to_plain(report.checks),
        "metrics": to_plain(report.metrics),
        "series": series_json(series_of(app, run)),
        "params": params_json(params_of(app, run)),
        "plots": plots_json(plots_of(app, run)),
        "baseline": report.baseline_title,
        "what_changed": report.what_changed,
        "change": to_plain(run.change),
        "attempts": [_attempt_json(app, attempt) for attempt in attempts],
        "actions": to_plain(store.actions.of_run(run.id)),
        "deployments": to_plain(store.deployments.of_run(run.id)),
        "decisions": to_plain(store.approvals.decisions(run.id)),
        "statuses": to_plain(store.statuses.of_run(run.id)),
        "mails": [_mail_json(mail) for mail in store.actions.outbox_of_run(run.id)],
        "warnings": list(report.warnings),
        "likely_cause": report.likely_cause,
        "url": report.url,
    }
    if journal:
        whole["journal"] = to_plain(store.journal.of_run(run.id))
    return whole


def _attempt_json(app: Application, attempt: Attempt) -> dict[str, Json]:
    made: dict[str, Json] = to_plain(attempt)
    made["artifacts"] = to_plain(app.store.attempts.artifacts(attempt.id))
    made["left_out"] = list(app.store.attempts.left_out(attempt.id))
    return made


def _mail_json(mail: OutboxMessage) -> dict[str, Json]:
    return {
        "recipients": list(mail.recipients),
        "reached": list(mail.reached),
        "refused": dict(mail.refused),
        "subject": mail.subject,
        "state": mail.state,
        "tries": mail.tries,
        "last_error": mail.last_error,
        "delivered_at": iso(mail.delivered_at),
    }


def why_waiting(app: Application, run: Run, in_process: bool = False) -> list[str]:
    """Why a run is not further than it is, one sentence each; nothing when it has ended or is at work.

    ``in_process``: somebody is there to execute it.
    """
    served = in_process or bool(app.live_servers())
    app.room.patient = not in_process
    # A command may execute it, on another machine as well.
    attended = any(not app.processes.is_dead(owner) for owner in app.store.attempts.lease_owners())
    return waiting(app.store, app.chooser(app.reach), app.clock.now(), run, served, attended)


def done_now(app: Application, run: Run) -> list[str]:
    """What is being done for a run now, one sentence each; nothing when it has ended."""
    return doing(app.store, app.logs, app.clock.now(), run)


def settled(app: Application, run: Run) -> bool:
    """Whether nothing more is to be waited for: the run and its actions have ended, its mails were tried."""
    if not run.state.final:
        return False
    actions = app.store.actions.of_run(run.id)
    if any(action.state in (ActionState.PENDING, ActionState.RUNNING) for action in actions):
        return False
    return all(m.state != "pending" or m.tries > 0 for m in app.store.actions.outbox_of_run(run.id))
