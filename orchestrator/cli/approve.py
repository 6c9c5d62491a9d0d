"""``orchestrator runs approve``, ``reject`` and ``decide``: what a person says of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from orchestrator.cli.complete import run_references
from orchestrator.cli.settings import PASSED, global_options, this, who

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.domain.run import Run

_REFERENCE = click.Argument(["ref"], metavar="REF", shell_complete=run_references)
_REASON = click.option("--reason", default="", help="Why; it stays with the run.")


@click.command("approve", params=[_REFERENCE])
@_REASON
@global_options
def approve(ref: str, reason: str) -> int:
    """Let a run go that waits for approval. Its commit stays the one that `runs show` tells."""

    def decide(app: Application, run: Run) -> Run | None:
        return app.approver.approve(run, who(), reason)

    return _decided(ref, decide, "approved")


@click.command("reject", params=[_REFERENCE])
@_REASON
@global_options
def reject(ref: str, reason: str) -> int:
    """End a run that waits for approval, before anything is done for it."""

    def decide(app: Application, run: Run) -> Run | None:
        return app.approver.reject(run, who(), reason)

    return _decided(ref, decide, "rejected")


@click.command("decide", params=[_REFERENCE])
@click.argument("outcome", type=click.Choice(["pass", "fail"]))
@click.option("--reason", required=True, help="Why; it stays with the run.")
@global_options
def decide(ref: str, outcome: str, reason: str) -> int:
    """Decide on an inconclusive run whose gate says `on_inconclusive: manual`.

    One that is decided to pass is then deployed, and told of, like any that passes.
    """

    def ruled(app: Application, run: Run) -> Run | None:
        return app.approver.decide(run, outcome == "pass", who(), reason)

    became = "passed by decision" if outcome == "pass" else "rejected by decision"
    return _decided(ref, ruled, became, "is not inconclusive")


def _decided(
    ref: str,
    decide: Callable[[Application, Run], Run | None],
    became: str,
    cannot: str = "does not wait for approval",
) -> int:
    from orchestrator.cli.output import print_json, say
    from orchestrator.cli.views import reference, run_json
    from orchestrator.domain.errors import InvalidInput
    from orchestrator.domain.text import clean

    settings = this()
    with settings.application() as app:
        run = app.store.runs.find(ref)
        decided = decide(app, run)
        if decided is None:
            now = app.store.runs.get(run.id).state.value.replace("_", " ")
            raise InvalidInput(f"{reference(run)} {cannot}: it is {now}")
        revision = decided.change.revision
        pull = revision.pull
        of = f" of pull request {pull.number} by {clean(pull.author)} (id {pull.author_id})" if pull else ""
        say(f"{reference(run)} {became}: commit {revision.short}{of}")
        if not decided.state.final and not app.live_servers():
            say("no server is up: start `orchestrator serve`, or `orchestrator runs resume` it")
        if settings.json:
            print_json(run_json(app, decided))
        return PASSED
