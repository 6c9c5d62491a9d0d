"""``orchestrator baselines``: what gates compare with, and the runs that people pinned for it."""

from __future__ import annotations

import click

from orchestrator.cli.complete import pipeline_names, run_references
from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, global_options, this, who


@click.group(cls=CommandGroup)
@global_options
def baselines() -> None:
    """Show, pin and unpin the runs that gates compare with."""


@baselines.command("list")
@click.argument("pipeline", required=False, shell_complete=pipeline_names)
@global_options
def list_baselines(pipeline: str | None) -> int:
    """What each comparing check would be compared with now, and all pins."""
    from orchestrator.cli.output import Column, print_json, print_table
    from orchestrator.cli.views import reference

    settings = this()
    with settings.application() as app:
        wanted = [app.pipeline(pipeline)] if pipeline else list(app.known_pipelines.values())
        rows: list[tuple[str, ...]] = []
        for each in wanted:
            rows += [
                (each.name, look.check, look.baseline, look.why_none) for look in app.planner.baselines(each)
            ]
            rows += [
                (each.name, f"pinned:{name}" if name else "pinned", reference(app.store.runs.get(run_id)), "")
                for name, run_id in app.store.runs.pins(each.name).items()
            ]
        titles = ("pipeline", "check", "baseline", "why_none")
        if settings.json:
            print_json([dict(zip(titles, row, strict=True)) for row in rows])
            return PASSED
        columns = ("pipeline", Column("check", fold=True), "baseline", Column("why there is none", fold=True))
        print_table(columns, rows, "no check compares with a baseline")
        return PASSED


@baselines.command("pin")
@click.argument("ref", metavar="REF", shell_complete=run_references)
@click.option("--name", default="", metavar="NAME", help="For checks that say pinned:NAME.")
@click.option("--reason", required=True, help="Why; it stays in the journal.")
@global_options
def pin(ref: str, name: str, reason: str) -> int:
    """Pin a run, for checks that compare with `pinned`. An older pin of that name is replaced."""
    from orchestrator.cli.output import say
    from orchestrator.cli.views import reference
    from orchestrator.domain.deployment import why_not_trusted
    from orchestrator.domain.errors import InvalidInput
    from orchestrator.domain.run import RunState

    with this().application() as app:
        run = app.store.runs.find(ref)
        why_not = why_not_trusted(run, app.store.runs.definition(run.id))
        if run.state is not RunState.PASSED:
            raise InvalidInput(
                f"{reference(run)} has not passed ({run.state.value}), so it cannot be a baseline"
            )
        if why_not is not None:
            raise InvalidInput(f"{reference(run)} cannot be a baseline: {why_not}")
        app.store.runs.pin(run.pipeline, name, run.id, who(), reason, app.clock.now())
        say(f"{reference(run)} is pinned{f' as {name}' if name else ''}")
        return PASSED


@baselines.command("unpin")
@click.argument("pipeline", shell_complete=pipeline_names)
@click.option("--name", default="", metavar="NAME", help="The pin's name, where it has one.")
@click.option("--reason", default="", help="Why; it stays in the journal.")
@global_options
def unpin(pipeline: str, name: str, reason: str) -> int:
    """Take a pipeline's pin away."""
    from orchestrator.cli.output import say

    with this().application() as app:
        app.store.runs.unpin(pipeline, name, who(), reason, app.clock.now())
        say(f"{pipeline} has no pin{f' {name}' if name else ''} any more")
        return PASSED
