"""Servers that die, drain, sleep or lose their lease: another one goes on, and nothing runs twice."""

from __future__ import annotations

import threading

import pytest

from orchestrator.domain.errors import EngineError
from orchestrator.domain.pipeline import Execution, Setup
from orchestrator.domain.run import AttemptState, Exit, Reason, RunState
from orchestrator.services.clean import sweep
from orchestrator.services.dispatch import LEASE_SECONDS, Dispatcher
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.test_executing import ENDLESS, GOOD, SETUP, is_setup, log_of, only
from tests.unit.services.worlds import FakeProcesses, Killed, World, pipeline

killing = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
"""Marks a test that kills threads itself."""


def successor(world: World) -> FakeProcesses:
    """A server that knows that ``one`` is dead."""
    processes = FakeProcesses("two")
    processes.dead.add("one")
    return processes


def is_idle(server: Dispatcher) -> bool:
    """Whether nobody works there any more; nothing else is done."""
    server._forget_finished()
    return server.busy == 0


@killing
@pytest.mark.parametrize(
    ("call", "late"),
    [
        ("find_image", False),
        ("create", False),
        ("create", True),
        ("put", False),
        ("start", False),
        ("start", True),
        ("modified", False),
        ("get", False),
        ("get", True),
        ("remove", False),
    ],
    ids=lambda value: {True: "after", False: "before"}.get(value, value),
)
def test_a_kill_at_any_call_leaves_one_container_one_result_and_one_log(
    world: World, call: str, late: bool
) -> None:
    world.engine.script(GOOD)
    (world.engine.fail_late if late else world.engine.fail)(call, Killed())
    run = world.first_run(pipeline(collect=("metrics.json",)))
    name = world.name_of(run)
    first = world.server(FakeProcesses("one"))
    first.tick()
    wait_until(lambda: call in [c for c, _ in world.engine.calls], f"the call of {call}")
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("attempt-")], "its end")
    ended = world.finish(run, world.server(successor(world)))
    assert ended.state is RunState.PASSED
    assert world.engine.starts == {name: 1}
    assert log_of(world, only(world, run)) == [b"epoch 1", b"done"]
    assert [m.value for m in world.store.runs.metrics(run.id)[0]] == [0.93]


@killing
def test_a_kill_during_the_training_goes_on_with_the_same_container_and_a_whole_log(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    name = world.name_of(run)
    first = world.server(FakeProcesses("one"))
    first.tick()
    world.engine.wait_for_start(name)
    wait_until(lambda: log_of(world, only(world, run)), "the first line")
    world.engine.fail("find", Killed())
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("attempt-")], "its end")
    world.engine.say(name, b"said to nobody")
    second = world.server(successor(world))
    second.tick()
    world.engine.say(name, b"said to the second")
    world.engine.finish(name)
    assert world.finish(run, second).state is RunState.PASSED
    assert log_of(world, only(world, run)) == [b"epoch 1", b"said to nobody", b"said to the second"]
    assert world.engine.double_starts == []


@killing
def test_a_container_that_ended_while_no_server_ran_is_collected_by_the_next(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    name = world.name_of(run)
    world.engine.fail_late("start", Killed())
    world.server(FakeProcesses("one")).tick()
    world.engine.wait_for_start(name)
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("attempt-")], "its end")
    world.engine.finish(name, Exit(4), {"/mlci/output/metrics.json": b'{"accuracy": 0.5}'})
    ended = world.finish(run, world.server(successor(world)))
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.EXIT_CODE)
    assert [m.value for m in world.store.runs.metrics(run.id)[0]] == [0.5]
    assert world.engine.double_starts == []


