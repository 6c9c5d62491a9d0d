"""``orchestrator hosts trust``: which key a host may show, decided by a person."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

import click

from orchestrator.cli.settings import PASSED, REJECTED, global_options, this, who

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.domain.pipeline import HostSpec
    from orchestrator.ports.links import HostKey


_FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


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
    """Show the host keys of machines that are reached over SSH, and trust them once you agree.

    Machines to jump over come first. Nothing but the greeting is sent to a machine before its key is trusted.
    """
    from orchestrator.cli.hostnames import known_hosts
    from orchestrator.cli.output import print_json, say

    require_fingerprints(expected)
    settings = this()
    with settings.application() as app:
        by_name = {host.name: host for host in app.hosts}
        shown: list[Json] = []
        agreed = True
        for name in known_hosts(app, names):
            if by_name[name].ssh is None:
                say(f"{name} is on this machine: there is no key to trust")
            else:
                agreed &= trust_on_the_way(app, by_name[name], expected, shown, "host", name)
        if settings.json:
            print_json(shown)
        return PASSED if agreed else REJECTED


def require_fingerprints(given: tuple[str, ...]) -> None:
    """InvalidInput for what is none."""
    from orchestrator.domain.errors import InvalidInput

    for text in given:
        if not _FINGERPRINT.fullmatch(text):
            told = f'"{text}" is no fingerprint: that is SHA256: and 43 characters'
            raise InvalidInput(told, "take it as `ssh-keygen -lf` on that machine shows it")


def trust_on_the_way(
    app: Application, host: HostSpec, expected: tuple[str, ...], shown: list[Json], what: str, name: str
) -> bool:
    """Whether all keys on the way to a host are trusted now; for people it is ``what`` it is of that name."""
    from orchestrator.cli.output import say

    for key in app.links.keys(host):
        if not key.trusted:
            if not _agreed(name, key, expected):
                return False
            app.links.trust(host, key)
            told = f"trusts {key.name} with {key.fingerprint}" + _instead(key)
            app.store.journal.note(who(), f"{what} {name}", told, app.clock.now())
        say(f"{name}: {key.name} is trusted with {key.fingerprint}")
        shown.append(
            {
                what: name,
                "machine": key.name,
                "kind": key.kind,
                "fingerprint": key.fingerprint,
                "new": not key.trusted,
            }
        )
    return True


def _agreed(host: str, key: HostKey, expected: tuple[str, ...]) -> bool:
    from orchestrator.cli.output import say
    from orchestrator.domain.errors import InvalidInput

    say(f"{host}: {key.name} shows the {key.kind} key {key.fingerprint}{_instead(key)}")
    if key.known:
        say("  This is not the key trusted so far. Ask the machine's administrator whether it was changed!")
    if expected:
        if key.fingerprint not in expected:
            say("  It has not the fingerprint that was given, and is not trusted.")
        return key.fingerprint in expected
    say("  Compare it with what the machine says itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    if not sys.stdin.isatty():
        # Not the fingerprint that was just shown: who copies that has compared nothing.
        raise InvalidInput(
            "nobody can be asked here whether to trust it",
            "--fingerprint with what the machine's administrator reads out",
        )
    click.confirm("Trust it?", abort=True, err=True)
    return True


def _instead(key: HostKey) -> str:
    return f", not {', '.join(key.known)}" if key.known else ""
