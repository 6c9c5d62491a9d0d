"""What waits, and what hosts are taken by. As all of the database: see ``ports/store.py``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestrator.domain.placement import Going


@dataclass(frozen=True, slots=True)
class WaitingAttempt:
    """An attempt that may be claimed, with what decides when."""

    attempt_id: int
    run_id: int
    replicate: int
    number: int
    created_at: datetime
    pipeline: str
    run_number: int
    project: str
    priority: int
    begun: bool
    """Whether its run has begun."""
    host_wish: str | None


@dataclass(frozen=True, slots=True)
class Taken:
    """A slot of a host, and what its attempt takes beside it where that is counted."""

    host: str
    pipeline: str
    cpus: float | None
    memory: int | None


class Queue(Protocol):
    """Looks only; attempts are claimed by ``Attempts.claim``."""

    def waiting(self, at: datetime) -> Sequence[WaitingAttempt]:
        """Attempts that may be claimed now."""

    def taken(self) -> Sequence[Taken]:
        """All slots that attempts have."""

    def going(self) -> Sequence[Going]:
        """Runs whose attempts are under way, oldest first."""

    def holding(self, fingerprints: Collection[str]) -> Mapping[str, frozenset[str]]:
        """By fingerprint, the hosts that have that version of a dataset. One that none has is left out."""
