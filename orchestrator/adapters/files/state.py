"""The state folder as a whole: whose it is, and who may tidy it up."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orchestrator.adapters.files.failures import storing

MAINTENANCE_LOCK: Final = "maintenance.lock"
"""Held shared by whoever copies the state folder, alone by whoever removes from it."""
_INSTANCE: Final = "instance"


class LocalState:
    """A StateFolder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Hold the maintenance lock; False at once when somebody else does. A kill gives it back."""
        with storing("a lock", self._folder):
            path = self._folder / MAINTENANCE_LOCK
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def belongs_to(self, instance: str) -> bool:
        """Whether the files here are those of this database.

        A folder that nobody claimed is claimed. One that another database's retention has worked in holds
        files that this one knows nothing of.
        """
        with storing("whose the files are", self._folder):
            path = self._folder / _INSTANCE
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                return path.read_text(encoding="utf-8").strip() in (instance, "")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{instance}\n")
        return True
