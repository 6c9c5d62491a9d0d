"""``orchestrator sources log``: what was decided of what was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.settings import PASSED, global_options, this

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application


@click.command("log")
@click.argument("name")
@click.option("--lines", "-n", type=click.IntRange(1, 1000), default=30, show_default=True, help="At most.")
@global_options
def log(name: str, lines: int) -> int:
    """What was decided of what was seen: why a push made no run, which branches are gone, what failed."""
    from orchestrator.cli.output import Column, iso, print_json, print_table

    settings = this()
    with settings.application() as app:
        told = [
            entry
            for subject in _subjects(app, name)
            for entry in app.store.journal.of_subject(subject, lines)
        ]
        told = sorted(told, key=lambda entry: entry.at)[-lines:]
        if settings.json:
            print_json([{"at": iso(entry.at), "name": entry.subject, "text": entry.reason} for entry in told])
            return PASSED
        rows = [(f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.subject, entry.reason) for entry in told]
        print_table(
            ("at (UTC)", Column("name", elastic=True), Column("decided", fold=True)),
            rows,
            "nothing was decided, and nothing failed",
        )
        return PASSED


def _subjects(app: Application, name: str) -> list[str]:
    """Of whom a name tells: what is watched, and all that the pipelines of a repository watch."""
    from orchestrator.cli.sources import found_watches
    from orchestrator.services.overview import watch_names

    theirs = [
        watch
        for pipeline in app.known_pipelines.values()
        if pipeline.name not in app.config.pipelines
        and name in (pipeline.name, pipeline.name.partition(".")[0])
        for watch in watch_names(pipeline)
    ]
    if theirs and name not in app.repositories:
        return theirs
    return list(dict.fromkeys([*(watch.name for watch in found_watches(app, (name,))), *theirs]))
