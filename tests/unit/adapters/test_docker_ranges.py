"""Parts of ranges for many networks."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from orchestrator.adapters.docker.ranges import free_part

WHOLE = "172.20.0.0/16"


def test_the_first_part_that_nobody_has_is_taken() -> None:
    assert free_part([WHOLE], []) == ("172.20.0.0/28", WHOLE)
    assert free_part([WHOLE], ["172.17.0.0/16", "172.20.0.0/28"]) == ("172.20.0.16/28", WHOLE)


def test_a_part_never_overlaps_another_network_whoever_has_it() -> None:
    taken = ["172.20.0.0/25", "172.20.0.144/29", "fd00::/64"]
    found = free_part([WHOLE], taken)
    assert found == ("172.20.0.128/28", WHOLE)
    assert free_part([WHOLE], [*taken, "172.20.0.128/28"]) == ("172.20.0.160/28", WHOLE)


def test_fifty_networks_fit_in_one_range() -> None:
    taken: list[str] = []
    for _ in range(50):
        found = free_part([WHOLE], taken)
        assert found is not None
        taken.append(found[0])
    assert all(IPv4Network(part).subnet_of(IPv4Network(WHOLE)) for part in taken)
    assert len(set(taken)) == 50


def test_another_range_is_used_when_the_first_is_full() -> None:
    assert free_part(["10.0.0.0/28", WHOLE], ["10.0.0.0/28"]) == ("172.20.0.0/28", WHOLE)


@pytest.mark.parametrize("wholes", [[], ["10.0.0.0/28"]])
def test_without_room_there_is_none(wholes: list[str]) -> None:
    assert free_part(wholes, ["10.0.0.0/8"]) is None


def test_a_range_that_is_small_already_is_taken_as_it_is() -> None:
    assert free_part(["10.0.0.8/29"], []) == ("10.0.0.8/29", "10.0.0.8/29")
