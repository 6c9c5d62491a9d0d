"""``orchestrator hosts add``, ``drain``, ``resume`` and ``remove``: which hosts runs go to, while they go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from orchestrator.cli.settings import PASSED, global_options, this, who

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.bootstrap import Application
    from orchestrator.config.yaml_loader import Plain
    from orchestrator.domain.host import HostRecord, HostState
    from orchestrator.domain.pipeline import HostSpec, SshSpec

_LOOK = 1.0
_REASON = click.option(
    "--reason", default="", metavar="TEXT", help="Why, for those who ask what runs wait for."
)


@click.command("add")
@click.argument("name")
@click.option("--ssh", metavar="[USER@]HOST[:PORT]", help="The machine, reached over SSH.")
@click.option("--engine", metavar="unix://PATH", help="The engine's socket, on this machine.")
@click.option("--identity-file", metavar="FILE", help="Private key to log in with.")
@click.option("--proxy-jump", metavar="[USER@]HOST[:PORT]", help="Machines to go through, with commas.")
@click.option("--slots", metavar="N", help="How many attempts it executes at the same time [1].")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="By which runners choose it; may be repeated.",
)
@click.option(
    "--set",
    "more",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other key of a host in orchestrator.yaml, such as protect=private; may be repeated.",
)
@_REASON
@global_options
def add(
    name: str,
    ssh: str | None,
    engine: str | None,
    identity_file: str | None,
    proxy_jump: str | None,
    slots: str | None,
    labels: tuple[str, ...],
    more: tuple[str, ...],
    reason: str,
) -> int:
    """Add a host without touching orchestrator.yaml; runs that wait go there within seconds.

    Its definition is kept in the database. A host of orchestrator.yaml of the same name counts more. Adding
    it again replaces its definition.
    """
    from orchestrator.bootstrap.hostsfile import host_from
    from orchestrator.cli.output import print_json, say
    from orchestrator.domain.codec import to_plain

    settings = this()
    with settings.application() as app:
        keys = _keys(ssh, engine, identity_file, proxy_jump, slots, labels, more)
        spec = host_from(name, keys, app.config.base, app.config.orchestrator.storage.path)
        _require_free_to_add(app, spec)
        former = name in {host.name for host in app.fleet.known}
        app.store.hosts.add(spec, who(), reason, app.clock.now())
        if settings.json:
            print_json(to_plain(spec))
        done = "replaced" if former else "added"
        say(f"host {name} was {done}: {spec.engine}, {spec.slots} slot{'s' if spec.slots > 1 else ''}")
        if spec.ssh is not None:
            app.links.again()
            _tell_of_passphrase(spec.ssh)
            say(f"trust its key:  orchestrator hosts trust {name}")
        say(f"then look at it:  orchestrator hosts check {name}")
        return PASSED


def _tell_of_passphrase(way: SshSpec) -> None:
    from pathlib import Path

    from orchestrator.cli.output import say
    from orchestrator.config.private_keys import has_passphrase, passphrase_remedy, passphrase_told

    if way.identity_file is not None and has_passphrase(key := Path(way.identity_file)):
        say(f"warning: {passphrase_told(key)}; take {passphrase_remedy(key)}")


def _keys(
    ssh: str | None,
    engine: str | None,
    identity_file: str | None,
    proxy_jump: str | None,
    slots: str | None,
    labels: tuple[str, ...],
    more: tuple[str, ...],
) -> dict[str, Plain]:
    """The keys as orchestrator.yaml would have them. Raises InvalidInput."""
    from orchestrator.config.yaml_loader import read
    from orchestrator.domain.errors import InvalidInput

    if (ssh is None) == (engine is None):
        raise InvalidInput("the host has no address, or two", "either --ssh or --engine")
    keys: dict[str, Plain] = {}
    for key, value in map(_pair, more):
        document, problems = read(f"value: {value}".encode(), "--set")
        if document is None or problems or not isinstance(document.data, dict):
            raise InvalidInput(
                f"--set {key}: {value} is no YAML", "--set KEY=VALUE, the value as YAML has it"
            )
        keys[key] = document.data["value"]
    if engine is not None:
        keys["engine"] = engine
    if slots is not None:
        keys["slots"] = int(slots) if slots.isdigit() else slots
    if labels:
        keys["labels"] = dict(map(_pair, labels))
    if ssh is not None:
        keys["ssh"] = _way(ssh, identity_file, proxy_jump)
    elif identity_file or proxy_jump:
        raise InvalidInput("an engine on this machine needs no key and no jump", "--ssh in place of --engine")
    return keys


def _way(ssh: str, identity_file: str | None, proxy_jump: str | None) -> dict[str, Plain]:
    from pathlib import Path

    user, _, place = ssh.removeprefix("ssh://").rpartition("@")
    hostname, _, port = place.partition(":") if place.count(":") == 1 else (place.strip("[]"), "", "")
    way: dict[str, Plain] = {"hostname": hostname}
    if user:
        way["user"] = user
    if port:
        way["port"] = int(port) if port.isdigit() else port
    if identity_file is not None:
        way["identity_file"] = str(_file(Path(identity_file).expanduser().absolute()))
    if proxy_jump is not None:
        way["proxy_jump"] = proxy_jump
    return way


def _file(path: Path) -> Path:
    from orchestrator.domain.errors import InvalidInput

    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise InvalidInput(f"{path} {what}", "a private key; relative paths count from the current folder")
    return path


def _pair(text: str) -> tuple[str, str]:
    from orchestrator.domain.errors import InvalidInput

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidInput(f'"{text}" is not KEY=VALUE', "such as gpu=h100")
    return key, value


def _require_free_to_add(app: Application, spec: HostSpec) -> None:
    from orchestrator.domain.errors import InvalidInput

    name = spec.name
    if name in {host.name for host in app.fleet.configured}:
        raise InvalidInput(f"orchestrator.yaml has a host {name}, which counts more", "change it there")
    former = next((host for host in app.fleet.known if host.name == name), None)
    moved = former is not None and (former.engine, former.ssh) != (spec.engine, spec.ssh)
    if moved and name in app.store.attempts.slots_in_use():
        raise InvalidInput(
            f"attempts are on {name} at its former address, and would not be found at the new one",
            f"`orchestrator hosts drain {name} --wait` first, or another name",
        )


@click.command("drain")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_REASON
@click.option("--wait", is_flag=True, help="Stay until nothing runs there any more.")
@global_options
def drain(names: tuple[str, ...], reason: str, wait: bool) -> int:
    """Give hosts no new attempts; those that are there go on to their end.

    Runs that only they can execute wait, and say so. It holds until `hosts resume`, also over restarts.
    """
    from orchestrator.domain.host import HostState

    return _set(names, HostState.DRAINING, reason, wait)


@click.command("resume")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_REASON
@global_options
def resume(names: tuple[str, ...], reason: str) -> int:
    """Give hosts attempts again that were drained or removed."""
    from orchestrator.domain.host import HostState

    return _set(names, HostState.ACTIVE, reason, wait=False)


@click.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_REASON
@click.option("--wait", is_flag=True, help="Stay until nothing runs there any more.")
@global_options
def remove(names: tuple[str, ...], reason: str, wait: bool) -> int:
    """Use hosts no longer. Attempts that are there go on to their end; runs that only they fit fail to start.

    One that was added by command is forgotten then. One of orchestrator.yaml is not used until `hosts
    resume`, or until it is taken out of the file.
    """
    from orchestrator.domain.host import HostState

    return _set(names, HostState.REMOVED, reason, wait)


def _set(names: tuple[str, ...], state: HostState, reason: str, wait: bool) -> int:
    from orchestrator.cli.output import print_json, say
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.errors import NotFound
    from orchestrator.domain.host import HostState

    settings = this()
    with settings.application() as app:
        known = {host.name for host in app.fleet.known}
        for name in names:
            if name not in known:
                raise NotFound(f'there is no host "{name}"', f"there are: {', '.join(sorted(known))}")
        records = [app.store.hosts.set_state(name, state, who(), reason, app.clock.now()) for name in names]
        app.fleet.refresh()
        if state is HostState.ACTIVE:
            app.links.again()
        for record in records:
            say(_told(app, record))
        if wait:
            _stay_until_empty(app, names)
        if not app.live_servers():
            app.fleet.tidy()
        if settings.json:
            print_json([to_plain(record) for record in records])
        return PASSED


def _told(app: Application, record: HostRecord) -> str:
    from orchestrator.cli.output import count
    from orchestrator.domain.host import HostState

    busy = app.store.attempts.slots_in_use().get(record.name, 0)
    there = f"; {count(busy, 'attempt')} there go{'es' if busy == 1 else ''} on" if busy else ""
    match record.state:
        case HostState.ACTIVE:
            return f"host {record.name} takes attempts"
        case HostState.DRAINING:
            return f"host {record.name} takes no new attempts{there}"
        case HostState.REMOVED:
            return f"host {record.name} is used no longer{there}"


def _stay_until_empty(app: Application, names: tuple[str, ...]) -> None:
    """Wait until no attempt is on any of the hosts. Somebody else has to bring them to their end."""
    from orchestrator.cli.output import say

    told = ""
    while busy := {n: c for n, c in app.store.attempts.slots_in_use().items() if n in names}:
        now = ", ".join(f"{count} on {name}" for name, count in sorted(busy.items()))
        if now != told:
            say(f"waits for attempts: {now}")
            told = now
        time.sleep(_LOOK)
