"""Copies of checkpoints on our own disk, for tries that go on elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class CheckpointCopy:
    """A copy that is there. ``number`` is the try that it was made of; ``size`` in bytes."""

    number: int
    size: int
    made_at: datetime


class CheckpointFiles(Protocol):
    """The newest copy of each replicate's checkpoint. Thread-safe; raises StoreUnavailable."""

    def keep(
        self,
        run_id: int,
        replicate: int,
        number: int,
        write: Callable[[BinaryIO], object],
        unwanted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Replace the copy by what ``write`` writes; what that raises goes through, and the old one stays.

        So it does when there is one of a newer try by then, or the new one is ``unwanted`` once written.
        """

    def find(self, run_id: int, replicate: int) -> CheckpointCopy | None:
        """The copy, or None."""

    def open(self, run_id: int, replicate: int, copy: CheckpointCopy) -> BinaryIO:
        """Read it. NotFound when it is gone."""

    def runs(self) -> Collection[int]:
        """The runs of which there are copies."""

    def forget(self, run_id: int) -> None:
        """Remove all copies of a run. Repeating is fine."""
