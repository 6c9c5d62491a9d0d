"""Who is told of runs beside people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Hooks(Protocol):
    """The hooks of the configuration. Thread-safe."""

    def call(self, hook: str, key: str, event: str, body: bytes, timeout: float) -> str:
        """Send JSON, signed; what was answered, in a few words.

        ``key`` is the same each time the same is sent again. ``timeout`` bounds all of it, in seconds; 0 for
        the hook's own. Raises ActionUnavailable when another try may help, else ActionRejected; NotFound when
        there is no such hook, SecretMissing when what it needs is not there.
        """


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code, negative the signal's number; None where its time was over.

    ``output`` is the end of what it wrote to both of its outputs, without secrets.
    """

    code: int | None
    output: str


class Programs(Protocol):
    """The programs of the configuration. Thread-safe."""

    def run(self, program: str, body: bytes, variables: Mapping[str, str], timeout: float) -> Ended:
        """Start one with ``body`` on its standard input, and wait for its end.

        ``timeout`` in seconds, 0 for the program's own; then all that it started is killed. ActionRejected
        when it cannot be started, NotFound when there is no such program, SecretMissing.
        """
