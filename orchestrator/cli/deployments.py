"""``orchestrator deployments``: what was put where."""

from __future__ import annotations

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, global_options, this


@click.group(cls=CommandGroup)
@global_options
def deployments() -> None:
    """Show what was deployed where."""


@deployments.command("list")
@click.option("--server", metavar="NAME", help="Only on this server.")
@click.option("--limit", "-n", type=click.IntRange(1, 10_000), default=20, help="How many [20].")
@global_options
def list_deployments(server: str | None, limit: int) -> int:
    """The newest deployments first."""
    from orchestrator.cli.output import Column, ago, print_json, print_table
    from orchestrator.cli.views import reference
    from orchestrator.domain.codec import to_plain

    settings = this()
    with settings.application() as app:
        found = app.store.deployments.listing(server, limit)
        if settings.json:
            print_json(to_plain(found))
            return PASSED
        now = app.clock.now()
        rows = [
            (
                d.server,
                reference(app.store.runs.get(d.run_id)),
                d.state.value,
                d.release,
                ago(d.activated_at or d.created_at, now),
                d.message,
            )
            for d in found
        ]
        columns = ("server", "run", "state", "release", "when", Column("told", elastic=True))
        print_table(columns, rows, "nothing has been deployed yet")
        return PASSED
