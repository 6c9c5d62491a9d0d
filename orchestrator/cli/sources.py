"""``orchestrator sources``: what is watched, and how the looks at it go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this
from orchestrator.cli.sourcelog import log
from orchestrator.cli.sourcetrust import trust

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.domain.pipeline import Pipeline
    from orchestrator.ports.records import Watched
    from orchestrator.services.watches import Looked, Watch


@click.group(cls=CommandGroup)
@global_options
def sources() -> None:
    """Show what is watched and look at it now.

    NAME is a repository, dataset or pipeline, or the whole name that `sources list` shows.
    """


sources.add_command(trust)
sources.add_command(log)


@sources.command("list")
@click.option("--project", metavar="NAME", help="Only what pipelines of this project watch.")
@click.option("--troubled", is_flag=True, help="Only what could not be looked at the last time.")
@global_options
def list_sources(project: str | None, troubled: bool) -> int:
    """All that is watched: its state, the last look, the last change, the next look."""
    from orchestrator.cli.output import Column, print_json, print_table, say

    settings = this()
    with settings.application() as app:
        now = app.clock.now()
        pipelines = app.known_pipelines
        known, being_written = app.store.watches.all(), app.store.watches.being_written()
        shown = [
            (watch, known.get(watch.name))
            for watch in app.watches
            if project is None or _project(pipelines, watch) == project
        ]
        shown = [
            (watch, seen) for watch, seen in shown if not troubled or (seen is not None and seen.trouble)
        ]
        if settings.json:
            print_json([_json(watch, seen, being_written, pipelines) for watch, seen in shown])
            return PASSED
        columns = (
            Column("name", elastic=True, least=20),
            "state",
            Column("looked", right=True),
            Column("changed", right=True),
            Column("next look", right=True),
            Column("note", elastic=True, spare=True),
        )
        print_table(
            columns,
            [_row(watch, seen, being_written, _due(app, pipelines, watch), now) for watch, seen in shown],
            "nothing is watched",
        )
        for watch, seen in shown:
            if seen is not None and seen.trouble:
                say(f"{watch.name}: {seen.trouble}")
        if not app.live_servers():
            say("no server is up: nothing is looked at until `orchestrator serve` runs")
        return PASSED


@sources.command("poll")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@global_options
def poll(names: tuple[str, ...]) -> int:
    """Look now, as a server does: what changed makes its runs, which a server executes."""
    from orchestrator.cli.output import print_json, say

    settings = this()
    # What goes wrong is told below, so that the log need not tell it as well.
    with settings.application(None if settings.verbose else "CRITICAL") as app:
        told: list[Json] = []
        failed = False
        for watch in found_watches(app, names):
            before = app.store.runs.listing(limit=1)
            looked = app.looks.look(watch)
            app.looks.write_down()
            newest = before[0].id if before else 0
            made = [
                run for run in reversed(app.store.runs.listing(watch.pipeline or None)) if run.id > newest
            ]
            runs = [f"{run.pipeline}#{run.number}" for run in made]
            failed = failed or bool(looked.trouble)
            told.append({"name": watch.name, "trouble": looked.trouble, "runs": [*runs]})
            say(f"{watch.name}: {looked.trouble or ', '.join(runs) or _nothing(watch, looked)}")
        if settings.json:
            print_json(told)
        return UNKNOWN if failed else PASSED


def _nothing(watch: Watch, looked: Looked) -> str:
    from orchestrator.domain.report import format_duration

    if watch.source is None or looked.sight.again is None:
        return "nothing new"
    return f"something has to wait, it is ripe in {format_duration(looked.sight.again)}"


def found_watches(app: Application, names: tuple[str, ...]) -> list[Watch]:
    """What is watched under these names. NotFound when one of them is none."""
    from orchestrator.cli.output import count
    from orchestrator.domain.errors import NotFound

    found: dict[str, Watch] = {}
    for name in names:
        those = {watch.name: watch for watch in app.watches if _is_called(watch, name)}
        if not those:
            known = sorted({watch.name for watch in app.watches})
            listed = ", ".join(known[:10]) + (
                f" and {count(len(known) - 10, 'other')}" if len(known) > 10 else ""
            )
            raise NotFound(f'nothing that is called "{name}" is watched', f"there are: {listed or 'none'}")
        found |= those
    return list(found.values())


def _is_called(watch: Watch, name: str) -> bool:
    plain = watch.name.partition(" ")[2]
    github = watch.source.github if watch.source is not None else ""
    return name in (watch.name, plain, plain.rpartition("/")[2], watch.pipeline, github)


def _due(app: Application, pipelines: Mapping[str, Pipeline], watch: Watch) -> str:
    """When a schedule makes its next run: it is looked at more often than that."""
    from orchestrator.services.occasions import schedule_watch

    pipeline = pipelines.get(watch.pipeline) if watch.occasion else None
    if pipeline is None or watch.name != schedule_watch(pipeline.name):
        return ""
    upcoming = app.occasions.next_time(pipeline)
    return f"due {upcoming.astimezone():%Y-%m-%d %H:%M %Z}" if upcoming is not None else "never due"


def _project(pipelines: Mapping[str, Pipeline], watch: Watch) -> str:
    pipeline = pipelines.get(watch.pipeline)
    return pipeline.project if pipeline is not None else ""


def _row(
    watch: Watch, seen: Watched | None, being_written: Mapping[str, datetime], due: str, now: datetime
) -> tuple[str, ...]:
    from datetime import timedelta

    from orchestrator.cli.output import ago, count
    from orchestrator.domain.report import format_duration

    if seen is None:
        return (watch.name, "never looked", "", "", "", due)
    state, note = "ok", due or seen.note
    if watch.dataset is not None and (since := being_written.get(watch.dataset.key)) is not None:
        state = "being written"
        waits = watch.dataset.marker or f"{format_duration(watch.dataset.settle)} without a change"
        note = f"waits for {waits}, last changed {ago(since, now)}"
    if seen.trouble:
        state = "trouble"
        since = seen.trouble_since or now
        note = f"for {format_duration((now - since).total_seconds())}, {count(seen.tries, 'look')} failed"
    at = seen.not_before or (seen.checked_at + timedelta(seconds=watch.every) if seen.checked_at else now)
    wait = (at - now).total_seconds()
    upcoming = f"in {format_duration(wait)}" if wait > 0 else ""
    return (watch.name, state, ago(seen.checked_at, now), ago(seen.changed_at, now), upcoming, note)


def _json(
    watch: Watch,
    seen: Watched | None,
    being_written: Mapping[str, datetime],
    pipelines: Mapping[str, Pipeline],
) -> Json:
    from orchestrator.cli.output import iso

    return {
        "name": watch.name,
        "pipeline": watch.pipeline,
        "project": _project(pipelines, watch),
        "location": watch.source.location if watch.source is not None else "",
        "every": watch.every,
        "looked": None if seen is None else iso(seen.checked_at),
        "changed": None if seen is None else iso(seen.changed_at),
        "trouble": "" if seen is None else seen.trouble,
        "trouble_since": None if seen is None else iso(seen.trouble_since),
        "tries": 0 if seen is None else seen.tries,
        "next_look": None if seen is None else iso(seen.not_before),
        "being_written_since": iso(being_written.get(watch.dataset.key)) if watch.dataset else None,
        "waits_for": watch.dataset.marker if watch.dataset else "",
        "note": "" if seen is None else seen.note,
    }
