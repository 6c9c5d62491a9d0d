"""``orchestrator sources trust``: which key a Git server may show, decided by a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.hosttrust import require_fingerprints, trust_on_the_way
from orchestrator.cli.settings import PASSED, REJECTED, global_options, this

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.domain.pipeline import SourceSpec


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

    require_fingerprints(expected)
    settings = this()
    with settings.application() as app:
        shown: list[Json] = []
        agreed = True
        asked: set[str] = set()
        for source in _named(app, names):
            way = app.way_to(source)
            if way is None:
                say(f"{source.name} is not reached over SSH: there is no key to trust")
            elif str(way.ssh) not in asked:
                asked.add(str(way.ssh))
                agreed &= trust_on_the_way(app, way, expected, shown, "source", source.name)
        if settings.json:
            print_json(shown)
        return PASSED if agreed else REJECTED


def _named(app: Application, names: Sequence[str]) -> list[SourceSpec]:
    """The sources of these names. Raises NotFound."""
    from orchestrator.domain.errors import NotFound

    sources = app.configured_sources
    known = sorted({source.name for source in sources})
    for name in names:
        if name not in known:
            raise NotFound(f'there is no source "{name}"', f"there are: {', '.join(known) or 'none'}")
    return [source for source in sources if source.name in names]
