"""``orchestrator hosts prune``: what is ours on hosts and needed by nobody, shown and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this, who

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.bootstrap import Application
    from orchestrator.domain.retention import Going, Plan
    from orchestrator.services.retain_hosts import HostKeeper


@click.command("prune")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
@click.option("--now", is_flag=True, help="Whatever its age: all that nothing needs.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also what the next runs would use; not with a server up.",
)
@global_options
def prune(names: tuple[str, ...], dry_run: bool, yes: bool, now: bool, everything: bool) -> int:
    """Remove from hosts what this installation made there and nothing needs any more.

    Containers with their workspaces, networks, volumes of data and checkpoints, and images, by this
    installation's label alone.
    """
    from orchestrator.cli.hostnames import known_hosts
    from orchestrator.cli.output import ask, count, print_json, say
    from orchestrator.cli.progress import ProgressLine
    from orchestrator.domain.errors import InvalidInput
    from orchestrator.services.retain import HOSTS

    settings = this()
    with settings.application() as app:
        wanted = known_hosts(app, names, removed=True)
        # One that is named is asked all the same: it may have just come back.
        silent: Mapping[str, str] = {} if names else app.silent(wanted)
        if everything and app.live_servers():
            raise InvalidInput("a server is up, and may need what is there", "stop it, or leave --all out")
        keeper = _keeper(app, now=now, everything=everything)
        with ProgressLine() as progress:
            plan, problems = keeper.plan(HOSTS, progress, [host for host in wanted if host not in silent])
        problems += [f"{host} does not answer: {why}" for host, why in silent.items()]
        if not settings.json:
            _table(plan)
        if plan.going and not dry_run and not yes:
            ask(f"Remove {count(len(plan.going), 'thing')}?")
        going: Sequence[Going] = plan.going
        if not dry_run:
            gone = []
            with ProgressLine() as progress:
                for thing, problem in keeper.carry_out(plan, who(), progress, lambda: None):
                    if problem is None:
                        gone.append(thing)
                    elif problem:
                        problems.append(problem)
            going = gone
        for problem in problems:
            say(problem)
        if settings.json:
            rows = ((t.place, t.kind.value.removesuffix("s"), t.title, t.size, t.why) for t in going)
            print_json([dict(zip(("host", "kind", "name", "size", "why"), row, strict=True)) for row in rows])
        elif plan.going:
            say(f"{'would remove' if dry_run else 'removed'} {count(len(going), 'thing')}")
        else:
            say("nothing to remove" + (" where hosts answer" if problems else ""))
        return UNKNOWN if problems else PASSED


def _keeper(app: Application, *, now: bool, everything: bool) -> HostKeeper:
    from orchestrator.bootstrap.retention import host_keeper_of, policy_of
    from orchestrator.services.retain_hosts import EVERYTHING

    policy = EVERYTHING if now or everything else policy_of(app.config.orchestrator.retention)
    return host_keeper_of(app, policy, to_the_last=everything)


def _table(plan: Plan) -> None:
    from orchestrator.cli.output import Column, print_table
    from orchestrator.domain.report import format_size

    why = Column("why", fold=True)
    print_table(
        ("host", "kind", Column("goes", elastic=True), Column("frees", right=True), why),
        [
            (t.place, t.kind.value.removesuffix("s"), t.title, format_size(t.size) if t.size else "", t.why)
            for t in plan.going
        ],
    )
    print_table(
        ("host", "kind", Column("stays", elastic=True), why),
        [(t.place, t.kind.value.removesuffix("s"), t.title, t.why) for t in plan.staying],
    )
