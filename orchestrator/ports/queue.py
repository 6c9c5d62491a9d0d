"""What waits, and what hosts are taken by. As all of the database: see ``ports/store.py``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from orchestrator.domain.placement import Going


class Waiting(NamedTuple):
    """An attempt that may be claimed."""

    attempt_id: int
    run_id: int
    begun: bool
    """Whether its run has begun."""


@dataclass(frozen=True, slots=True)
class WaitingAttempt:
    """What of an attempt decides when and where it goes, and never changes."""

    attempt_id: int
    run_id: int
    replicate: int
    number: int
    created_at: datetime
    pipeline: str
    run_number: int
    project: str
    priority: int
    host_wish: str | None


@dataclass(frozen=True, slots=True)
class Taken:
    """A slot of a host, and what its attempt takes beside it where that is counted."""

    host: str
    pipeline: str
    cpus: float | None
    memory: int | None
    run: str = ""
    """The title of its attempt's run, such as ``wine#12``."""


class Queue(Protocol):
    """Looks only; attempts are claimed by ``Attempts.claim``."""

    def waiting(self, at: datetime) -> Sequence[Waiting]:
        """Attempts that may be claimed now, oldest first. Cheap, for it is asked at every turn."""

    def describe(self, attempt_ids: Sequence[int]) -> Sequence[WaitingAttempt]:
        """More of some of them. One that there is no more is left out."""

    def taken(self) -> Sequence[Taken]:
        """All slots that attempts have."""

    def going(self) -> Sequence[Going]:
        """Runs whose attempts are under way, oldest first."""

    def holding(self, fingerprints: Collection[str]) -> Mapping[str, frozenset[str]]:
        """By fingerprint, the hosts that have that version of a dataset. One that none has is left out."""
