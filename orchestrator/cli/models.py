"""``orchestrator models``: the versions of models, and where they stand."""

from __future__ import annotations

import click

from orchestrator.cli.complete import pipeline_names, run_references
from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, global_options, this


@click.group(cls=CommandGroup)
@global_options
def models() -> None:
    """Show the versions of models, and which one is in production."""


@models.command("list")
@click.argument("pipeline", required=False, shell_complete=pipeline_names)
@click.option("--limit", "-n", type=click.IntRange(1, 10_000), default=20, help="How many [20].")
@global_options
def list_models(pipeline: str | None, limit: int) -> int:
    """The newest versions first: each run that passed has made one, with the run's number."""
    from orchestrator.cli.output import Column, ago, print_json, print_table
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.report import key_metric

    settings = this()
    with settings.application() as app:
        found = app.store.models.versions(pipeline, limit)
        if settings.json:
            print_json(to_plain(found))
            return PASSED
        now = app.clock.now()
        rows = []
        for version in found:
            run = app.store.runs.get(version.run_id)
            rows.append(
                (
                    version.pipeline,
                    f"v{version.number}",
                    ", ".join(version.stages) or "—",
                    run.change.revision.short,
                    key_metric(run.verdict.checks) if run.verdict else "",
                    ago(version.created_at, now),
                )
            )
        columns = ("pipeline", Column("version", right=True), "stage", "commit", "metric", "made")
        print_table(columns, rows, "no run has passed yet")
        return PASSED


@models.command("show")
@click.argument("ref", metavar="VERSION", shell_complete=run_references)
@global_options
def show_model(ref: str) -> int:
    """One version, as PIPELINE#NUMBER: its stages, what it holds, and where it is live."""
    from orchestrator.cli.output import print_json, print_table, stamp
    from orchestrator.cli.views import reference
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.deployment import DeploymentState
    from orchestrator.domain.errors import NotFound
    from orchestrator.domain.run import representative

    settings = this()
    with settings.application() as app:
        run = app.store.runs.find(ref)
        version = app.store.models.of_run(run.id)
        if version is None:
            raise NotFound(f"{reference(run)} did not pass, so there is no version of it")
        history = app.store.models.history(run.id)
        attempt = representative(app.store.attempts.of_run(run.id))
        files = app.store.attempts.artifacts(attempt.id) if attempt else ()
        placed = app.store.deployments.of_run(run.id)
        live = [row for row in placed if row.state is DeploymentState.ACTIVE]
        if settings.json:
            print_json(
                {
                    **to_plain(version),
                    "history": [
                        {"stage": stage.value, "since": to_plain(since), "until": to_plain(until), "why": why}
                        for stage, since, until, why in history
                    ],
                    "files": to_plain(files),
                    "live": to_plain(live),
                }
            )
            return PASSED
        data = ", ".join(each.label for each in run.change.datasets)
        rows = [
            ("version", f"{version.pipeline} v{version.number}"),
            ("stage", ", ".join(version.stages) or "none"),
            ("commit", f"{run.change.revision.short} on {run.change.revision.branch}"),
            ("data", data),
            ("files", ", ".join(file.path for file in files if file.kind == "artifact")),
            ("live on", ", ".join(row.server for row in live)),
            *(
                (
                    "",
                    f"{stage.value} from {stamp(since)}"
                    + (f" to {stamp(until)}" if until else "")
                    + f": {why}",
                )
                for stage, since, until, why in history
            ),
        ]
        print_table(("", ""), [row for row in rows if row[1]])
        return PASSED
