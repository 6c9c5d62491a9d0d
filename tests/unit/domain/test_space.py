"""How much is to stay free."""

from __future__ import annotations

import pytest

from orchestrator.domain.space import Reserve, Space

GIB = 1 << 30


@pytest.mark.parametrize(
    ("reserve", "free", "holds"),
    [
        (Reserve(), 0, True),
        (Reserve(size=2 * GIB), 2 * GIB, True),
        (Reserve(size=2 * GIB), 2 * GIB - 1, False),
        (Reserve(share=0.1), 10 * GIB, True),
        (Reserve(share=0.1), 10 * GIB - 1, False),
    ],
)
def test_a_reserve_is_bytes_or_a_share_of_the_whole(reserve: Reserve, free: int, holds: bool) -> None:
    assert reserve.holds(Space(free, 100 * GIB)) is holds


def test_a_disk_that_is_smaller_than_what_is_to_stay_free_can_never_have_it() -> None:
    assert Reserve(size=2 * GIB).is_beyond(Space(GIB, 2 * GIB - 1))
    assert not Reserve(size=2 * GIB).is_beyond(Space(0, 2 * GIB))
    assert not Reserve(size=2 * GIB).is_beyond(Space(0, 0)), "its size is not known"


def test_a_share_of_a_disk_of_unknown_size_asks_for_nothing() -> None:
    assert Reserve(share=0.1).holds(Space(0, 0))
