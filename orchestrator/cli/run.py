"""``orchestrator run``: one run now, in a server or, when none is up, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.complete import pipeline_names
from orchestrator.cli.settings import PASSED, global_options, this, who

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.domain.pipeline import Pipeline


@click.command()
@click.argument("pipeline", shell_complete=pipeline_names)
@click.option("--ref", metavar="REF", help="Branch, tag or commit (else the branch that is deployed).")
@click.option("--host", metavar="NAME", help="Execute on this host alone.")
@click.option("--replicates", type=click.IntRange(1, 1000), metavar="N", help="How many trainings.")
@click.option(
    "--priority",
    type=click.IntRange(-100, 100),
    metavar="N",
    help="The greater goes first where several wait (else the pipeline's).",
)
@click.option("--wait/--no-wait", default=True, help="Stay until the end (the default).")
@click.option("--follow", "-f", is_flag=True, help="Show the log as well.")
@global_options
def run(
    pipeline: str,
    ref: str | None,
    host: str | None,
    replicates: int | None,
    priority: int | None,
    wait: bool,
    follow: bool,
) -> int:
    """Run PIPELINE once, now.

    A server that is up executes it; without one, this process does. Ctrl-C lets go of the run, and does not
    end it.
    """
    from orchestrator.cli.attach import stay_with
    from orchestrator.cli.hostnames import require_host
    from orchestrator.cli.output import print_json, say
    from orchestrator.cli.views import reference, run_json

    settings = this()
    with settings.application(check_stored=True) as app:
        wanted = app.pipeline(pipeline)
        if host is not None:
            require_host(app, host)
        if (wait or follow) and not app.live_servers():
            _require_a_host(app, wanted, host)
        made = app.detector.run_now(wanted, ref, who(), host, replicates, priority=priority)
        revision = made.change.revision
        data = "".join(f", {version.label}" for version in made.change.datasets)
        say(f"{reference(made)} enqueued: {revision.branch} {revision.short}{data}")
        if made.change.note:
            say(made.change.note)
        if wait or follow:
            return stay_with(app, made, show_log=follow, as_json=settings.json)
        if settings.json:
            print_json(run_json(app, made))
        if not app.live_servers():
            say(f"no server is up: start orchestrator serve, or: orchestrator runs resume {made.id}")
        return PASSED


def _require_a_host(app: Application, pipeline: Pipeline, wish: str | None) -> None:
    """Raise EngineUnavailable when none of the hosts answers that this process would execute the run on."""
    from orchestrator.domain.errors import EngineUnavailable
    from orchestrator.domain.pipeline import eligible_hosts

    silent = {h.name: app.reach.why_not(h.name) for h in eligible_hosts(pipeline.runner, app.hosts, wish)}
    if silent and all(why is not None for why in silent.values()):
        raise EngineUnavailable(
            "; ".join(f"host {host} does not answer: {why}" for host, why in silent.items()),
            "no run was made",
        )
