"""Environments: the order of their servers, who may decide, and when they are open."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.environment import Environment, Strategy, Window, alone

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
WORKDAYS = Window((0, 1, 2, 3, 4), 9 * 60, 17 * 60)


@pytest.mark.parametrize(
    ("strategy", "batch", "batches"),
    [
        (Strategy.ALL, 1, (("a", "b", "c"),)),
        (Strategy.ROLLING, 1, (("a",), ("b",), ("c",))),
        (Strategy.ROLLING, 2, (("a", "b"), ("c",))),
        (Strategy.CANARY, 1, (("a",), ("b", "c"))),
    ],
)
def test_servers_change_in_the_batches_of_the_strategy(
    strategy: Strategy, batch: int, batches: tuple[tuple[str, ...], ...]
) -> None:
    assert Environment("prod", ("a", "b", "c"), strategy, batch).batches == batches


def test_a_canary_of_one_server_is_all_there_is() -> None:
    assert Environment("prod", ("a",), Strategy.CANARY).batches == (("a",),)


def test_a_lone_server_goes_by_its_own_name() -> None:
    assert alone("shop").title == "shop"


def test_only_the_approvers_that_are_named_decide() -> None:
    prod = Environment("prod", ("a",), approval=True, approvers=("ana", "bo"))
    assert prod.why_not_approver("ana") is None
    assert prod.why_not_approver("eve") == "eve may not decide on prod: ana, bo may"
    assert Environment("prod", ("a",), approval=True).why_not_approver("eve") is None


def test_without_windows_it_is_always_open() -> None:
    assert Environment("prod", ("a",)).opens(MONDAY) is None


@pytest.mark.parametrize(
    ("hours", "opens"),
    [
        (8.99, MONDAY + timedelta(hours=9)),
        (9, None),
        (16.99, None),
        (17, MONDAY + timedelta(days=1, hours=9)),
        (4 * 24 + 18, MONDAY + timedelta(days=7, hours=9)),
    ],
)
def test_a_window_says_when_it_opens_next(hours: float, opens: datetime | None) -> None:
    prod = Environment("prod", ("a",), windows=(WORKDAYS,))
    assert prod.opens(MONDAY + timedelta(hours=hours)) == opens


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    night = Environment("prod", ("a",), windows=(Window((0,), 22 * 60, 2 * 60),))
    assert night.opens(MONDAY + timedelta(hours=25)) is None
    assert night.opens(MONDAY + timedelta(hours=1)) == MONDAY + timedelta(hours=22)
    assert night.opens(MONDAY + timedelta(hours=26)) == MONDAY + timedelta(days=7, hours=22)


def test_windows_are_read_in_their_own_time_zone_in_summer_and_in_winter() -> None:
    berlin = Environment("prod", ("a",), windows=(WORKDAYS,), zone="Europe/Berlin")
    assert berlin.opens(MONDAY) == MONDAY + timedelta(hours=8)
    summer = datetime(2026, 7, 6, tzinfo=UTC)
    assert berlin.opens(summer) == summer + timedelta(hours=7)
