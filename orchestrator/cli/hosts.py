"""``orchestrator hosts`` and ``orchestrator runners``: where and in what runs execute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.hosttrust import trust
from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json


@click.group(cls=CommandGroup)
@global_options
def hosts() -> None:
    """Show and check the Docker engines that execute runs."""


@hosts.command("list")
@global_options
def list_hosts() -> int:
    """Each host with its slots and what its engine says of itself."""
    from orchestrator.cli.output import Column, print_json, print_table

    settings = this()
    with settings.application() as app:
        facts = [_facts(app, host.name) for host in app.hosts]
        if settings.json:
            print_json(facts)
            return PASSED
        rows = [
            (
                str(f["host"]),
                f"{f['free']} of {f['slots']}",
                str(f["labels"]),
                str(f["state"]),
                str(f["engine"]),
            )
            for f in facts
        ]
        columns = ("host", "free slots", "labels", Column("state", fold=True), Column("engine", elastic=True))
        print_table(columns, rows)
        return PASSED


def _facts(app: Application, name: str) -> dict[str, Json]:
    from orchestrator.domain.errors import EngineError
    from orchestrator.domain.report import format_size

    host = next(h for h in app.hosts if h.name == name)
    used = app.store.attempts.slots_in_use().get(name, 0)
    try:
        info = app.engines[name].info()
        state = f"Docker {info.version}, {info.cpus} cores, {format_size(info.memory)}"
        reachable = True
    except EngineError as error:
        state, reachable = str(error), False
    return {
        "host": name,
        "engine": host.engine,
        "slots": host.slots,
        "free": max(0, host.slots - used),
        "labels": ", ".join(f"{key}={value}" for key, value in host.labels),
        "reachable": reachable,
        "state": state,
    }


@hosts.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--image", default=None, metavar="IMAGE", help="The image to try with (else one that is there)."
)
@global_options
def check(names: tuple[str, ...], image: str | None) -> int:
    """Run a real container on each host, as a run would, and time each part of it."""
    from orchestrator.cli.hostcheck import check_host
    from orchestrator.cli.output import Column, print_json, print_table

    settings = this()
    with settings.application() as app:
        results = [line for name in _known(app, names) for line in check_host(app, name, image)]
        if settings.json:
            print_json(
                [
                    {"host": r.host, "part": r.part, "result": r.result, "seconds": r.seconds, "told": r.told}
                    for r in results
                ]
            )
        else:
            rows = [(r.host, r.part, r.result, f"{r.seconds * 1000:.0f} ms", r.told) for r in results]
            columns = ("host", "part", "result", Column("time", right=True), Column("told", fold=True))
            print_table(columns, rows)
        return UNKNOWN if any(r.result == "fail" for r in results) else PASSED


hosts.add_command(trust)


@hosts.command("clean")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
@global_options
def clean(names: tuple[str, ...], dry_run: bool, yes: bool) -> int:
    """Remove from hosts what this installation made there and no unfinished run needs.

    Containers, networks, volumes of data and checkpoints, and images, by this installation's label alone.
    What is needed again is made again.
    """
    from orchestrator.cli.output import ask, count, print_json, print_table, say
    from orchestrator.domain.errors import EngineError, InvalidInput
    from orchestrator.services.clean import leftovers

    settings = this()
    with settings.application() as app:
        wanted = _known(app, names)
        if app.live_servers():
            raise InvalidInput("a server is up, and may need what is there", "stop it first")
        found, failed = [], 0
        for name in wanted:
            try:
                found += [(name, thing) for thing in leftovers(app.store, app.engines[name])]
            except EngineError as error:
                failed += 1
                say(f"{name}: {error}")
        if not settings.json:
            print_table(("host", "kind", "name"), [(name, t.kind, t.name) for name, t in found])
        if found and not dry_run and not yes:
            ask(f"Remove {count(len(found), 'thing')}?")
        removed = []
        for name, thing in found:
            try:
                if not dry_run:
                    thing.remove()
                removed.append({"host": name, "kind": thing.kind, "name": thing.name})
            except EngineError as error:
                failed += 1
                say(f"{name}: {thing.kind} {thing.name} stays: {error}")
        if settings.json:
            print_json(removed)
        elif not found:
            say("nothing to remove")
        else:
            say(f"{'would remove' if dry_run else 'removed'} {count(len(removed), 'thing')}")
        return UNKNOWN if failed else PASSED


def _known(app: Application, names: tuple[str, ...]) -> list[str]:
    """The hosts that were named, or all of them. Raises NotFound."""
    from orchestrator.domain.errors import NotFound

    known = [host.name for host in app.hosts]
    for name in names:
        if name not in known:
            raise NotFound(f'there is no host "{name}"', f"the configuration has: {', '.join(known)}")
    return list(names) or known


@click.group(cls=CommandGroup)
@global_options
def runners() -> None:
    """Show the runners of the configuration."""


@runners.command("list")
@global_options
def list_runners() -> int:
    """Each runner with its image, limits and hosts."""
    from orchestrator.cli.output import Column, print_json, print_table
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.pipeline import FolderImage, NamedImage, eligible_hosts
    from orchestrator.domain.report import format_size

    settings = this()
    with settings.application() as app:
        specs = app.runners
        if settings.json:
            print_json(to_plain(list(specs.values())))
            return PASSED
        rows = []
        for name, spec in specs.items():
            match spec.image:
                case NamedImage(image):
                    what = image
                case FolderImage(folder):
                    what = f"built from {folder}"
                case repository:
                    what = f"the repository's {repository.dockerfile}"
            limits = spec.resources
            parts = [
                f"{limits.cpus:g} cores" if limits.cpus else "",
                format_size(limits.memory) if limits.memory else "",
            ]
            places = ", ".join(h.name for h in eligible_hosts(spec, app.hosts)) or "none fits"
            rows.append((name, what, ", ".join(p for p in parts if p) or "-", spec.network.value, places))
        columns = ("runner", Column("image", fold=True), "limits", "network", "hosts")
        print_table(columns, rows, "the configuration has no runner")
        return PASSED
