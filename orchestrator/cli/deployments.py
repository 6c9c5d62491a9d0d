"""``orchestrator deployments``: what is where, and what people ask of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import click

from orchestrator.cli.complete import run_references
from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, REJECTED, global_options, this, user, who

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.domain.action import Action

_REASON = click.option("--reason", default="", help="Why; it stays with the run.")
_PIPELINE = click.option("--pipeline", metavar="NAME", help="Whose, where several deploy to the same place.")
_WAIT = click.option("--wait/--no-wait", default=True, help="Stay until it is done (the default).")
_LOOKS = 0.5


@click.group(cls=CommandGroup)
@global_options
def deployments() -> None:
    """Show what was deployed where, deploy, approve and roll back."""


@deployments.command("list")
@click.option("--server", metavar="NAME", help="Only on this server.")
@click.option("--live", is_flag=True, help="Only what is live now.")
@click.option("--limit", "-n", type=click.IntRange(1, 10_000), default=20, help="How many [20].")
@global_options
def list_deployments(server: str | None, live: bool, limit: int) -> int:
    """The newest deployments first."""
    from orchestrator.cli.output import Column, ago, print_json, print_table
    from orchestrator.cli.views import reference
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.deployment import DeploymentState

    settings = this()
    with settings.application() as app:
        if live:
            active = app.store.deployments.in_state(DeploymentState.ACTIVE)
            found = [row for row in active if server in (None, row.server)][:limit]
        else:
            found = list(app.store.deployments.listing(server, limit))
        if settings.json:
            print_json(to_plain(found))
            return PASSED
        now = app.clock.now()
        rows = [
            (
                str(d.id),
                d.environment or "—",
                d.server,
                reference(app.store.runs.get(d.run_id)),
                d.state.value,
                d.release,
                ago(d.activated_at or d.created_at, now),
                d.message,
            )
            for d in found
        ]
        columns = (
            Column("id", right=True),
            Column("environment", spare=True),
            "server",
            "run",
            "state",
            "release",
            "when",
            Column("told", elastic=True),
        )
        print_table(columns, rows, "nothing has been deployed yet")
        return PASSED


@deployments.command("show")
@click.argument("number", type=click.IntRange(1), metavar="ID")
@global_options
def show(number: int) -> int:
    """One deployment: where, what, who allowed it, and what the server said."""
    from orchestrator.cli.output import print_json, print_table, stamp
    from orchestrator.cli.views import reference
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.text import clean

    settings = this()
    with settings.application() as app:
        found = app.store.deployments.get(number)
        decision = app.store.deployments.decision(found.action_id)
        action = app.store.actions.get(found.action_id)
        if settings.json:
            print_json({**to_plain(found), "who": action.who, "decision": to_plain(decision)})
            return PASSED
        said = "" if decision is None else f"{decision.ruling.value} by {decision.who} {stamp(decision.at)}"
        if decision is not None and decision.reason:
            said += f": {decision.reason}"
        rows = [
            ("run", reference(app.store.runs.get(found.run_id))),
            ("server", found.server),
            ("environment", found.environment),
            ("release", found.release),
            ("state", found.state.value),
            ("told", found.message),
            ("waits", action.waits),
            ("asked for by", action.who),
            ("decision", said),
            ("live before", found.previous),
            ("begun", stamp(found.created_at)),
            ("live since", stamp(found.activated_at)),
        ]
        print_table(("", ""), [row for row in rows if row[1]])
        if found.output:
            print("\n".join(clean(line) for line in found.output.splitlines()))  # noqa: T201
        return PASSED


@deployments.command("deploy")
@click.argument("ref", metavar="RUN", shell_complete=run_references)
@click.argument("place", metavar="PLACE")
@click.option("--files", multiple=True, metavar="PATTERN", help="Of these files alone (repeatable).")
@_REASON
@_WAIT
@global_options
def deploy(ref: str, place: str, files: tuple[str, ...], reason: str, wait: bool) -> int:
    """Deploy a run that passed to an environment or a server, also one older than what is live there."""
    from orchestrator.bootstrap.deploying import desk_of

    with this().application() as app:
        run = app.store.runs.find(ref)
        action = desk_of(app).deploy(run, place, who(), reason, files)
        return _carried_out(app, action, wait)


@deployments.command("promote")
@click.argument("source", metavar="FROM")
@click.argument("place", metavar="TO")
@_PIPELINE
@_REASON
@_WAIT
@global_options
def promote(source: str, place: str, pipeline: str | None, reason: str, wait: bool) -> int:
    """Deploy what is live in one environment to another one."""
    from orchestrator.bootstrap.deploying import desk_of

    with this().application() as app:
        return _carried_out(app, desk_of(app).promote(source, place, who(), reason, pipeline), wait)


@deployments.command("rollback")
@click.argument("place", metavar="PLACE")
@click.option("--to", "release", default="", metavar="RELEASE", help="Not the one before, but this one.")
@_PIPELINE
@_REASON
@_WAIT
@global_options
def rollback(place: str, release: str, pipeline: str | None, reason: str, wait: bool) -> int:
    """Put the release back that was live before, in an environment or on a server."""
    from orchestrator.bootstrap.deploying import desk_of

    with this().application() as app:
        return _carried_out(app, desk_of(app).roll_back(place, who(), reason, pipeline, release), wait)


@deployments.command("approve")
@click.argument("ref", metavar="RUN", shell_complete=run_references)
@click.option("--to", "place", metavar="PLACE", help="Which of its deployments, where several wait.")
@_REASON
@_WAIT
@global_options
def approve(ref: str, place: str | None, reason: str, wait: bool) -> int:
    """Let a deployment go that waits for approval."""
    return _decided(ref, place, True, reason, wait)


@deployments.command("reject")
@click.argument("ref", metavar="RUN", shell_complete=run_references)
@click.option("--to", "place", metavar="PLACE", help="Which of its deployments, where several wait.")
@_REASON
@global_options
def reject(ref: str, place: str | None, reason: str) -> int:
    """End a deployment that waits for approval, before anything is sent."""
    return _decided(ref, place, False, reason, False)


def _decided(ref: str, place: str | None, approved: bool, reason: str, wait: bool) -> int:
    from orchestrator.bootstrap.deploying import desk_of
    from orchestrator.cli.output import say
    from orchestrator.domain.errors import InvalidInput, NotFound

    with this().application() as app:
        run = app.store.runs.find(ref)
        desk = desk_of(app)
        waiting = [
            each
            for each in desk.awaiting()
            if each.run.id == run.id and place in (None, each.environment.title)
        ]
        if not waiting:
            raise NotFound(f"no deployment of {run.title} waits for approval")
        if len(waiting) > 1:
            places = ", ".join(each.environment.title for each in waiting)
            raise InvalidInput(f"several deployments of {run.title} wait: to {places}", "say --to PLACE")
        (found,) = waiting
        if desk.decide(found.action.id, approved, who(), reason, user()) is None:
            raise InvalidInput(f"the deployment of {run.title} does not wait any more")
        became = "approved" if approved else "rejected"
        say(f"{run.title} to {found.environment.title} {became}")
        code = _carried_out(app, app.store.actions.get(found.action.id), wait or not app.live_servers())
        return code if approved else PASSED


def _carried_out(app: Application, action: Action, wait: bool) -> int:
    """Stay with an action: a server that is up carries it out, and without one this process does."""
    from orchestrator.cli.output import print_json, say
    from orchestrator.domain.action import ActionState
    from orchestrator.domain.action_spec import told
    from orchestrator.domain.codec import to_plain

    say(f"{app.store.runs.get(action.run_id).title}: {told(action.spec)}")
    stopping = threading.Event()
    actor = app.actor(stopping, lambda run_id: run_id == action.run_id)
    before = ""
    while wait:
        if not app.live_servers():
            actor.carry_out_due()
        action = app.store.actions.get(action.id)
        news = action.waits or (action.message if action.state is ActionState.PENDING else "")
        if news and news != before:
            say(news)
            before = news
        if action.state.final or action.waits:
            break
        app.clock.sleep(_LOOKS)
    if this().json:
        print_json(to_plain(action))
    if not action.state.final:
        if not app.live_servers():
            say("no server is up: start `orchestrator serve`, which goes on with it")
        return PASSED
    say(f"{action.state.value}: {action.message}")
    return PASSED if action.state is ActionState.DONE else REJECTED
