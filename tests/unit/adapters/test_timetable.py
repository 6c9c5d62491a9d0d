"""Times of schedules where clocks are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from orchestrator.adapters.timetable import CronTimetable
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.pipeline import Schedule

TABLE = CronTimetable()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(cron: str, zone: str, after: str, count: int) -> list[str]:
    found = islice(TABLE.times(Schedule(cron, zone), at(after)), count)
    return [f"{time:%m-%d %H:%M}" for time in found]


def test_a_time_of_a_zone_moves_with_its_clocks() -> None:
    assert times("0 3 * * *", "Europe/Berlin", "2026-03-27", 3) == [
        "03-27 02:00",
        "03-28 02:00",
        "03-29 01:00",
    ]


def test_a_time_that_clocks_leap_over_comes_right_after_the_leap() -> None:
    assert times("30 2 * * *", "Europe/Berlin", "2026-03-28", 3) == [
        "03-28 01:30",
        "03-29 01:00",
        "03-30 00:30",
    ]


def test_a_time_that_clocks_show_twice_comes_once() -> None:
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-24", 3) == [
        "10-24 00:30",
        "10-25 00:30",
        "10-26 01:30",
    ]


@pytest.mark.parametrize("after", ["2026-10-25T00:31", "2026-10-25T01:00", "2026-10-25T01:29"])
def test_the_second_showing_is_not_served_by_who_looks_between_the_two(after: str) -> None:
    assert times("30 2 * * *", "Europe/Berlin", after, 1) == ["10-26 01:30"]


def test_every_half_hour_is_every_half_hour_also_on_the_long_day() -> None:
    assert times("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:59", 5) == [
        "10-25 00:00",
        "10-25 00:30",
        "10-25 01:00",
        "10-25 01:30",
        "10-25 02:00",
    ]


def test_two_times_that_a_leap_brings_together_come_once() -> None:
    assert times("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == ["03-29 01:00", "03-30 00:00"]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "*/20 * * * *", "0 */3 * * *", "15 1,2,3 * * 0", "0 0 1 * *"])
def test_going_on_from_any_time_gives_the_same_times(zone: str, cron: str) -> None:
    schedule = Schedule(cron, zone)
    for start in (
        "2026-03-07",
        "2026-03-28T20:00",
        "2026-04-04",
        "2026-10-03",
        "2026-10-24T20:00",
        "2026-10-31T22:00",
    ):
        found = list(islice(TABLE.times(schedule, at(start)), 40))
        assert found == sorted(set(found))
        again = [next(TABLE.times(schedule, time)) for time in found[:-1]]
        assert again == found[1:]


def test_mondays_are_mondays() -> None:
    assert times("0 3 * * 1", "UTC", "2026-11-20", 1) == ["11-23 03:00"]


def test_what_is_no_schedule_or_zone_is_told() -> None:
    with pytest.raises(InvalidInput, match="is not a schedule"):
        next(TABLE.times(Schedule("0 99 * * *"), at("2026-01-01")))
    with pytest.raises(InvalidInput, match='no time zone "Europe/Nowhere"'):
        next(TABLE.times(Schedule("0 9 * * *", "Europe/Nowhere"), at("2026-01-01")))
    with pytest.raises(InvalidInput, match="no time zone"):
        next(TABLE.times(Schedule("0 9 * * *", "../../etc/passwd"), at("2026-01-01")))


def test_a_schedule_has_words() -> None:
    assert TABLE.words(Schedule("0 3 * * 1", "Europe/Berlin")) == "At 03:00 on Monday (Europe/Berlin)"
