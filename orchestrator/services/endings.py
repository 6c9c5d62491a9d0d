"""Attempts that end without an exit of their container: what adapters raise becomes a reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.domain.errors import (
    ContainerGone,
    DatasetMoved,
    DatasetUnavailable,
    DiskFull,
    EngineError,
    EngineFull,
    EngineUnavailable,
    GpuUnavailable,
    ImageNotFound,
    ImageRejected,
    LeaseLost,
    NotFound,
    OrchestratorError,
    RegistryDenied,
    RegistryUnavailable,
    RevisionGone,
    SecretMissing,
    SourceError,
    StoreUnavailable,
)
from orchestrator.domain.run import Reason
from orchestrator.services.images import SetupFailed


class Ended(Exception):
    """The attempt is over, and no exit of a container says how."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@contextmanager
def told_apart(*passed_on: type[OrchestratorError]) -> Iterator[None]:
    """Turn what adapters raise while an attempt is made ready or collected into the reason it ends with."""
    unchanged: tuple[type[OrchestratorError], ...] = (LeaseLost, StoreUnavailable, *passed_on)
    try:
        yield
    except unchanged:
        raise
    except SetupFailed as error:
        raise Ended(Reason.SETUP, f"{error.message}\n{error.log}".strip()) from error
    except ImageRejected as error:
        raise Ended(Reason.IMAGE_BUILD, f"{error}\n{error.log}".strip()) from error
    except OrchestratorError as error:
        raise Ended(_REASONS[_nearest(type(error))], str(error)) from error


_REASONS: dict[type[OrchestratorError], Reason] = {
    ImageNotFound: Reason.IMAGE_NOT_FOUND,
    RegistryDenied: Reason.REGISTRY_DENIED,
    RegistryUnavailable: Reason.REGISTRY_UNAVAILABLE,
    EngineUnavailable: Reason.ENGINE_UNAVAILABLE,
    EngineFull: Reason.DISK_FULL,
    DiskFull: Reason.DISK_FULL,
    GpuUnavailable: Reason.GPU_UNAVAILABLE,
    ContainerGone: Reason.LOST,
    EngineError: Reason.ENGINE_REFUSED,
    RevisionGone: Reason.REVISION_GONE,
    SourceError: Reason.SOURCE_UNAVAILABLE,
    DatasetMoved: Reason.DATA_MOVED,
    DatasetUnavailable: Reason.DATA_UNAVAILABLE,
    SecretMissing: Reason.SECRET_MISSING,
    NotFound: Reason.INTERNAL,
    OrchestratorError: Reason.INTERNAL,
}


def _nearest(kind: type[OrchestratorError]) -> type[OrchestratorError]:
    return next(base for base in kind.__mro__ if base in _REASONS)
