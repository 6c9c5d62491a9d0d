"""What ticks goes on whatever happens, and says each problem once."""

from __future__ import annotations

import logging
import threading

import pytest

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.scheduler import Loop, Service, Watcher
from orchestrator.services.reach import Reach
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import World, pipeline


def notes(world: World) -> list[str]:
    return [e.reason for e in reversed(world.store.journal.latest()) if e.who == "watcher"]


def test_a_problem_is_said_once_and_its_end_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    watched = pipeline()
    woken: list[int] = []
    watcher = Watcher(world.detector, world.store, world.clock, lambda: woken.append(1))
    name = "source wine/repo"
    world.sources.down = True
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            watcher._poll(name, watched, watched.sources[0])
        assert watcher.problems == {name: "/repo does not answer"}
        world.sources.down = False
        for _ in range(2):
            watcher._poll(name, watched, watched.sources[0])
    assert watcher.problems == {}
    assert notes(world) == ["/repo does not answer", "answers again"]
    assert [r.message for r in caplog.records if name in r.message] == [
        f"{name}: /repo does not answer",
        f"{name}: answers again",
    ]
    assert woken == [1]


def test_a_problem_that_cannot_be_written_down_stops_no_watching(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(*args: object) -> None:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(world.store.journal, "note", note)
    world.sources.down = True
    watched = pipeline()
    watcher = Watcher(world.detector, world.store, world.clock, lambda: None)
    watcher._poll("source", watched, watched.sources[0])
    assert watcher.problems == {"source": "/repo does not answer"}


def test_a_defect_in_one_look_is_logged_and_the_next_look_happens(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def heads(source: SourceSpec) -> dict[str, str]:
        raise KeyError(source.name)

    watched = pipeline()
    watcher = Watcher(world.detector, world.store, world.clock, lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(world.sources, "heads", heads)
        watcher._poll("source", watched, watched.sources[0])
    assert "defect" in caplog.text
    watcher._poll("source", watched, watched.sources[0])
    assert len(world.store.runs.listing()) == 1


@pytest.mark.parametrize("error", [StoreUnavailable("locked"), ZeroDivisionError()])
def test_a_loop_survives_what_its_tick_raises(error: Exception) -> None:
    faults = [error]
    again = threading.Event()

    def tick() -> None:
        if faults:
            raise faults.pop()
        again.set()

    loop = Loop("test", tick, 0.01)
    loop.start()
    loop.wake()
    assert again.wait(5)
    alive = [loop.alive]
    loop.stop(5)
    assert [*alive, loop.alive] == [True, False]


def test_a_loop_that_is_woken_does_not_wait(world: World) -> None:
    ticks: list[int] = []
    loop = Loop("test", lambda: ticks.append(1), 60.0)
    loop.start()
    for count in range(1, 20):
        wait_until(lambda seen=count: len(ticks) >= seen, "a tick", 0.5)  # type: ignore[misc]
        loop.wake()
    loop.stop(5)


def service_of(world: World) -> Service:
    made: list[Service] = []
    watcher = Watcher(world.detector, world.store, world.clock, lambda: made[0].wake())
    made.append(
        Service(
            world.store,
            world.clock,
            world.engines,
            watcher,
            world.server(),
            world.evaluator,
            world.actor(),
            world.stopping,
            "me",
            "http://127.0.0.1:8000",
            Reach(world.engines, world.clock),
        )
    )
    return made[0]


def test_a_service_takes_a_push_to_its_end_by_itself(world: World) -> None:
    watched = pipeline()
    service = service_of(world)
    assert service.healthy is False
    service.start()
    try:
        service.watcher._poll("source", watched, watched.sources[0])
        wait_until(lambda: [r for r in world.store.runs.listing() if r.state.final], "the run to end")
        wait_until(lambda: service.healthy, "all threads to turn")
        assert [row.owner for row in world.store.servers.all()] == ["me"]
    finally:
        service.stop()
    assert list(world.store.servers.all()) == []


def test_a_stopping_service_lets_go_of_its_runs_although_a_repository_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def heads(source: SourceSpec) -> dict[str, str]:
        asked.set()
        assert answer.wait(20)
        return {}

    world.engine.script(Script((b"epoch 1",), None))
    watched = pipeline()
    run = world.first_run(watched)
    service = service_of(world)
    monkeypatch.setattr(world.sources, "heads", heads)
    service.watcher.watch(watched)
    service.start()
    stopper = threading.Thread(target=service.stop)
    try:
        world.engine.wait_for_start(world.name_of(run))
        assert asked.wait(5)
        stopper.start()
        wait_until(lambda: not world.store.servers.all(), "the service to take its leave")
        assert world.store.attempts.lease_owners() == []
        assert stopper.is_alive(), "the look goes on"
    finally:
        answer.set()
        stopper.join(10)
    assert not stopper.is_alive()
