"""Which time of a schedule is due, and when something is looked at next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.pace import LONGEST_ASKED, LONGEST_HOOKED, after_failure, after_success
from orchestrator.domain.schedule import MOST_COUNTED, due

START = datetime(2026, 1, 1, tzinfo=UTC)


def every(step: timedelta, after: datetime) -> Iterable[datetime]:
    """Endless times at whole steps from START."""
    count = (after - START) // step + 1
    while True:
        yield START + count * step
        count += 1


def hourly(after: datetime) -> Iterable[datetime]:
    return every(timedelta(hours=1), after)


def minutely(after: datetime) -> Iterable[datetime]:
    return every(timedelta(minutes=1), after)


def test_nothing_is_due_before_its_time() -> None:
    assert due(hourly, START, START + timedelta(minutes=59)) is None


def test_a_time_is_due_from_its_moment_on() -> None:
    found = due(hourly, START, START + timedelta(hours=1))
    assert found is not None
    assert (found.at, found.missed) == (START + timedelta(hours=1), 0)
    assert found.note == "due at 2026-01-01 01:00 UTC by its schedule"


def test_times_that_nobody_served_are_due_together_as_the_newest() -> None:
    found = due(hourly, START, START + timedelta(hours=5, minutes=10))
    assert found is not None
    assert (found.at, found.missed) == (START + timedelta(hours=5), 4)
    assert found.note.endswith("it stands also for 4 before that nobody served")


def test_a_year_of_minutes_is_neither_walked_nor_counted() -> None:
    now = START + timedelta(days=365)
    asked: list[datetime] = []

    def counted(after: datetime) -> Iterable[datetime]:
        for time in minutely(after):
            asked.append(time)
            yield time

    found = due(counted, START, now)
    assert found is not None
    assert (found.at, found.missed) == (now, MOST_COUNTED)
    assert len(asked) < 5000


@given(st.integers(1, 5000), st.integers(0, 10_000))
def test_serving_what_is_due_leaves_nothing_due(step: int, passed: int) -> None:
    def times(after: datetime) -> Iterable[datetime]:
        return every(timedelta(minutes=step), after)

    now = START + timedelta(minutes=passed)
    found = due(times, START, now)
    if found is None:
        assert passed < step
    else:
        assert START < found.at <= now
        assert due(times, found.at, now) is None


def test_who_calls_by_webhook_is_asked_more_seldom_but_never_more_often() -> None:
    assert after_success(60.0, hooked=False) == 60.0
    assert after_success(60.0, hooked=True) == 600.0
    assert after_success(600.0, hooked=True) == LONGEST_HOOKED
    assert after_success(7200.0, hooked=True) == 7200.0


@pytest.mark.parametrize("asked", [1e300, float("inf"), 10.0**12])
def test_a_server_cannot_have_itself_forgotten(asked: float) -> None:
    assert after_failure(30.0, 1, asked, 0.0) == LONGEST_ASKED


@given(st.floats(0.1, 86400), st.integers(1, 10_000), st.none() | st.floats(0, 86400), st.floats(0, 1))
def test_backoff_never_undercuts_the_interval_nor_what_was_asked_for(
    interval: float, tries: int, asked: float | None, chance: float
) -> None:
    wait = after_failure(interval, tries, asked, chance)
    assert wait >= interval
    assert asked is None or wait >= asked
    assert wait <= max(1.25 * max(300.0, interval), asked or 0.0)


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 60.0), (1.0, 75.0)])
def test_those_who_failed_together_do_not_come_back_together(chance: float, wait: float) -> None:
    assert after_failure(30.0, 2, None, chance) == wait
