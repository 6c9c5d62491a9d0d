"""The state folder as a whole: whose it is, and who may tidy it up."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from orchestrator.adapters.files.failures import storing
from orchestrator.adapters.files.maintenance import Maintenance

INSTANCE: Final = "instance"
"""The file that names whose files a state folder holds."""


class LocalState:
    """A StateFolder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def alone(self) -> AbstractContextManager[bool]:
        """Keep others from copying and removing what is stored; False at once when somebody does."""
        return Maintenance(self._folder).removing()

    def belongs_to(self, instance: str, *, claim: bool) -> bool:
        """Whether the files here are those of this database, or nobody's; these it gets with ``claim``.

        A folder that another database's retention has worked in holds files that this one knows nothing of.
        """
        path = self._folder / INSTANCE
        with storing("whose the files are", self._folder):
            if claim:
                with suppress(FileExistsError):
                    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                        file.write(f"{instance}\n")
            try:
                return path.read_text(encoding="utf-8").strip() in (instance, "")
            except FileNotFoundError:
                return True
