"""Which hosts answer: asked without being held up, written down, and only trusted again once it is clean."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from orchestrator.adapters.process import SystemClock
from orchestrator.domain.errors import EngineError, EngineUnavailable
from orchestrator.ports.engine import Engine, EngineInfo
from orchestrator.services.reach import Reach
from tests.support.fake_engine import FakeEngine
from tests.support.waiting import wait_until
from tests.unit.services.worlds import World

SILENT = EngineUnavailable("the link is down")


class HangingEngine(FakeEngine):
    """One that does not answer before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.asked = 0

    def info(self) -> EngineInfo:
        self.asked += 1
        self.let_go.wait(30)
        return super().info()


@contextmanager
def hanging() -> Iterator[HangingEngine]:
    engine = HangingEngine()
    try:
        yield engine
    finally:
        engine.let_go.set()


def reach_of(world: World, returned: Callable[[str, Engine], None] = lambda host, engine: None) -> Reach:
    return Reach(world.engines, world.clock, hosts=world.store.hosts, returned=returned)


def wait_until_it_answers(world: World, reach: Reach) -> None:
    def answers() -> bool:
        world.clock.advance(5)
        return reach.why_not("local") is None

    wait_until(answers, "the host to answer")


def test_a_host_that_hangs_holds_up_who_asks_for_a_moment_and_only_once(world: World) -> None:
    with hanging() as engine:
        reach = Reach({"far": engine, "local": world.engine}, world.clock)
        world.clock.advance(1)
        assert "has not answered" in (reach.why_not("far") or "")
        world.clock.advance(3)
        began = threading.Event()
        threading.Timer(1.0, began.set).start()
        for _ in range(50):
            assert reach.why_not("far") == "it has not answered for 3 s"
            assert reach.why_not("local") is None
        assert not began.is_set(), "it was waited for again"
        assert engine.asked == 1
        engine.let_go.set()
        wait_until(lambda: reach.why_not("far") is None, "its answer to count")


def test_nobody_waits_for_a_host_that_did_not_answer_before(world: World) -> None:
    with hanging() as engine:
        reach = Reach({"far": engine}, world.clock, patience=20)
        reach.report("far", SILENT)
        world.clock.advance(10)
        began = time.monotonic()
        assert reach.why_not("far") == "the link is down"
        assert time.monotonic() - began < 10
        wait_until(lambda: engine.asked == 1, "it to be asked all the same")
        engine.let_go.set()
        wait_until(lambda: reach.why_not("far") is None, "its answer to count")


def test_many_hosts_that_hang_at_once_are_waited_for_hardly_longer_than_one(world: World) -> None:
    with hanging() as engine:
        reach = Reach({f"far{i}": engine for i in range(20)}, SystemClock(), patience=0.5)
        began = time.monotonic()
        told = [reach.why_not(f"far{i}") for i in range(20)]
        assert time.monotonic() - began < 5
        assert all("has not answered" in (why or "") for why in told)
        engine.let_go.set()
        wait_until(lambda: all(reach.why_not(f"far{i}") is None for i in range(20)), "all answers to count")


