"""Room is asked for before work is given to a host, and a full disk is not the project's fault."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.domain.errors import (
    DiskFull,
    EngineError,
    EngineFull,
    EngineUnavailable,
    StoreUnavailable,
)
from orchestrator.domain.pipeline import HELPER_IMAGE, HostSpec, SshSpec
from orchestrator.domain.run import AttemptState, Exit, Reason, RunState
from orchestrator.domain.space import NO_RESERVE, Reserve, Space
from orchestrator.ports.engine import EngineInfo
from orchestrator.services.room import KNOWN, Room
from tests.support.fake_engine import FakeEngine, Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import ManualClock, World, pipeline

MIB = 1 << 20
STATE, ROOT = Path("/state"), Path("/var/lib/fake")


class FakeDisk:
    """Room by path, as tests say."""

    def __init__(self) -> None:
        self.spaces: dict[Path, Space] = {STATE: Space(900 * MIB, 1000 * MIB)}

    def space(self, path: Path) -> Space | None:
        return self.spaces.get(path)


class Bench:
    """A room with one host, whose engine is on a machine of another name until told otherwise."""

    def __init__(self) -> None:
        self.disk, self.engine, self.clock = FakeDisk(), FakeEngine(), ManualClock()
        self.engine.script(df(900))
        self.room = self.made(Reserve(size=100 * MIB), Reserve(size=200 * MIB))

    def made(
        self, state: Reserve, engine: Reserve, *, patient: bool = False, ssh: SshSpec | None = None
    ) -> Room:
        host = HostSpec("local", "unix:///x", min_free=engine, ssh=ssh)
        return Room(
            self.disk,
            STATE,
            state,
            [host],
            {"local": self.engine},
            self.clock,
            "here",
            "room-{}".format,
            patient,
        )

    def far(self) -> Room:
        """The same, of a host that is reached over SSH."""
        return self.made(NO_RESERVE, Reserve(size=200 * MIB), ssh=SshSpec("lab.example.org"))

    def at_home(self, free: int) -> None:
        """The engine is on this machine, and so much is free where it keeps its data."""
        self.engine.machine = "here"
        self.disk.spaces[ROOT] = Space(free * MIB, 1000 * MIB)


def df(free: int) -> Script:
    """What df says of a disk of 1000 MiB."""
    return Script(
        lines=(
            b"Filesystem     1024-blocks    Used Available Capacity Mounted on",
            b"overlay            1024000  102400    %d      90%% /" % (free * 1024),
        )
    )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_too_little_room_for_the_state_is_said_with_place_number_and_remedy(bench: Bench) -> None:
    assert bench.room.state_lacks() is None
    bench.disk.spaces[STATE] = Space(99 * MIB, 1000 * MIB)
    assert bench.room.why_not("local") == (
        "99.0 MiB of 1000 MiB free at /state, and 100 MiB are to stay free (storage.min_free);"
        " free some there"
    )


def test_a_disk_that_is_too_small_at_all_is_not_to_be_freed(bench: Bench) -> None:
    bench.at_home(150)
    said = bench.made(NO_RESERVE, Reserve(size=2000 * MIB)).why_not("local")
    assert said is not None
    assert said.endswith("; the whole disk is smaller: lower hosts.local.min_free")


def test_the_room_of_an_engine_on_this_machine_is_asked_anew_each_time(bench: Bench) -> None:
    bench.at_home(500)
    assert bench.room.why_not("local") is None
    bench.at_home(150)
    said = bench.room.why_not("local")
    assert said is not None
    assert said.startswith("150 MiB of 1000 MiB free at /var/lib/fake of the engine local, and 200 MiB")
    assert "hosts.local.min_free" in said
    bench.at_home(250)
    assert bench.room.why_not("local") is None
    assert [call for call, _ in bench.engine.calls].count("info") == 1


def test_a_share_of_the_disk_may_be_kept_free(bench: Bench) -> None:
    bench.at_home(150)
    assert bench.made(NO_RESERVE, Reserve(share=0.1)).why_not("local") is None
    assert bench.made(NO_RESERVE, Reserve(share=0.2)).why_not("local") is not None


def test_nothing_is_asked_where_it_is_switched_off(bench: Bench) -> None:
    bench.disk.spaces[STATE] = Space(0, 1000 * MIB)
    assert bench.made(NO_RESERVE, NO_RESERVE).why_not("local") is None
    assert bench.engine.calls == []


def test_an_engine_elsewhere_is_measured_by_a_container_in_the_background(bench: Bench) -> None:
    bench.engine.script(df(150))
    assert bench.room.why_not("local") is None, "nobody knows yet, which is no reason to wait"
    wait_until(lambda: bench.room.why_not("local"), "the container to have measured", 5)
    said = bench.room.why_not("local")
    assert said is not None
    assert said.startswith("150 MiB of 1000 MiB free at /var/lib/fake of the engine local")
    assert bench.engine.containers == {}
    starts = sum(bench.engine.starts.values())
    bench.engine.script(df(900))
    assert bench.room.why_not("local") is not None
    assert sum(bench.engine.starts.values()) == starts, "measured again although it was just measured"
    bench.clock.advance(KNOWN + 1)
    wait_until(lambda: bench.room.why_not("local") is None, "it to be measured again", 5)


def wait_for_an_outcome(bench: Bench, room: Room) -> None:
    """Ask, a little later each time, until nobody is measuring any more."""

    def there() -> bool:
        bench.clock.advance(2)
        return "is not known" not in (room.why_not("local") or "")

    wait_until(there, "it to be measured", 5)


def creations(bench: Bench) -> int:
    return [call for call, _ in bench.engine.calls].count("create")


@contextmanager
def silent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The engine tells nothing of itself before the block ends."""
    let_go, answer = threading.Event(), bench.engine.info

    def hang() -> EngineInfo:
        let_go.wait(30)
        return answer()

    monkeypatch.setattr(bench.engine, "info", hang)
    try:
        yield
    finally:
        let_go.set()