def test_a_draining_server_leaves_the_container_running_for_the_next(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    name = world.name_of(run)
    first = world.server(FakeProcesses("one"))
    first.tick()
    world.engine.wait_for_start(name)
    wait_until(lambda: log_of(world, only(world, run)), "the first line")
    assert first.drain(10)
    assert only(world, run).state is AttemptState.RUNNING
    world.engine.say(name, b"between two servers")
    second = world.server(FakeProcesses("two"))
    second.tick()
    assert second.busy == 1
    world.engine.finish(name)
    assert world.finish(run, second).state is RunState.PASSED
    assert log_of(world, only(world, run)) == [b"epoch 1", b"between two servers"]
    assert world.engine.double_starts == []


def test_a_server_that_drains_in_the_middle_of_a_preparation_leaves_it_to_the_next(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    world.engine.script(ENDLESS, is_setup)
    run = world.first_run(pipeline(execution=SETUP))
    first = world.server(FakeProcesses("one"))
    first.tick()
    (setup,) = wait_until(lambda: [n for n in world.engine.starts if "setup" in n], "setup to start")
    assert first.drain(10)
    assert setup not in world.engine.containers
    assert only(world, run).state is AttemptState.PREPARING
    world.engine.script(Script(), is_setup)
    assert world.finish(run, world.server(FakeProcesses("two"))).state is RunState.PASSED
    assert world.engine.double_starts == [setup], "the setup alone is run again"


def test_a_live_servers_attempts_are_not_taken_over(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    first = world.server(FakeProcesses("one"))
    first.tick()
    world.engine.wait_for_start(world.name_of(run))
    second = world.server(FakeProcesses("two"))
    for _ in range(10):
        world.clock.advance(LEASE_SECONDS / 4)
        first.tick()
        second.tick()
    assert (first.busy, second.busy) == (1, 0)


def test_one_that_executes_a_single_run_takes_over_no_other(world: World) -> None:
    world.engine.script(ENDLESS)
    watched = pipeline()
    other = world.first_run(watched)
    world.sources.push("main", "second")
    (mine,) = world.detector.poll_source(watched, watched.sources[0])
    first = world.server(FakeProcesses("one"))
    first.tick()
    for run in (other, mine):
        world.engine.wait_for_start(world.name_of(run))
    assert first.drain(10)
    local = world.server(FakeProcesses("two"), wants=lambda run_id: run_id == mine.id)
    local.tick()
    assert local.busy == 1
    taken = [run for run in (other, mine) if any(e.who == "two" for e in world.store.journal.of_run(run.id))]
    assert taken == [mine]


def test_a_server_that_slept_past_its_leases_keeps_its_own_worker(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    server = world.server()
    server.tick()
    world.engine.wait_for_start(world.name_of(run))
    wait_until(lambda: only(world, run).state is AttemptState.RUNNING, "the attempt to run")
    workers = [t for t in threading.enumerate() if t.name.startswith("attempt-")]
    # The machine sleeps: the day goes on, the monotonic clock does not.
    asleep = world.clock.monotonic()
    world.clock.advance(3 * LEASE_SECONDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.clock, "monotonic", lambda: asleep)
        server.tick()
    assert [t for t in threading.enumerate() if t.name.startswith("attempt-")] == workers
    taken = [e for e in world.store.journal.of_run(run.id) if "taken over" in e.reason]
    assert taken == []


def test_a_fenced_worker_touches_nothing_any_more(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    name = world.name_of(run)
    first = world.server(FakeProcesses("one"))
    first.tick()
    world.engine.wait_for_start(name)
    wait_until(lambda: log_of(world, only(world, run)), "the first line")
    world.clock.advance(LEASE_SECONDS + 1)
    second = world.server(FakeProcesses("two"))
    second.tick()
    assert second.busy == 1
    first.keep_alive()
    wait_until(lambda: is_idle(first), "the fenced worker to stop")
    assert world.engine.containers[name].exit is None
    world.engine.finish(name)
    assert world.finish(run, second).state is RunState.PASSED
    assert log_of(world, only(world, run)) == [b"epoch 1"]
    owners = [e.who for e in world.store.journal.of_run(run.id) if e.after == "succeeded"]
    assert owners == ["two"]


def test_a_worker_fenced_while_it_prepares_starts_nothing(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    world.engine.script(ENDLESS, is_setup)
    setup = Execution(("true",), Setup(("pip",), ("requirements.txt",)))
    run = world.first_run(pipeline(execution=setup))
    first = world.server(FakeProcesses("one"))
    first.tick()
    (name,) = wait_until(lambda: [n for n in world.engine.starts if "setup" in n], "setup to start")
    world.clock.advance(LEASE_SECONDS + 1)
    (lease,) = world.store.attempts.take_over("two", [], world.clock.now(), LEASE_SECONDS)
    first.keep_alive()
    world.engine.finish(name)
    wait_until(lambda: is_idle(first), "the fenced worker to stop")
    assert world.name_of(run) not in world.engine.starts
    assert only(world, run).state is AttemptState.PREPARING
    world.store.attempts.release(lease)


def test_a_lease_that_comes_back_waits_for_the_worker_that_lost_it(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    world.engine.script(ENDLESS, is_setup)
    run = world.first_run(pipeline(execution=SETUP))
    server = world.server(FakeProcesses("one"))
    server.tick()
    (setup,) = wait_until(lambda: [n for n in world.engine.starts if "setup" in n], "setup to start")
    world.clock.advance(LEASE_SECONDS + 1)
    (lease,) = world.store.attempts.take_over("two", [], world.clock.now(), LEASE_SECONDS)
    world.store.attempts.release(lease)
    server.tick()
    workers = [t for t in threading.enumerate() if t.name.startswith("attempt-")]
    assert len(workers) == 2
    assert world.engine.starts[setup] == 1
    world.engine.script(Script(), is_setup)
    world.engine.finish(setup)
    assert world.finish(run, server).state is RunState.PASSED
    assert [n for n in world.engine.double_starts if "attempt" in n] == []


def test_the_sweep_removes_what_has_ended_and_nothing_else(world: World) -> None:
    world.engine.script(GOOD)
    world.engine.fail("remove", EngineError("busy"))
    watched = pipeline()
    server = world.server()
    first = world.finish(world.first_run(watched), server)
    ended = world.name_of(first)
    wait_until(lambda: ("remove", ended) in world.engine.calls, "the clean-up to fail")
    world.engine.script(ENDLESS)
    world.sources.push("main", "second")
    (second,) = world.detector.poll_source(watched, watched.sources[0])
    server.tick()
    going = world.name_of(second)
    world.engine.wait_for_start(going)
    before = set(world.engine.volumes)
    removed = sweep(world.store, {"local": world.engine})
    prefix = f"mlci-{world.store.instance[:8]}"
    assert removed == [ended, f"{prefix}-checkpoint-{first.id}-0"]
    assert list(world.engine.guests) == [going]
    assert before - set(world.engine.volumes) == {f"{prefix}-checkpoint-{first.id}-0"}
    assert sweep(world.store, {"local": world.engine}) == []


def test_one_thing_that_cannot_be_swept_keeps_nothing_else(world: World) -> None:
    world.engine.script(GOOD)
    run = world.finish(world.first_run(pipeline(replicates=2)), world.server())
    wait_until(lambda: not world.engine.guests, "the containers to go")
    world.engine.fail("remove_volume", EngineError("in use"))
    removed = sweep(world.store, {"local": world.engine})
    assert removed == [f"mlci-{world.store.instance[:8]}-checkpoint-{run.id}-1"]


def test_what_a_restored_database_does_not_know_keeps_nothing_else_from_being_swept(world: World) -> None:
    world.engine.script(GOOD)
    run = world.finish(world.first_run(pipeline()), world.server())
    wait_until(lambda: not world.engine.guests, "the container to go")
    prefix = f"mlci-{world.store.instance[:8]}"
    world.engine.ensure_volume(f"{prefix}-checkpoint-77-0", {})
    assert sweep(world.store, {"local": world.engine}) == [f"{prefix}-checkpoint-{run.id}-0"]
    assert f"{prefix}-checkpoint-77-0" in world.engine.volumes


def test_leftovers_of_a_preparation_are_swept_once_nothing_is_prepared(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    world.engine.script(ENDLESS, is_setup)
    run = world.first_run(pipeline(execution=SETUP))
    server = world.server()
    server.tick()
    (setup,) = wait_until(lambda: [n for n in world.engine.starts if "setup" in n], "setup to start")
    assert sweep(world.store, {"local": world.engine}) == []
    world.engine.fail("remove", EngineError("busy"))
    world.engine.finish(setup)
    world.finish(run, server)
    wait_until(lambda: world.name_of(run) not in world.engine.containers, "the container to go")
    assert setup in world.engine.containers
    removed = sweep(world.store, {"local": world.engine})
    assert removed[:1] == [setup]
    assert world.engine.guests == {}


def test_an_engine_out_of_reach_is_swept_another_time(world: World) -> None:
    world.engine.cut()
    assert sweep(world.store, {"local": world.engine}) == []
