"""The ways to hosts on other machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from orchestrator.domain.pipeline import HostSpec


class LinkState(StrEnum):
    """How it stands with the way to a host."""

    IDLE = "idle"
    """Nobody needed it yet."""
    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"
    """The last try failed; more tries follow, ever more rarely."""
    REFUSED = "refused"
    """Host key or login: tried again now and then, but a person has to act."""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """A way's state since when, and why it is not up, with what to do about it."""

    state: LinkState
    since: datetime
    told: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command on a host ended, and what it wrote."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class HostKey:
    """The key that a machine on the way shows now.

    ``name`` is what known_hosts calls the machine; ``known`` are the fingerprints trusted so far.
    """

    name: str
    kind: str
    blob: str
    fingerprint: str
    known: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether it is one of those."""
        return self.fingerprint in self.known


class Links(Protocol):
    """SSH connections to hosts, one for each, which are kept up once they were needed. Thread-safe.

    Engines of such hosts use them by themselves; a connection that breaks is made anew.
    """

    def status(self, host: str) -> LinkStatus | None:
        """How it stands with a host's link; None for a host that was never connected to over SSH."""

    def run(self, host: HostSpec, command: Sequence[str], timeout: float = 30.0) -> Answer:
        """Run a command on a host over a login of its own; ``timeout`` in seconds.

        Raises EngineUnavailable when it cannot be run or does not end in time, HostRefused for the key or the
        login.
        """

    def keys(self, host: HostSpec) -> Iterator[HostKey]:
        """The keys of the machines on the way to a host, itself last, before anything else is sent to them.

        Each machine is asked when it is its turn, over those before it, which have to be trusted by then.
        Raises as :meth:`run`.
        """

    def trust(self, host: HostSpec, key: HostKey) -> None:
        """Trust a key from now on, and no other one of that machine."""

    def again(self) -> None:
        """Have this and all other processes of the installation try at once what they do not reach."""

    def forget(self, host: str) -> None:
        """End the connection to a host that is not needed any more. Repeating is fine."""

    def close(self) -> None:
        """End all connections."""
