"""``orchestrator status``: all pipelines at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.settings import PASSED, global_options, this

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.ports.records import Watched
    from orchestrator.services.overview import PipelineView


@click.command()
@click.option("--project", metavar="NAME", help="Only the pipelines of this project.")
@global_options
def status(project: str | None) -> int:
    """Show all pipelines: how the last run ended, what runs, what waits and why, and what is not well."""
    from orchestrator.cli.output import Column, count, print_json, print_table, say
    from orchestrator.services.overview import overview

    settings = this()
    with settings.application() as app:
        now = app.clock.now()
        _require_project(app, project)
        found = overview(
            app.store,
            app.known_pipelines.values(),
            lambda run: _why(app, run),
            app.occasions.next_time,
            now,
            project,
            app.repositories,
        )
        served = bool(app.live_servers())
        if settings.json:
            print_json(
                {
                    "served": served,
                    "pipelines": [_json(view) for view in found.pipelines],
                    "troubles": [_trouble_json(seen) for seen in found.others],
                }
            )
            return PASSED
        columns = (
            Column("project", elastic=True, spare=True),
            Column("pipeline", elastic=True, least=12),
            "state",
            "last run",
            Column("running", right=True),
            Column("waiting", right=True),
            Column("next", spare=True),
        )
        print_table(columns, [_row(view, now) for view in found.pipelines], "there is no pipeline")
        if not served:
            say("no server is up: nothing is watched until `orchestrator serve` runs")
        for view in found.pipelines:
            if view.why:
                say(f"{view.name}: {count(len(view.waiting), 'run')} waiting: {view.why}")
            for waits in view.waits:
                say(f"{view.name}: {waits}")
        for seen in (*(t for view in found.pipelines for t in view.troubles), *found.others):
            say(_told(seen, now))
        return PASSED


def _require_project(app: Application, project: str | None) -> None:
    from orchestrator.domain.errors import NotFound

    known = sorted({pipeline.project for pipeline in app.known_pipelines.values()})
    if project is not None and project not in known:
        raise NotFound(
            f'there is no project "{project}"', f"the configuration has: {', '.join(known) or 'none'}"
        )


def _why(app: Application, run: object) -> list[str]:
    from orchestrator.cli.views import why_waiting
    from orchestrator.domain.run import Run

    return why_waiting(app, run) if isinstance(run, Run) else []


def _row(view: PipelineView, now: datetime) -> tuple[str, ...]:
    from orchestrator.cli.output import ago

    last = ""
    if view.last is not None:
        last = f"#{view.last.number} {view.label}, {ago(view.last.finished_at, now)}"
    return (
        view.project,
        view.name,
        "trouble" if view.troubles else view.state,
        last,
        str(len(view.running) or ""),
        str(len(view.waiting) or ""),
        f"{view.next_time.astimezone():%Y-%m-%d %H:%M %Z}" if view.next_time else "",
    )


def _told(seen: Watched, now: datetime) -> str:
    from orchestrator.domain.report import format_duration

    told = f"{seen.name}: {seen.trouble}"
    if seen.trouble_since is not None:
        told += f" (for {format_duration((now - seen.trouble_since).total_seconds())}"
        if seen.not_before is not None and seen.not_before > now:
            told += f", next look in {format_duration((seen.not_before - now).total_seconds())}"
        told += ")"
    return told


def _json(view: PipelineView) -> Json:
    from orchestrator.cli.output import iso
    from orchestrator.cli.views import reference

    return {
        "pipeline": view.name,
        "project": view.project,
        "state": view.state,
        "well": view.well,
        "last": None if view.last is None else {"reference": reference(view.last), "outcome": view.label},
        "running": [reference(run) for run in view.running],
        "waiting": [reference(run) for run in view.waiting],
        "why_waiting": view.why,
        "waits_for_data": [*view.waits],
        "next_time": iso(view.next_time),
        "schedules": [*view.schedules],
        "troubles": [_trouble_json(seen) for seen in view.troubles],
    }


def _trouble_json(seen: Watched) -> Json:
    from orchestrator.cli.output import iso

    return {
        "name": seen.name,
        "trouble": seen.trouble,
        "since": iso(seen.trouble_since),
        "tries": seen.tries,
        "next_look": iso(seen.not_before),
    }
