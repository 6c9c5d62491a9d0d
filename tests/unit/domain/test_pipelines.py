"""What a pipeline says about branches, hosts, data and metrics."""

from dataclasses import replace

import pytest

from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import (
    DatasetSpec,
    HostSpec,
    MetricSpec,
    NamedImage,
    RunnerSpec,
    SourceSpec,
    eligible_hosts,
)
from tests.unit.domain.examples import pipeline


@pytest.mark.parametrize(
    ("patterns", "branch", "watched"),
    [
        (("main",), "main", True),
        (("main",), "Main", False),
        (("main",), "main2", False),
        (("main", "next"), "next", True),
        (("feature/*",), "feature/x", True),
        (("feature/*",), "feature", False),
        (("*",), "anything/at/all", True),
        (("v[0-9]",), "v1", True),
        (("v[0-9]",), "vx", False),
        ((), "main", False),
    ],
)
def test_a_source_watches_the_branches_that_its_patterns_name(
    patterns: tuple[str, ...], branch: str, watched: bool
) -> None:
    assert SourceSpec("wine", "/srv/wine.git", patterns).watches(branch) is watched


RUNNER = RunnerSpec("cpu", NamedImage("python"))
BIG = HostSpec("big", "ssh://big", labels=(("gpu", "yes"), ("zone", "a")))
SMALL = HostSpec("small", "ssh://small", labels=(("zone", "a"),))
LOCAL = HostSpec("local", "unix:///var/run/docker.sock")
HOSTS = (LOCAL, SMALL, BIG)


def names(runner: RunnerSpec, wish: str | None = None) -> list[str]:
    return [host.name for host in eligible_hosts(runner, HOSTS, wish)]


def test_a_runner_without_demands_executes_anywhere() -> None:
    assert names(RUNNER) == ["local", "small", "big"]


def test_all_labels_that_a_runner_asks_for_must_be_there() -> None:
    assert names(replace(RUNNER, host_labels=(("zone", "a"),))) == ["small", "big"]
    assert names(replace(RUNNER, host_labels=(("zone", "a"), ("gpu", "yes")))) == ["big"]
    assert names(replace(RUNNER, host_labels=(("zone", "b"),))) == []


def test_named_hosts_are_wanted_in_the_order_named() -> None:
    assert names(replace(RUNNER, host_names=("big", "gone", "local"))) == ["big", "local"]


def test_a_persons_wish_leaves_only_that_host() -> None:
    assert names(replace(RUNNER, host_names=("big",)), wish="local") == ["local"]
    assert names(RUNNER, wish="gone") == []


def test_a_declared_direction_outranks_the_name() -> None:
    declared = replace(
        pipeline(), metrics=(MetricSpec("accuracy", Direction.LOWER), MetricSpec("loss"), MetricSpec("rows"))
    )
    assert declared.direction_of("accuracy") is Direction.LOWER
    assert declared.direction_of("loss") is Direction.LOWER
    assert declared.direction_of("f1") is Direction.HIGHER
    assert declared.direction_of("rows") is None


def test_a_source_is_found_by_its_name() -> None:
    assert pipeline().source_named("wine") == pipeline().sources[0]
    assert pipeline().source_named("other") is None


def test_data_are_the_same_whatever_they_are_called() -> None:
    data = DatasetSpec("wine", "/data/wine")
    assert data.key == replace(data, name="other", poll=1.0).key
    others = [
        replace(data, path="/data/wine2"),
        replace(data, include=("*.csv",)),
        replace(data, exclude=("*.tmp",)),
        replace(data, include=("**", "*.tmp")),
    ]
    assert len({data.key, *(other.key for other in others)}) == 5
    assert len(data.key) == 16
    assert int(data.key, 16) >= 0


def test_a_container_finds_data_by_a_variable_that_shells_accept() -> None:
    assert DatasetSpec("wine-test.v2", "/data").variable == "MLCI_DATA_WINE_TEST_V2"
