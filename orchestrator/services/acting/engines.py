"""What actions that use engines have in common: errors, and the end of what a container said."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from orchestrator.domain.errors import (
    ActionRejected,
    ActionUnavailable,
    ContainerGone,
    EngineError,
    EngineFull,
    EngineUnavailable,
    HostRefused,
    RegistryUnavailable,
)
from orchestrator.observe import Masker
from orchestrator.ports.engine import Engine

MOST_OUTPUT: Final = 64 << 10
"""Characters that are kept of the end of an output."""


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn an engine's errors into those of an action."""
    try:
        yield
    except HostRefused as error:
        raise ActionRejected(f"{what}: {error.message}", error.remedy) from error
    except (EngineUnavailable, EngineFull, RegistryUnavailable, ContainerGone) as error:
        raise ActionUnavailable(f"{what}: {error.message}", error.remedy) from error
    except EngineError as error:
        raise ActionRejected(f"{what}: {error.message}", error.remedy) from error


def said(engine: Engine, name: str, masker: Masker) -> str:
    """The end of what a container that has ended has printed, secrets masked."""
    lines: deque[bytes] = deque()
    size = 0
    with closing(engine.logs(name, None)) as stream:
        for line in stream:
            text = masker.mask_bytes(line.text)
            lines.append(text)
            size += len(text) + 1
            while size > MOST_OUTPUT and lines:
                size -= len(lines.popleft()) + 1
    return b"\n".join(lines).decode(errors="replace")
