"""What ticks goes on whatever happens, and says each problem once."""

from __future__ import annotations

import threading

import pytest

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.scheduler import Loop, Service, Watcher
from orchestrator.services.reach import Reach
from orchestrator.services.watches import Looks, watches_of
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import World, pipeline


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
    watcher = Watcher(Looks(world.store, world.clock, lambda: 0.0), lambda: made[0].wake())
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
        for watch in watches_of(watched, world.detector, lambda source: ""):
            service.watcher.add(watch)
        wait_until(lambda: [r for r in world.store.runs.listing() if r.state.final], "the run to end")
        wait_until(lambda: service.healthy, "all threads to turn")
        assert [row.owner for row in world.store.servers.all()] == ["me"]
    finally:
        service.stop()
    assert list(world.store.servers.all()) == []


def test_without_a_forge_there_is_no_thread_for_one(world: World) -> None:
    service = service_of(world)
    service.start()
    try:
        wait_until(lambda: service.healthy, "all threads to turn")
        assert "forge" not in {thread.name for thread in threading.enumerate()}
        service.wake_forge()
    finally:
        service.stop()


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
    for watch in watches_of(watched, world.detector, lambda source: ""):
        service.watcher.add(watch)
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
