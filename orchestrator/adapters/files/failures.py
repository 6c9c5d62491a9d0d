"""The one place where failures of the file system become our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.domain.errors import StoreUnavailable


@contextmanager
def storing(what: str, folder: Path) -> Iterator[None]:
    """Turn what the system says into StoreUnavailable: once there is room or permission, storing goes on."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"cannot store {what} in {folder}: {error.strerror or error}", "check its free space and owner"
        ) from error