def test_a_host_over_ssh_gets_no_run_before_its_room_was_measured(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.engine.script(df(98))
    room = bench.far()
    with silent(bench, monkeypatch):
        assert room.why_not("local") == "free space at the engine local is not known: it is being measured"
        assert room.host_lacks("local") is None, "that it is being measured is no lack of room"
    wait_for_an_outcome(bench, room)
    assert (room.why_not("local") or "").startswith("98.0 MiB of 1000 MiB free")


def test_a_host_over_ssh_with_room_gets_runs_once_it_was_measured(bench: Bench) -> None:
    room = bench.far()
    assert room.why_not("local") is not None
    wait_for_an_outcome(bench, room)
    assert room.why_not("local") is None


def test_a_figure_of_a_host_over_ssh_that_is_too_old_is_renewed_before_a_run_goes_there(bench: Bench) -> None:
    room = bench.far()
    room.why_not("local")
    wait_for_an_outcome(bench, room)
    bench.engine.script(df(98))
    bench.clock.advance(10 * KNOWN)
    assert room.why_not("local") == (
        "free space at /var/lib/fake of the engine local is not known: it is being measured anew"
    )
    wait_for_an_outcome(bench, room)
    assert (room.why_not("local") or "").startswith("98.0 MiB")


def test_nobody_waits_for_a_host_over_ssh_that_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    room = bench.far()
    with silent(bench, monkeypatch):
        began = time.monotonic()
        for _ in range(3):
            assert "it is being measured" in (room.why_not("local") or "")
        assert time.monotonic() - began < 10
    wait_for_an_outcome(bench, room)


@pytest.mark.parametrize("trouble", [EngineUnavailable("the link is down"), EngineError("no such thing")])
def test_a_host_that_was_short_of_room_is_so_until_it_is_measured_anew(
    bench: Bench, trouble: EngineError
) -> None:
    bench.engine.script(df(98))
    room = bench.far()
    room.why_not("local")
    wait_for_an_outcome(bench, room)
    bench.engine.script(df(900))
    bench.engine.fail("create", trouble, times=2)
    before = creations(bench)

    def tried_twice() -> bool:
        bench.clock.advance(KNOWN)
        assert (room.why_not("local") or "").startswith("98.0 MiB"), "no answer makes no room"
        return creations(bench) >= before + 2

    wait_until(tried_twice, "it to be tried", 5)

    def has_room() -> bool:
        bench.clock.advance(KNOWN)
        return room.why_not("local") is None

    wait_until(has_room, "its room to count", 5)


def test_a_host_over_ssh_that_nobody_can_measure_keeps_no_run_waiting(bench: Bench) -> None:
    del bench.engine.images[HELPER_IMAGE]
    room = bench.far()
    room.why_not("local")
    wait_for_an_outcome(bench, room)
    assert room.why_not("local") is None


def test_a_machine_elsewhere_with_our_name_is_not_measured_here(bench: Bench) -> None:
    bench.at_home(900)
    bench.engine.script(df(98))
    room = bench.far()
    room.why_not("local")
    wait_for_an_outcome(bench, room)
    assert (room.why_not("local") or "").startswith("98.0 MiB")


def test_who_asks_for_a_person_waits_until_it_is_measured(bench: Bench) -> None:
    bench.engine.script(df(150))
    assert bench.made(NO_RESERVE, Reserve(size=200 * MIB), patient=True).why_not("local") is not None


def test_a_disk_too_full_to_measure_is_full(bench: Bench) -> None:
    bench.engine.fail("create", EngineFull("no space left on the host"))
    full = bench.room.full("local")
    assert full == "0 B free at /var/lib/fake of the engine local"
    assert bench.room.why_not("local") is not None, "what was measured for another counts"


def test_what_cannot_be_found_out_is_said_and_keeps_no_run_waiting(bench: Bench) -> None:
    del bench.engine.images[HELPER_IMAGE]
    measured = bench.room.host("local")
    assert measured.space is None
    assert f"the image {HELPER_IMAGE} is not there" in str(measured)
    assert bench.room.why_not("local") is None
    assert bench.room.full("local") is None
    bench.engine.cut()
    with pytest.raises(EngineUnavailable):
        bench.room.host("local")
    assert bench.room.why_not("local") is None


@pytest.mark.parametrize(("free", "full"), [(0, True), (1, False), (50, False)])
def test_only_a_disk_with_next_to_nothing_left_is_full(bench: Bench, free: int, full: bool) -> None:
    bench.at_home(free)
    assert (bench.room.full("local") is not None) is full


def test_lacking_room_is_logged_once_and_so_is_its_return(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.room.loud = True
    bench.at_home(100)
    for _ in range(3):
        bench.room.why_not("local")
    bench.at_home(500)
    for _ in range(3):
        bench.room.why_not("local")
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "runs wait for room",
        "there is room again",
    ]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_run_waits_for_room_with_the_reason_told_and_spends_no_try(world: World) -> None:
    world.no_room = lambda host: f"no room at {host}"
    run = world.first_run(pipeline())
    server = world.server()
    for _ in range(3):
        server.tick()
    (attempt,) = world.store.attempts.of_run(run.id)
    assert attempt.state is AttemptState.QUEUED
    assert world.waiting(run) == ["it waits for room: no room at local"]
    world.no_room = lambda host: None
    assert world.finish(run, server).state is RunState.PASSED
    assert len(world.store.attempts.of_run(run.id)) == 1


def test_a_command_that_fails_while_its_hosts_disk_is_full_is_tried_again(world: World) -> None:
    told = iter(["0 B free at /var/lib/docker of the engine local"])
    world.full = lambda host: next(told, None)
    world.engine.script(Script(exit=Exit(0)))
    run = world.first_run(pipeline())
    first = world.name_of(run)
    world.engine.script(Script(exit=Exit(1)), lambda spec: spec.name == first)
    assert world.finish(run, world.server()).state is RunState.PASSED
    failed, passed = world.store.attempts.of_run(run.id)
    assert (failed.reason, passed.reason) == (Reason.DISK_FULL, Reason.COMPLETED)
    assert "0 B free at /var/lib/docker of the engine local" in failed.message
    assert "exit code 1" in failed.message


def test_a_command_that_fails_beside_a_disk_with_room_is_the_projects_fault(world: World) -> None:
    world.engine.script(Script(exit=Exit(1)))
    run = world.first_run(pipeline())
    ended = world.finish(run, world.server())
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.EXIT_CODE)


