"""The hosts that a command is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application


def known_hosts(app: Application, names: Sequence[str], *, removed: bool = False) -> list[str]:
    """The hosts that were named, or all that are used. Raises NotFound.

    ``removed``: those that were removed can be named as well.
    """
    there = {host.name for host in app.fleet.known}
    for name in names:
        if not (removed and name in there):
            require_host(app, name)
    return list(names) or [host.name for host in app.hosts]


def require_host(app: Application, name: str) -> None:
    """Raise NotFound, which says what became of it, unless a host of that name is used."""
    from orchestrator.domain.errors import NotFound
    from orchestrator.domain.host import standing_of

    used = [host.name for host in app.hosts]
    if name in used:
        return
    if name in {host.name for host in app.fleet.known}:
        raise NotFound(
            f"host {name} {standing_of(app.fleet.record(name))}",
            f"`orchestrator hosts resume {name}` takes it back",
        )
    raise NotFound(f'there is no host "{name}"', f"there are: {', '.join(used) or 'none'}")
