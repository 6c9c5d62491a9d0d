"""Which time of a schedule is due: each makes one run, and those that were missed make one together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

MOST_COUNTED: Final = 1000
"""So many missed times are counted; a server that was down for a year does not count minutes."""
_RECENT: Final = timedelta(days=2)

TimesAfter: TypeAlias = Callable[[datetime], Iterable[datetime]]
"""The times of a schedule after a moment, in order."""


@dataclass(frozen=True, slots=True)
class Due:
    """The newest time that has come, and how many came before it that nobody served."""

    at: datetime
    missed: int = 0

    @property
    def note(self) -> str:
        """For people."""
        told = f"due at {self.at:%Y-%m-%d %H:%M} UTC by its schedule"
        if not self.missed:
            return told
        number = f"{MOST_COUNTED} or more" if self.missed >= MOST_COUNTED else str(self.missed)
        return f"{told}; it stands also for {number} before that nobody served"


def due(times: TimesAfter, served: datetime, now: datetime) -> Due | None:
    """The newest time after ``served`` that has come by ``now``; None: none has."""
    newest: datetime | None = None
    count = 0
    for time in times(served):
        if time > now:
            break
        newest = time
        count += 1
        if count > MOST_COUNTED:
            newest = max((t for t in _until(times(now - _RECENT), now)), default=newest)
            break
    return None if newest is None else Due(newest, min(count - 1, MOST_COUNTED))


def _until(times: Iterable[datetime], now: datetime) -> Iterable[datetime]:
    for time in times:
        if time > now:
            return
        yield time
