"""What is known of a host beyond its definition: whether it takes attempts, and whether it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from orchestrator.domain.pipeline import HostSpec

NOWHERE: Final = "(none)"
"""What an attempt that no host can execute has in place of a host's name."""


class HostState(StrEnum):
    """What people want of a host."""

    ACTIVE = "active"
    """It takes attempts."""
    DRAINING = "draining"
    """Its attempts go on; it takes no new ones."""
    REMOVED = "removed"
    """As draining, and it is forgotten once its attempts have ended."""


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What the database knows of a host. One that it knows nothing of is active and answers."""

    name: str
    state: HostState = HostState.ACTIVE
    changed_at: datetime | None = None
    changed_by: str = ""
    reason: str = ""
    definition: HostSpec | None = None
    """Of a host that was added by command. Where the configuration has one of that name, that counts."""
    unreachable_since: datetime | None = None
    """When it stopped answering; None: it answers, as far as is known."""
    trouble: str = ""
    """What keeps it from being used, with what to do about it."""
    boot_id: str = ""
    """What its kernel called its last known start; empty: never asked."""


def standing_of(record: HostRecord) -> str:
    """What people want of a host, and why, after its name: ``is being drained by ann: a new disk``."""
    match record.state:
        case HostState.ACTIVE:
            what = "was resumed"
        case HostState.DRAINING:
            what = "is being drained"
        case HostState.REMOVED:
            what = "was removed"
    who = f" by {record.changed_by}" if record.changed_by else ""
    return f"{what}{who}" + (f": {record.reason}" if record.reason else "")
