"""The times of schedules."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from orchestrator.domain.pipeline import Schedule


class Timetable(Protocol):
    """What the clocks of a zone say."""

    def times(self, schedule: Schedule, after: datetime) -> Iterator[datetime]:
        """The times of a schedule that come later than ``after``, earliest first, aware and in UTC.

        Where clocks are put forward, a time that they leap over comes right after the leap; where they are
        put back, a time that they show twice comes once. What is to come every so many minutes or hours
        comes as often as the day has them. InvalidInput when the schedule or its zone is none.
        """

    def words(self, schedule: Schedule) -> str:
        """The same for people, such as ``At 03:00 on Monday``."""