def test_a_host_whose_answer_breaks_the_look_is_given_no_work(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reach = reach_of(world)
    assert reach.why_not("local") is None

    def unforeseen() -> EngineInfo:
        raise KeyError("ID")

    with monkeypatch.context() as broken:
        broken.setattr(world.engine, "info", unforeseen)
        for _ in range(3):
            world.clock.advance(5)
            assert reach.why_not("local") == "looking at it failed: KeyError('ID')"
    assert caplog.text.count("defect") == 1
    wait_until_it_answers(world, reach)


def test_silence_is_written_down_once_with_its_first_moment(world: World) -> None:
    reach = reach_of(world)
    assert reach.why_not("local") is None
    began = world.clock.now()
    reach.report("local", SILENT)
    for _ in range(3):
        world.clock.advance(10)
        reach.report("local", SILENT)
    record = world.store.hosts.get("local")
    assert (record.unreachable_since, record.trouble) == (began, "the link is down")
    assert reach.silent_for("local") == 30
    journal = [e.after for e in world.store.journal.latest() if e.subject == "host local"]
    assert journal == ["unreachable"]


def test_a_report_counts_at_once_for_who_asks(world: World) -> None:
    reach = reach_of(world)
    assert reach.why_not("local") is None
    reach.report("local", SILENT)
    assert reach.why_not("local") == "the link is down"


def test_a_host_answers_again_only_once_it_was_cleared(world: World) -> None:
    hindered = [EngineError("busy")]
    seen: list[str] = []

    def returned(host: str, engine: Engine) -> None:
        seen.append(host)
        if hindered:
            raise hindered.pop()

    reach = reach_of(world, returned)
    reach.report("local", SILENT)
    world.clock.advance(5)
    wait_until(lambda: reach.why_not("local") == "busy", "the first answer")
    assert world.store.hosts.get("local").unreachable_since is not None
    wait_until_it_answers(world, reach)
    assert world.store.hosts.get("local").unreachable_since is None
    assert seen == ["local", "local"]
    world.clock.advance(5)
    assert reach.why_not("local") is None
    assert seen == ["local", "local"], "one that answered all the time is not cleared"


def test_what_a_former_process_knew_of_a_silent_host_counts(world: World) -> None:
    reach_of(world).report("local", SILENT)
    world.clock.advance(90)
    seen: list[str] = []
    successor = reach_of(world, lambda host, engine: seen.append(host))
    world.engine.cut()
    assert successor.why_not("local") is not None
    assert successor.silent_for("local") == 90
    world.engine.restore()
    world.clock.advance(5)
    wait_until(lambda: successor.why_not("local") is None, "the host to be back")
    assert seen == ["local"]
    assert successor.silent_for("local") == 0


def test_a_silence_that_only_another_process_saw_is_cleared_and_taken_back(world: World) -> None:
    seen: list[str] = []
    reach = reach_of(world, lambda host, engine: seen.append(host))
    assert reach.why_not("local") is None
    reach_of(world).report("local", SILENT)
    world.clock.advance(20)
    assert reach.why_not("local") is None
    assert seen == ["local"], "what others gave up there is ended"
    assert world.store.hosts.get("local").unreachable_since is None
    world.clock.advance(600)
    reach.report("local", SILENT)
    assert reach.silent_for("local") == 0, "the old silence counts no more"


def test_a_host_that_somebody_found_silent_is_not_asked(world: World) -> None:
    told: dict[str, str] = {"local": "the network is down"}
    reach = Reach(world.engines, world.clock, told=told.get)
    assert reach.why_not("local") == "the network is down"
    assert world.engine.calls == []
    told.clear()
    wait_until_it_answers(world, reach)


def test_hosts_are_looked_at_by_themselves_the_silent_ones_more_often(world: World) -> None:
    reach = reach_of(world)

    def asked() -> int:
        return [call for call, _ in world.engine.calls].count("info")

    reach.look()
    wait_until(lambda: asked() == 1, "the first look")
    assert reach.why_not("local") is None
    for _ in range(4):
        world.clock.advance(3)
        reach.look()
    assert asked() == 1
    world.clock.advance(3)
    reach.look()
    wait_until(lambda: asked() == 2, "the next look")
    assert reach.why_not("local") is None
    world.engine.cut()
    reach.report("local", SILENT)
    wait_until(lambda: reach.why_not("local") == "the link is down", "the report to count")
    world.clock.advance(3)
    reach.look()
    wait_until(lambda: asked() == 3, "a silent host to be looked at")


@pytest.mark.parametrize("loud", [True, False])
def test_silence_is_said_once_and_so_is_its_end(
    world: World, caplog: pytest.LogCaptureFixture, loud: bool
) -> None:
    caplog.set_level("INFO", "orchestrator.services.reach")
    reach = Reach(world.engines, world.clock, loud)
    world.engine.cut()
    for _ in range(3):
        assert reach.why_not("local") is not None
        world.clock.advance(5)
    world.engine.restore()
    wait_until_it_answers(world, reach)
    for _ in range(3):
        world.clock.advance(5)
        assert reach.why_not("local") is None
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in said] == (
        ["host local does not answer", "host local answers again"] if loud else []
    )
