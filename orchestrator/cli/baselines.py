"""``orchestrator baselines`` and ``rebaseline``: what gates compare with, the runs that people pinned for it,
and with which run baselines begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.complete import pipeline_names, run_references
from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, global_options, this, who

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.domain.run import Run


@click.group(cls=CommandGroup)
@global_options
def baselines() -> None:
    """Show, pin and unpin the runs that gates compare with."""


@baselines.command("list")
@click.argument("pipeline", required=False, shell_complete=pipeline_names)
@global_options
def list_baselines(pipeline: str | None) -> int:
    """What each comparing check would be compared with now, all pins, and where baselines begin."""
    from orchestrator.cli.output import Column, print_json, print_table
    from orchestrator.cli.views import reference

    settings = this()
    with settings.application() as app:
        wanted = [app.pipeline(pipeline)] if pipeline else list(app.known_pipelines.values())
        rows: list[dict[str, Json]] = []
        for each in wanted:
            for look in app.planner.baselines(each):
                known, most = look.measurements, look.wanted
                rows.append(_row(each.name, look.check, look.baseline, look.why_none, known, most))
            for name, run_id in app.store.runs.pins(each.name).items():
                pinned = reference(app.store.runs.get(run_id))
                rows.append(_row(each.name, f"pinned:{name}" if name else "pinned", pinned))
            if (rebased := app.store.baselines.rebased(each.name)) is not None:
                why = f"since {rebased.at:%Y-%m-%d}, by {rebased.who}: {rebased.reason}"
                first = reference(app.store.runs.get(rebased.run_id))
                rows.append(_row(each.name, "all begin with", first, why))
        if settings.json:
            print_json(list(rows))
            return PASSED
        columns = (
            "pipeline",
            Column("check", fold=True),
            Column("baseline", fold=True, least=10),
            Column("measured", right=True),
            Column("why", fold=True),
        )
        table = [
            (
                str(row["pipeline"]),
                str(row["check"]),
                str(row["baseline"]),
                _counted(row["measurements"], row["wanted"]),
                str(row["why_none"]),
            )
            for row in rows
        ]
        print_table(columns, table, "no check compares with a baseline")
        return PASSED


def _row(
    pipeline: str, check: str, baseline: str, why: str = "", measurements: int = 0, wanted: int = 0
) -> dict[str, Json]:
    return {
        "pipeline": pipeline,
        "check": check,
        "baseline": baseline,
        "why_none": why,
        "measurements": measurements,
        "wanted": wanted,
    }


def _counted(measurements: Json, wanted: Json) -> str:
    if wanted:
        return f"{measurements} of {wanted}"
    return str(measurements) if measurements else ""


@baselines.command("pin")
@click.argument("ref", metavar="REF", shell_complete=run_references)
@click.option("--name", default="", metavar="NAME", help="For checks that say pinned:NAME.")
@click.option("--reason", required=True, help="Why; it stays in the journal.")
@global_options
def pin(ref: str, name: str, reason: str) -> int:
    """Pin a run, for checks that compare with `pinned`. An older pin of that name is replaced."""
    from orchestrator.cli.output import say
    from orchestrator.cli.views import reference

    with this().application() as app:
        run = _eligible(app, ref)
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
        _require_pin(app, pipeline, name)
        app.store.runs.unpin(pipeline, name, who(), reason, app.clock.now())
        say(f"{pipeline} has no pin{f' {name}' if name else ''} any more")
        return PASSED


@click.command("rebaseline")
@click.argument("pipeline", shell_complete=pipeline_names)
@click.argument("ref", metavar="[RUN]", required=False, shell_complete=run_references)
@click.option("--undo", is_flag=True, help="Take the last one back; the one before it counts again.")
@click.option("--reason", required=True, help="Why; it stays in the journal.")
@global_options
def rebaseline(pipeline: str, ref: str | None, undo: bool, reason: str) -> int:
    """Let a pipeline's baselines begin anew with a run: none before it is compared with any more."""
    from orchestrator.cli.output import say
    from orchestrator.cli.views import reference
    from orchestrator.domain.errors import InvalidInput
    from orchestrator.domain.run import Purpose

    if (ref is None) != undo:
        raise click.UsageError("name the run that baselines are to begin with, or give --undo")
    with this().application() as app:
        now = app.clock.now()
        if ref is None:
            undone = app.store.baselines.undo_rebase(pipeline, who(), reason, now)
            before = app.store.baselines.rebased(pipeline)
            first = (
                f"with {reference(app.store.runs.get(before.run_id))} again" if before else "at the first run"
            )
            title = reference(app.store.runs.get(undone.run_id))
            say(f"the baselines of {pipeline} no longer begin with {title}, but {first}")
            return PASSED
        run = _eligible(app, ref)
        if run.pipeline != pipeline:
            raise InvalidInput(f"{reference(run)} is no run of {pipeline}")
        if run.purpose is not Purpose.TRAIN:
            raise InvalidInput(f"{reference(run)} only repeats another run", "name the run that it repeats")
        app.store.baselines.rebase(pipeline, run.id, who(), reason, now)
        say(f"the baselines of {pipeline} begin with {reference(run)} from now on")
        return PASSED


def _require_pin(app: Application, pipeline: str, name: str) -> None:
    """Raises NotFound with the pins that there are, where there is none of that name."""
    from orchestrator.domain.errors import NotFound

    pins = app.store.runs.pins(pipeline)
    if name in pins:
        return
    what = (
        f"pipeline {pipeline} has no pin {name}" if name else f"pipeline {pipeline} has no pin without a name"
    )
    named = ", ".join(sorted(each for each in pins if each))
    if named:
        raise NotFound(what, f"it has: {named}; give --name")
    if pipeline not in app.pipelines and (owner := _owner_of(app, pipeline)):
        raise NotFound(
            f"there is no pipeline {pipeline}", f"orchestrator baselines unpin {owner} --name {pipeline}"
        )
    raise NotFound(what)


def _owner_of(app: Application, name: str) -> str:
    """The pipeline that has a pin of that name; empty: none."""
    return next((each for each in app.pipelines if name in app.store.runs.pins(each)), "")


def _eligible(app: Application, ref: str) -> Run:
    """The run that a person named, which may be a baseline. Raises InvalidInput where it may not."""
    from orchestrator.cli.views import reference
    from orchestrator.domain.deployment import why_not_trusted
    from orchestrator.domain.errors import InvalidInput
    from orchestrator.domain.run import RunState

    run = app.store.runs.find(ref)
    why_not = why_not_trusted(run, app.store.runs.definition(run.id))
    if run.state is not RunState.PASSED:
        raise InvalidInput(f"{reference(run)} has not passed ({run.state.value}), so it cannot be a baseline")
    if why_not is not None:
        raise InvalidInput(f"{reference(run)} cannot be a baseline: {why_not}")
    return run
