"""Schedules by cronsim, which reads cron as Debian's does, also where clocks change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.pipeline import Schedule


class CronTimetable:
    """Implements ``ports.timetable.Timetable``."""

    def times(self, schedule: Schedule, after: datetime) -> Iterator[datetime]:
        with _read(schedule):
            found = CronSim(schedule.cron, after.astimezone(ZoneInfo(schedule.zone)))
        last = after
        for time in found:
            moment = time.astimezone(UTC)
            # A leap of the clocks can bring two times of a schedule to one moment.
            if moment > last:
                last = moment
                yield moment

    def words(self, schedule: Schedule) -> str:
        with _read(schedule):
            told = CronSim(schedule.cron, datetime(2026, 1, 1, tzinfo=UTC)).explain()
        return told if schedule.zone == "UTC" else f"{told} ({schedule.zone})"


@contextmanager
def _read(schedule: Schedule) -> Iterator[None]:
    try:
        yield
    except CronSimError as error:
        raise InvalidInput(f'"{schedule.cron}" is not a schedule: {error}', "five fields of cron") from error
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidInput(
            f'there is no time zone "{schedule.zone}" on this machine', "a name of the IANA's database"
        ) from error
