"""``orchestrator sources trust``: which key a Git server may show, decided by a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.hosttrust import require_fingerprints, trust_on_the_way
from orchestrator.cli.settings import PASSED, REJECTED, global_options, this

if TYPE_CHECKING:
    from orchestrator.cli.output import Json


@click.command("trust")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--fingerprint",
    "expected",
    multiple=True,
    metavar="SHA256:…",
    help="Trust a key with this fingerprint without asking, and no other; may be repeated.",
)
@global_options
def trust(names: tuple[str, ...], expected: tuple[str, ...]) -> int:
    """Show the host keys of the Git servers of sources over SSH, and trust them once you agree.

    Nothing but the greeting is sent to a server before its key is trusted.
    """
    from orchestrator.cli.output import print_json, say
    from orchestrator.cli.sources import found_watches

    require_fingerprints(expected)
    settings = this()
    with settings.application() as app:
        shown: list[Json] = []
        agreed = True
        asked: set[str] = set()
        for watch in found_watches(app, names):
            way = app.way_to(watch.source) if watch.source is not None else None
            if watch.source is None or way is None:
                say(f"{watch.name} is not reached over SSH: there is no key to trust")
            elif str(way.ssh) not in asked:
                asked.add(str(way.ssh))
                agreed &= trust_on_the_way(app, way, expected, shown, "source", watch.source.name)
        if settings.json:
            print_json(shown)
        return PASSED if agreed else REJECTED
