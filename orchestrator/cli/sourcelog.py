"""``orchestrator sources log``: what was decided of what was seen."""

from __future__ import annotations

from collections.abc import Iterable
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
    from orchestrator.cli.sources import found_watches

    settings = this()
    with settings.application() as app:
        told = [
            entry
            for watch in found_watches(app, (name, *_pipelines_of(app, name)))
            for entry in app.store.journal.of_subject(watch.name, lines)
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


def _pipelines_of(app: Application, name: str) -> Iterable[str]:
    """The pipelines of a repository with a file of its own; it is asked, for nobody else knows them."""
    from orchestrator.cli.output import say
    from orchestrator.domain.errors import SourceError

    repository = app.repositories.get(name.partition(".")[0])
    if repository is None:
        return ()
    try:
        pipelines = repository.look()[0]
    except SourceError as error:
        say(f"its pipelines are not known: {error}")
        return ()
    return pipelines if name == repository.name else ()
