"""Room on disks: how much there is, and how much of it is to stay free."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of the system's errors that mean a full disk."""


@dataclass(frozen=True, slots=True)
class Space:
    """A file system's room in bytes: what ordinary users may still write, and its whole size (0: unknown)."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Reserve:
    """Room to be kept free: a number of bytes, or a share (0 to 1) of the whole. Nothing by default."""

    size: int = 0
    share: float = 0.0

    def of(self, space: Space) -> int:
        """How many bytes that is on one disk."""
        return max(self.size, round(self.share * space.total))

    def holds(self, space: Space) -> bool:
        """Whether as much is free."""
        return space.free >= self.of(space)

    def is_beyond(self, space: Space) -> bool:
        """Whether the whole disk has less, so that nothing that is removed there will do."""
        return 0 < space.total < self.of(space)

    def __str__(self) -> str:
        return f"{self.share * 100:g}%" if self.share else str(self.size)


NO_RESERVE = Reserve()
