"""Short containers of the orchestrator's own on a host: run one, and read what it says."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from orchestrator.domain.errors import ContainerGone, EngineError
from orchestrator.ports.engine import ContainerSpec, ContainerState, Engine, Interrupt
from orchestrator.ports.world import Clock
from orchestrator.services.cleanup import cleaned_up

_SOON = 0.05
_POLL = 1.0
_SAID = 500
"""Bytes of a failed container's output that go into the error."""


def said_by(
    engine: Engine, spec: ContainerSpec, clock: Clock, interrupt: Interrupt, limit: float, most: int
) -> bytes:
    """Run a container to its end and remove it; all that it wrote, line by line.

    Raises EngineError when it does not end with 0, or not within ``limit`` seconds, or says more than
    ``most`` bytes; ContainerGone when somebody removes it, and what ``interrupt`` raises, which ends it.
    """
    engine.remove(spec.name)
    with cleaned_up(partial(engine.remove, spec.name)):
        engine.create(spec)
        engine.start(spec.name)
        pause, deadline = _SOON, clock.monotonic() + limit
        while True:
            found = engine.find(spec.name)
            if found is None:
                raise ContainerGone(f"{spec.name} was removed while it ran")
            if found.state is ContainerState.EXITED and found.exit is not None:
                break
            interrupt()
            if clock.monotonic() > deadline:
                raise EngineError(f"{spec.name} was not done after {limit:.0f} s, and was stopped")
            clock.sleep(pause)
            pause = min(pause * 1.5, _POLL)
        with closing(engine.logs(spec.name, None)) as stream:
            said = bytearray()
            for line in stream:
                said += line.text + b"\n"
                if len(said) > most:
                    raise EngineError(f"{spec.name} says more than {most} bytes, and was not heard out")
        if found.exit.code != 0 or found.exit.error:
            why = found.exit.error or said[-_SAID:].decode(errors="replace")
            raise EngineError(f"{spec.name} ended with {found.exit.code}: {why}")
        return bytes(said[:-1])
