"""Where an unfinished run stands: what is being done for it now, and why it is not further."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from orchestrator.domain.report import format_duration
from orchestrator.domain.run import Attempt, AttemptState, Purpose, Run, RunState, latest_tries
from orchestrator.domain.text import clean
from orchestrator.ports.store import Store
from orchestrator.ports.world import LogFiles
from orchestrator.services.choose import Chooser
from orchestrator.services.topping_up import is_topping_up

_DOING = {
    AttemptState.PREPARING: "image, container, code and data are made ready",
    AttemptState.RUNNING: "the command runs",
    AttemptState.COLLECTING: "what the command left is fetched",
}


def doing(store: Store, logs: LogFiles, now: datetime, run: Run) -> list[str]:
    """What is being done for a run, one sentence for each attempt at work; nothing when it has ended."""
    if run.state.final:
        return []
    silent = {host.name: host.unreachable_since for host in store.hosts.all().values()}
    told = [
        _attempt(attempt, run, logs, now, silent)
        for attempt in latest_tries(store.attempts.of_run(run.id))
        if attempt.state.active
    ]
    if run.state is RunState.EVALUATING and not _baselines_measured(store, run):
        told.append("the gate judges what was measured")
    if run.cancel_requested_by:
        told.append(f"it is being ended: {run.cancel_requested_by} asked for it")
    return told


def _attempt(
    attempt: Attempt, run: Run, logs: LogFiles, now: datetime, silent: Mapping[str, datetime | None]
) -> str:
    name = f"replicate {attempt.replicate}: " if run.replicates > 1 else ""
    text = f"{name}{_DOING[attempt.state]} on {attempt.host}"
    if attempt.number > 1:
        text += f", try {attempt.number}"
    if attempt.state is AttemptState.RUNNING and attempt.started_at is not None:
        text += f", for {format_duration(max(0.0, (now - attempt.started_at).total_seconds()))}"
    since = silent.get(attempt.host or "")
    if since is not None:
        text += f"; the host has not answered for {format_duration(max(0.0, (now - since).total_seconds()))}"
    last = logs.tail(attempt.id, 1)
    return f"{text}; last line: {last[0].strip()}" if last and last[0].strip() else text


def waiting(
    store: Store, chooser: Chooser, now: datetime, run: Run, served: bool, attended: bool = True
) -> list[str]:
    """Why a run is not further than it is, one sentence each; nothing when it has ended or is at work.

    ``served``: somebody is there to execute it; ``attended``: somebody may be at work on what has begun.
    """
    if run.state.final:
        return []
    if run.state is RunState.AWAITING_APPROVAL:
        pull = run.change.revision.pull
        whose = f", because {clean(pull.author) or 'its author'} is not among the trusted" if pull else ""
        return [f"somebody has to approve it{whose}: orchestrator runs approve {run.pipeline}#{run.number}"]
    reasons: list[str] = []
    attempts = store.attempts.of_run(run.id)
    queued = [a for a in attempts if a.state is AttemptState.QUEUED]
    told = chooser.why_waits(run, now) if queued else {}
    if told and not served:
        reasons.append("no server is up: start `orchestrator serve`, or `orchestrator runs resume` it")
    elif not served and not attended and any(attempt.state.active for attempt in attempts):
        takes_up = "`orchestrator serve`, or `orchestrator runs resume`, takes it up"
        reasons.append(f"no server is up, and nobody follows what was begun: {takes_up}")
    for attempt in queued:
        name = f"replicate {attempt.replicate}" if run.replicates > 1 else "it"
        if attempt.not_before is not None and attempt.not_before > now:
            seconds = (attempt.not_before - now).total_seconds()
            reasons.append(f"{name} is tried again in {format_duration(seconds)}")
        elif why := told.get(attempt.id):
            reasons.append(f"{name} {why}")
    if run.state is RunState.EVALUATING:
        reasons += [
            f"its baseline is being measured again: {other.pipeline}#{other.number}"
            for other in _baselines_measured(store, run)
        ]
    return reasons


def _baselines_measured(store: Store, run: Run) -> list[Run]:
    return [
        other
        for other in store.runs.unfinished()
        if other.pipeline == run.pipeline and other.purpose is Purpose.BASELINE and not is_topping_up(other)
    ]
