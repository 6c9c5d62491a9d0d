"""What is remembered of what is watched goes in the end, and what a run has stays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from orchestrator.domain.change import Cause, DatasetRole, DatasetVersion, FileEntry, Revision
from orchestrator.domain.errors import SourceRefused
from orchestrator.domain.pipeline import DatasetSpec, Pipeline, SourceSpec
from orchestrator.domain.retention import Kind, Policy
from orchestrator.domain.upkeep import MirrorFacts
from orchestrator.ports.records import DatasetWatch, HeadMove, NewRun
from orchestrator.services.retain_watched import WatchedKeeper
from tests.unit.services.worlds import World, pipeline

DAY = 86_400.0
MONTH = timedelta(days=30)
EVERYTHING = frozenset(Kind)
ROWS = DatasetSpec("rows", "/data/rows", DatasetRole.TRAIN)
WINE = pipeline(datasets=(ROWS,))
OTHER = SourceSpec("other", "/other")
RULES = Policy(versions=MONTH, mirrors=MONTH, gone=MONTH)


@dataclass
class Shelf:
    """Mirrors that are not there."""

    mirrors: dict[str, datetime] = field(default_factory=dict)
    kept: dict[str, set[str]] = field(default_factory=dict)
    refused: str = ""

    def names(self, source: SourceSpec) -> Collection[str]:
        if source.name == self.refused:
            raise SourceRefused("no token for other")
        return [source.location]

    def all(self) -> Sequence[MirrorFacts]:
        return [MirrorFacts(name, at) for name, at in self.mirrors.items()]

    def pins(self, name: str, before: datetime) -> Sequence[str]:
        return sorted(self.kept.get(name, ()))

    def unpin(self, name: str, commits: Collection[str]) -> int:
        self.kept[name] -= set(commits)
        return len(commits)

    def tidy(self, name: str) -> None:
        """Nothing lies there."""

    def drop(self, name: str, unused_since: datetime) -> int | None:
        return 1000 if self.mirrors.pop(name) <= unused_since else None


@dataclass
class House:
    """A world, its mirrors, and who is defined."""

    world: World
    shelf: Shelf = field(default_factory=Shelf)
    known: dict[str, Pipeline] = field(default_factory=lambda: {"wine": WINE})
    policy: Policy = RULES

    @property
    def keeper(self) -> WatchedKeeper:
        world = self.world
        return WatchedKeeper(
            world.store, self.shelf, lambda: self.known, lambda: [OTHER], self.policy, world.clock
        )

    def apply(self) -> tuple[dict[Kind, int], list[str]]:
        _, went, _, problems = self.keeper.apply(EVERYTHING, "me", lambda _: None, lambda: None)
        return went, problems

    def version(self, fingerprint: str) -> DatasetVersion:
        entries = [FileEntry("a.csv", 3, fingerprint)]
        return self.world.store.detection.record_version(ROWS, fingerprint, entries, self.world.clock.now())

    def run(self, *datasets: DatasetVersion, commit: str = "a" * 40) -> None:
        new = NewRun(WINE, Cause.PUSH, Revision("repo", "main", commit), datasets)
        assert self.world.store.runs.enqueue(new, (), "wine", self.world.clock.now()) is not None

    def numbers(self) -> list[int]:
        return [version.number for version in self.world.store.detection.versions(ROWS)]

    def told(self) -> list[str]:
        return [f"{entry.subject}: {entry.reason}" for entry in self.world.store.journal.latest()]


@pytest.fixture
def house(world: World) -> House:
    return House(world)


def test_versions_that_no_run_has_go_and_the_others_stay(house: House) -> None:
    house.version("a" * 64)
    with_run, looked_at = house.version("b" * 64), house.version("c" * 64)
    house.run(with_run)
    watch = DatasetWatch("signature", looked_at.fingerprint)
    house.world.store.detection.save_dataset_watch(ROWS, watch)
    house.version("d" * 64)
    house.version("e" * 64)
    house.world.clock.advance(31 * DAY)
    plan, _ = house.keeper.plan(EVERYTHING)
    assert [thing.title for thing in plan.going] == ["rows v1", "rows v4"]
    assert house.apply()[0] == {Kind.VERSIONS: 2}
    assert house.numbers() == [2, 3, 5]
    assert "data rows v4: version rows v4 removed by retention (older than 30d)" in house.told()
    assert house.apply()[0] == {}


def test_what_was_seen_for_a_pipeline_that_is_gone_goes_after_a_while(house: House) -> None:
    seen = (HeadMove("repo", "main", None, "1" * 40),)
    for name in ("wine", "mono.old", "mono.back"):
        house.world.store.runs.enqueue(None, seen, name, house.world.clock.now())
    assert house.apply()[0] == {}
    house.world.clock.advance(20 * DAY)
    house.known["mono.back"] = pipeline(name="mono.back")
    assert house.apply()[0] == {}
    del house.known["mono.back"]
    house.world.clock.advance(11 * DAY)
    assert house.apply()[0] == {Kind.PIPELINES: 1}
    detection = house.world.store.detection
    assert detection.heads("mono.old", "repo") == {}
    assert detection.heads("mono.back", "repo") == detection.heads("wine", "repo") == {"main": "1" * 40}


def test_a_pipeline_with_a_run_is_remembered_however_long_it_is_gone(house: House) -> None:
    house.run()
    house.known.clear()
    assert house.apply()[0] == {}
    house.world.clock.advance(400 * DAY)
    assert Kind.PIPELINES not in house.apply()[0]


def test_mirrors_that_nobody_uses_go_but_for_those_of_what_is_watched_or_runs(house: House) -> None:
    long_ago = house.world.clock.now()
    house.shelf.mirrors = dict.fromkeys(("/repo", "/other", "/mine", "submodule"), long_ago)
    house.run()
    frozen = pipeline(name="gone", sources=(SourceSpec("mine", "/mine"),))
    new = NewRun(frozen, Cause.PUSH, Revision("mine", "main", "b" * 40), ())
    assert house.world.store.runs.enqueue(new, (), "gone", long_ago) is not None
    house.world.clock.advance(31 * DAY)
    assert house.apply()[0] == {Kind.MIRRORS: 1}
    assert set(house.shelf.mirrors) == {"/repo", "/other", "/mine"}
    assert "mirror submodule: mirror submodule removed by retention (unused for 30d), 1000 B" in house.told()


def test_no_mirror_goes_while_it_cannot_be_told_whose_it_is(house: House) -> None:
    house.shelf.mirrors = {"submodule": house.world.clock.now()}
    house.shelf.refused = "other"
    house.world.clock.advance(31 * DAY)
    assert house.apply() == ({}, ["no mirror was removed: no token for other"])
    assert set(house.shelf.mirrors) == {"submodule"}


def test_commits_that_nothing_names_are_kept_no_more(house: House) -> None:
    house.shelf.mirrors = {"/repo": house.world.clock.now()}
    house.shelf.kept = {"/repo": {"a" * 40, "b" * 40, "c" * 40, "d" * 40}}
    house.run(commit="a" * 40)
    seen = (HeadMove("repo", "main", None, "b" * 40),)
    house.world.store.runs.enqueue(None, seen, "wine", house.world.clock.now())
    plan, _ = house.keeper.plan(EVERYTHING)
    assert [(thing.kind, thing.count) for thing in plan.going] == [(Kind.COMMITS, 2)]
    assert house.apply()[0] == {Kind.COMMITS: 2}
    assert house.shelf.kept == {"/repo": {"a" * 40, "b" * 40}}
    assert "mirror /repo: 2 commits let go by retention (no run has them, for 30d)" in house.told()


def test_without_rules_everything_stays(house: House) -> None:
    house.policy = Policy()
    house.version("a" * 64)
    house.version("b" * 64)
    house.shelf.mirrors = {"submodule": house.world.clock.now()}
    house.shelf.kept = {"submodule": {"a" * 40}}
    seen = (HeadMove("repo", "main", None, "1" * 40),)
    house.world.store.runs.enqueue(None, seen, "gone", house.world.clock.now())
    house.world.clock.advance(900 * DAY)
    assert house.keeper.plan(EVERYTHING)[0].going == ()
    assert house.apply() == ({}, [])
    assert house.numbers() == [1, 2]
