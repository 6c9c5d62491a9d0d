"""The one place where failures of the file system become our errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.space import NO_ROOM
from orchestrator.ports.retention import FileFacts


@contextmanager
def storing(what: str, folder: Path) -> Iterator[None]:
    """Turn what the system says into StoreUnavailable: once there is room or permission, storing goes on."""
    try:
        yield
    except OSError as error:
        remedy = "free space on its disk" if error.errno in NO_ROOM else "check its owner and permissions"
        raise StoreUnavailable(
            f"cannot store {what} in {folder}: {error.strerror or error}", remedy
        ) from error


def facts_of(folder: Path, name: re.Pattern[str], suffix: str = "") -> list[FileFacts]:
    """The plain files of a folder whose name, less ``suffix``, is as said. Empty when there is no folder."""
    found = []
    with storing("what lies there", folder):
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            return []
        with entries:
            for entry in entries:
                bare = entry.name.removesuffix(suffix)
                if not entry.name.endswith(suffix) or not name.fullmatch(bare):
                    continue
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.append(FileFacts(bare, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC)))
    return found
