"""The folder in which checkouts and archives lie while they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.domain.errors import DiskFull, StoreUnavailable
from orchestrator.domain.space import NO_ROOM


@contextmanager
def using(folder: Path) -> Iterator[None]:
    """Turn what the system says of our own folder into DiskFull, or else StoreUnavailable."""
    try:
        yield
    except OSError as error:
        said = f"cannot work in {folder}: {error.strerror or error}"
        if error.errno in NO_ROOM:
            raise DiskFull(said, "free space on the disk of storage.path in orchestrator.yaml") from error
        raise StoreUnavailable(said, "check its owner and permissions") from error
