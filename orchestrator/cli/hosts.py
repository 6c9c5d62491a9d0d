"""``orchestrator hosts`` and ``orchestrator runners``: where and in what runs execute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.hostlist import list_hosts
from orchestrator.cli.hostprune import prune
from orchestrator.cli.hostset import add, drain, remove, resume
from orchestrator.cli.hosttrust import trust
from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.cli.hostcheck import PartResult


@click.group(cls=CommandGroup)
@global_options
def hosts() -> None:
    """Show and check the Docker engines that execute runs."""


@hosts.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--image", default=None, metavar="IMAGE", help="The image to try with (else one that is there)."
)
@global_options
def check(names: tuple[str, ...], image: str | None) -> int:
    """Run a real container on each host, as a run would, and time each part of it."""
    from orchestrator.cli.hostcheck import check_host, conclusion
    from orchestrator.cli.hostnames import known_hosts
    from orchestrator.cli.output import Column, print_json, print_table, say
    from orchestrator.domain.host import HostState, standing_of

    settings = this()
    with settings.application() as app:
        wanted = known_hosts(app, names, removed=True)
        checked = {name: check_host(app, name, image) for name in wanted}
        results = [part for parts in checked.values() for part in parts]
        _have_tried_again(app, checked)
        if settings.json:
            print_json([asdict(part) for part in results])
        else:
            rows = [(r.host, r.part, r.result, f"{r.seconds * 1000:.0f} ms", r.told) for r in results]
            columns = ("host", "part", "result", Column("time", right=True), Column("told", fold=True))
            print_table(columns, rows)
            for name, parts in checked.items():
                click.echo(conclusion(name, parts))
        for record in map(app.fleet.record, wanted):
            if record.state is not HostState.ACTIVE:
                back = f"it takes no runs until `orchestrator hosts resume {record.name}`"
                say(f"host {record.name} {standing_of(record)}; {back}")
        return UNKNOWN if any(r.result == "fail" for r in results) else PASSED


def _have_tried_again(app: Application, checked: Mapping[str, Sequence[PartResult]]) -> None:
    """Let a server that did not reach a host see at once that it can be reached."""
    good = {name for name, parts in checked.items() if all(part.result != "fail" for part in parts)}
    if any(host.ssh is not None and host.name in good for host in app.fleet.known):
        app.links.again()


for _command in (list_hosts, add, drain, resume, remove, trust, prune):
    hosts.add_command(_command)


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
    from orchestrator.domain.gpu import wished
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
                wished(limits) if limits.gpus else "",
            ]
            places = ", ".join(h.name for h in eligible_hosts(spec, app.hosts)) or "none fits"
            rows.append((name, what, ", ".join(p for p in parts if p) or "-", spec.network.value, places))
        columns = ("runner", Column("image", fold=True), Column("limits", fold=True), "network", "hosts")
        print_table(columns, rows, "the configuration has no runner")
        return PASSED
