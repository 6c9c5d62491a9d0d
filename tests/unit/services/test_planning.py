"""What the next look would make, told without making it."""

from __future__ import annotations

import pytest

from orchestrator.domain.pipeline import DatasetSpec, Pipeline, SourceSpec
from orchestrator.services.pinning import waits_until
from orchestrator.services.plan import News, Planner
from tests.unit.services.worlds import World, commit_id, pipeline


def watching(**rules: object) -> Pipeline:
    return pipeline(sources=(SourceSpec("repo", "/repo", **rules),))  # type: ignore[arg-type]


@pytest.fixture
def planner(world: World) -> Planner:
    world.first_run(watching())
    return Planner(world.store, world.sources, world.data, world.clock)


def test_a_push_that_counts_is_expected_to_run(world: World, planner: Planner) -> None:
    new = world.sources.push("main", "second")
    expected = (f"a run of main at {new[:8]}, because repo was pushed to",)
    assert planner.plan(watching()).expected == expected
    assert len(world.store.runs.listing()) == 1


def test_a_push_that_does_not_count_is_told_with_the_reason(world: World, planner: Planner) -> None:
    new = world.sources.push("main", "second")
    world.sources.messages[new] = "typo [no ci]"
    (look,) = planner.plan(watching()).branches
    assert (look.news, look.why_not) == (News.MOVED, f"[no ci] in the message of {new[:8]}")
    assert planner.plan(watching()).expected == (f"no run of main: {look.why_not}",)


def test_tags_that_are_there_already_are_no_news(world: World, planner: Planner) -> None:
    world.sources.tags["v1"] = commit_id("first")
    watched = watching(tags=("v*",))
    (tag,) = [look for look in planner.plan(watched).branches if look.branch == "refs/tags/v1"]
    assert (tag.seen, tag.news) == (None, News.THERE_BEFORE)
    assert planner.plan(watched).expected == ()
    world.detector.poll_source(watched, watched.sources[0])
    world.sources.tags["v2"] = commit_id("first")
    looks = {look.branch: look.news for look in planner.plan(watched).branches}
    assert looks == {"main": News.NONE, "refs/tags/v1": News.NONE, "refs/tags/v2": News.FIRST}


def test_data_that_are_being_written_make_no_promise(world: World) -> None:
    marked = DatasetSpec("rows", "/data/rows", marker="_SUCCESS")
    watched = pipeline(datasets=(marked,))
    world.data.whole = False
    found = Planner(world.store, world.sources, world.data, world.clock).plan(watched)
    assert found.expected == ("one run of repo, because it was not seen before",)
    assert found.waits == (f"dataset rows: {waits_until(marked)}",)
    assert [look.news for look in found.data] == [News.SETTLING]


def test_data_that_no_run_has_had_make_none_by_themselves(world: World, planner: Planner) -> None:
    watched = pipeline(datasets=(DatasetSpec("rows", "/data/rows"),))
    world.data.write("more.csv", b"3,4\n")
    assert planner.plan(watched).expected == ()


def test_what_is_not_watched_is_named(world: World, planner: Planner) -> None:
    world.sources.push("other", "wild")
    assert planner.plan(watching()).unwatched == ("other",)


def test_a_pipeline_that_follows_another_is_not_promised_a_first_run(world: World) -> None:
    planner = Planner(world.store, world.sources, world.data, world.clock)
    assert planner.plan(pipeline(after=("prep",))).expected == (
        "no run of repo at first sight: it runs after prep",
    )
