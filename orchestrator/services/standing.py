"""Where an unfinished run stands: what is being done for it now, and why it is not further."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from orchestrator.domain.pipeline import HostSpec, eligible_hosts
from orchestrator.domain.report import format_duration
from orchestrator.domain.run import Attempt, AttemptState, Purpose, Run, RunState, latest_tries
from orchestrator.ports.store import Store
from orchestrator.ports.world import LogFiles

_DOING = {
    AttemptState.PREPARING: "image, container, code and data are made ready",
    AttemptState.RUNNING: "the command runs",
    AttemptState.COLLECTING: "what the command left is fetched",
}


def doing(store: Store, logs: LogFiles, now: datetime, run: Run) -> list[str]:
    """What is being done for a run, one sentence for each attempt at work; nothing when it has ended."""
    if run.state.final:
        return []
    told = [
        _attempt(attempt, run, logs, now)
        for attempt in latest_tries(store.attempts.of_run(run.id))
        if attempt.state.active
    ]
    if run.state is RunState.EVALUATING and not _baselines_measured(store, run):
        told.append("the gate judges what was measured")
    if run.cancel_requested_by:
        told.append(f"it is being ended: {run.cancel_requested_by} asked for it")
    return told


def _attempt(attempt: Attempt, run: Run, logs: LogFiles, now: datetime) -> str:
    name = f"replicate {attempt.replicate}: " if run.replicates > 1 else ""
    text = f"{name}{_DOING[attempt.state]} on {attempt.host}"
    if attempt.number > 1:
        text += f", try {attempt.number}"
    if attempt.state is AttemptState.RUNNING and attempt.started_at is not None:
        text += f", for {format_duration(max(0.0, (now - attempt.started_at).total_seconds()))}"
    last = logs.tail(attempt.id, 1)
    return f"{text}; last line: {last[0].strip()}" if last and last[0].strip() else text


def waiting(
    store: Store,
    hosts: Sequence[HostSpec],
    now: datetime,
    run: Run,
    served: bool,
    why_silent: Callable[[str], str | None],
    no_room: Callable[[str], str | None] = lambda host: None,
) -> list[str]:
    """Why a run is not further than it is, one sentence each; nothing when it has ended or is at work.

    ``served``: somebody is there to execute it. ``why_silent`` tells why a host cannot be given work, and
    ``no_room`` which disk lacks room for it.
    """
    if run.state.final:
        return []
    reasons: list[str] = []
    used = store.attempts.slots_in_use()
    pipeline = store.runs.definition(run.id)
    eligible = eligible_hosts(pipeline.runner, hosts, run.host_wish)
    for attempt in store.attempts.of_run(run.id):
        if attempt.state is not AttemptState.QUEUED:
            continue
        name = f"replicate {attempt.replicate}" if run.replicates > 1 else "it"
        if attempt.not_before is not None and attempt.not_before > now:
            seconds = (attempt.not_before - now).total_seconds()
            reasons.append(f"{name} is tried again in {format_duration(seconds)}")
        elif not eligible:
            reasons.append(f"no host of the configuration fits the runner {pipeline.runner.name}")
        elif all(used.get(h.name, 0) >= h.slots for h in eligible):
            names = ", ".join(f"{h.name} ({used.get(h.name, 0)} of {h.slots} taken)" for h in eligible)
            reasons.append(f"{name} waits for a free slot: {names}")
        elif not served:
            reasons.append("no server is up: start `orchestrator serve`, or `orchestrator runs resume` it")
        elif silent := _obstacles(eligible, why_silent, no_room):
            reasons.append(f"{name} waits for {silent}")
    if run.state is RunState.EVALUATING:
        reasons += [
            f"its baseline is being measured again: {other.pipeline}#{other.number}"
            for other in _baselines_measured(store, run)
        ]
    return reasons


def _obstacles(
    hosts: Sequence[HostSpec],
    why_silent: Callable[[str], str | None],
    no_room: Callable[[str], str | None],
) -> str:
    """What a queued attempt waits for when no host can be given work; empty when one can."""
    told: dict[str, bool] = {}
    for host in hosts:
        if (why := why_silent(host.name)) is not None:
            told[f"{host.name} does not answer: {why}"] = True
        elif (lack := no_room(host.name)) is not None:
            told[lack] = False
        else:
            return ""
    return f"{'a host' if any(told.values()) else 'room'}: {'; '.join(told)}"


def _baselines_measured(store: Store, run: Run) -> list[Run]:
    return [
        other
        for other in store.runs.unfinished()
        if other.pipeline == run.pipeline and other.purpose is Purpose.BASELINE
    ]
