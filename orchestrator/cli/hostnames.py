"""The hosts that a command is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application


def known_hosts(app: Application, names: Sequence[str]) -> list[str]:
    """The hosts that were named, or all of them. Raises NotFound."""
    from orchestrator.domain.errors import NotFound

    known = [host.name for host in app.hosts]
    for name in names:
        if name not in known:
            raise NotFound(f'there is no host "{name}"', f"the configuration has: {', '.join(known)}")
    return list(names) or known
