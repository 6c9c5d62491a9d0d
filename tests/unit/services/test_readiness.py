"""Which trouble keeps all work from being done, and which only some of it."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.services.readiness import Readiness, readiness

SILENT = "does not answer"
FULL = "1 GiB free"


def look(
    hosts: str,
    *,
    silent: str = "",
    full: str = "",
    drained: str = "",
    problems: Mapping[str, str] | None = None,
) -> Readiness:
    return readiness(
        problems or {},
        hosts.split(),
        lambda host: host not in drained.split(),
        lambda host: SILENT if host in silent.split() else None,
        lambda host: FULL if host in full.split() else None,
    )


def test_one_host_that_takes_work_is_enough() -> None:
    found = look("a b c", silent="a", full="b")
    assert found.ready
    assert found.degraded == {"host a": SILENT, "room on b": FULL}


def test_no_host_that_can_take_work_is_not_ready() -> None:
    found = look("a b", silent="a", full="b")
    assert not found.ready
    assert found.problems == {"host a": SILENT, "room on b": FULL}


def test_a_drained_host_does_no_work_in_place_of_one_that_is_silent() -> None:
    assert not look("a b", silent="a", drained="b").ready


def test_hosts_that_people_drained_are_no_trouble() -> None:
    assert look("a", drained="a") == Readiness()


def test_a_problem_of_another_part_stays_one_however_well_the_hosts_are() -> None:
    found = look("a b", silent="b", problems={"room": FULL})
    assert not found.ready
    assert (found.problems, found.degraded) == ({"room": FULL}, {"host b": SILENT})


def test_a_host_is_named_once() -> None:
    found = readiness({}, ["a"], bool, lambda host: "host a: no way there", lambda host: None)
    assert found.problems == {"host a": "no way there"}


def test_what_is_told_is_masked() -> None:
    told = look("a b", silent="b", problems={"room": FULL}).told_by(str.upper)
    assert (told.problems, told.degraded) == ({"room": FULL.upper()}, {"host b": SILENT.upper()})