def test_our_own_full_disk_while_a_run_is_prepared_is_tried_again(world: World) -> None:
    checkout, full = world.sources.checkout, [DiskFull("cannot store what git brings", "free space")]

    def sometimes(*arguments: object) -> None:
        if full:
            raise full.pop()
        checkout(*arguments)  # type: ignore[arg-type]  # whatever it was called with

    world.sources.checkout = sometimes  # type: ignore[method-assign,assignment]
    run = world.first_run(pipeline())
    assert world.finish(run, world.server()).state is RunState.PASSED
    first, _ = world.store.attempts.of_run(run.id)
    assert first.reason is Reason.DISK_FULL
    assert "cannot store what git brings; free space" in first.message


def test_an_attempt_that_could_not_be_stored_is_gone_on_with_under_the_same_lease(world: World) -> None:
    put, full = world.blobs.put, [StoreUnavailable("cannot store a file: No space left on device")]

    def sometimes(*arguments: object) -> object:
        if full:
            raise full.pop()
        return put(*arguments)  # type: ignore[arg-type]  # whatever it was called with

    world.blobs.put = sometimes  # type: ignore[method-assign,assignment]
    world.engine.script(Script(files={"/mlci/output/metrics.json": b'{"accuracy": 1}'}))
    run = world.first_run(pipeline())
    assert world.finish(run, world.server()).state is RunState.PASSED
    (attempt,) = world.store.attempts.of_run(run.id)
    assert [a.path for a in world.store.attempts.artifacts(attempt.id)] == ["metrics.json"]
    assert world.engine.starts[world.name_of(run)] == 1
