"""What the database knows of hosts beyond the configuration. As all of it: see ``ports/store.py``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from orchestrator.domain.host import HostRecord, HostState
from orchestrator.domain.pipeline import HostSpec


class Hosts(Protocol):
    """Which hosts people added, drained or removed, and which of all do not answer.

    Nothing is known of most hosts: these are active and answer. Every change has its line in the journal.
    """

    def all(self) -> Mapping[str, HostRecord]:
        """All hosts of which something is known, by name."""

    def get(self, name: str) -> HostRecord:
        """One of them; of one that nothing is known of, an active one that answers."""

    def add(self, spec: HostSpec, who: str, reason: str, at: datetime) -> HostRecord:
        """Keep a host's definition, or replace it, and make it active unless it is being drained."""

    def set_state(self, name: str, state: HostState, who: str, reason: str, at: datetime) -> HostRecord:
        """What people want of a host from now on. Repeating it changes nothing."""

    def take_back(self, name: str, who: str, reason: str, at: datetime) -> HostRecord:
        """Undo a host's removal: it is being drained if it was then, and active if not."""

    def keep_definition(self, spec: HostSpec, who: str, reason: str, at: datetime) -> HostRecord:
        """Keep the definition of a host that is no longer in the configuration, as REMOVED, while attempts
        are there.
        """

    def forget(self, name: str, at: datetime) -> None:
        """Nothing is known of it any more. Repeating is fine."""

    def silent(self, name: str, since: datetime, trouble: str, at: datetime) -> bool:
        """It does not answer, and why. The first ``since`` stays. False when that was known already."""

    def answered(self, name: str, at: datetime) -> bool:
        """It answers. False when that was known already."""

    def booted(self, name: str, boot_id: str, at: datetime) -> str:
        """Write down the id of its kernel's start; the one before, or empty."""
