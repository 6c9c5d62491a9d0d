"""The file systems of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.domain.space import Space


class LocalDisk:
    """A Disk that asks the system."""

    def space(self, path: Path) -> Space | None:
        """The room where ``path`` lies, without what is kept for root; None when it is not there."""
        try:
            found = os.statvfs(path)
        except OSError:
            return None
        return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
