"""Two servers that look at the same moment: the interleavings that once lost a change or ran one twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from orchestrator.domain.change import PullRequest
from orchestrator.domain.pipeline import DatasetSpec, PullRequestRules, SourceSpec
from orchestrator.domain.run import Run
from orchestrator.ports.store import Runs, Store
from orchestrator.services.detect import Detector
from tests.unit.services.worlds import World, commit_id, pipeline

WINE = DatasetSpec("wine", "/data/wine", settle=0)


class Interrupted:
    """The runs of a store; before the next one is enqueued, something else happens."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self.meanwhile: Callable[[], object] | None = None

    def __getattr__(self, name: str) -> object:
        if name == "enqueue" and self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        return getattr(self._runs, name)


def server(world: World) -> tuple[Detector, Interrupted]:
    """One more server on the same database."""
    runs = Interrupted(world.store.runs)
    store = SimpleNamespace(detection=world.store.detection, runs=runs)
    return Detector(cast(Store, store), world.sources, world.data, world.clock), runs


def made(world: World) -> list[tuple[str, int]]:
    """Commit and version of the data of each run, oldest first."""
    runs: list[Run] = list(reversed(world.store.runs.listing()))
    return [(run.change.revision.commit, run.change.datasets[0].number) for run in runs]


def test_a_push_that_is_seen_with_data_that_move_on_runs_with_the_new_ones(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    world.first_run(watched)
    slow, runs = server(world)
    second = world.sources.push("main", "second")

    def meanwhile() -> None:
        world.data.write("more.csv", b"3,4\n")
        assert len(world.detector.scan_dataset(watched, WINE)) == 1

    runs.meanwhile = meanwhile
    assert slow.poll_source(watched, watched.sources[0]) == []
    assert len(slow.poll_source(watched, watched.sources[0])) == 1
    first = commit_id("first")
    assert made(world) == [(first, 1), (first, 2), (second, 2)]


def test_data_that_are_seen_with_a_branch_that_moves_on_run_with_the_new_commit(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    world.first_run(watched)
    (pusher, pushing), (scanner, scanning) = server(world), server(world)
    second = world.sources.push("main", "second")
    pinned, go = threading.Event(), threading.Event()

    def wait() -> None:
        pinned.set()
        assert go.wait(10)

    pushing.meanwhile = wait
    thread = threading.Thread(target=lambda: pusher.poll_source(watched, watched.sources[0]))
    thread.start()
    assert pinned.wait(10)
    world.data.write("more.csv", b"3,4\n")

    def meanwhile() -> None:
        go.set()
        thread.join(10)

    scanning.meanwhile = meanwhile
    assert scanner.scan_dataset(watched, WINE) == []
    assert len(scanner.scan_dataset(watched, WINE)) == 1
    assert made(world) == [(commit_id("first"), 1), (second, 1), (second, 2)]


def test_what_came_went_and_came_back_to_nothing_is_not_run_by_who_was_late(world: World) -> None:
    source = SourceSpec("repo", "/repo", pull_requests=PullRequestRules())
    watched = pipeline(sources=(source,))
    world.first_run(watched)
    slow, runs = server(world)
    world.sources.pulls = [PullRequest(7, "main", commit_id("idea"), fork=False)]

    def meanwhile() -> None:
        assert len(world.detector.poll_source(watched, source)) == 1
        world.sources.pulls = []
        assert world.detector.poll_source(watched, source) == []

    runs.meanwhile = meanwhile
    assert slow.poll_source(watched, source) == []
    assert len(world.store.runs.listing()) == 2


def test_who_looks_late_takes_what_others_saw_for_no_step_back(world: World) -> None:
    watched = pipeline()
    world.first_run(watched)
    slow, _ = server(world)
    before = world.sources.refs(watched.sources[0])
    world.sources.push("main", "second")

    def late(source: SourceSpec) -> object:
        del world.sources.__dict__["refs"]
        assert len(world.detector.poll_source(watched, source)) == 1
        return before

    world.sources.__dict__["refs"] = late
    assert slow.poll_source(watched, watched.sources[0]) == []
    assert len(world.store.runs.listing()) == 2
