"""Hosts that are silent, come back, or are started anew, and what their attempts become."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.errors import EngineError, EngineUnavailable
from orchestrator.domain.pipeline import Execution, HostSpec, Limits
from orchestrator.domain.run import AttemptState, Exit, Reason, Run, RunState
from orchestrator.ports.engine import Boot
from orchestrator.services import naming
from orchestrator.services.dispatch import Dispatcher
from orchestrator.services.recover import forget_checkpoints
from orchestrator.services.standing import doing
from tests.support.fake_engine import FakeEngine, Script
from tests.support.waiting import wait_until
from tests.unit.services.test_executing import ENDLESS, GOOD, log_of, only
from tests.unit.services.test_taking_over import successor
from tests.unit.services.worlds import FakeProcesses, World, pipeline

TRAIN = ("python", "train.py")
LOST_AFTER = 120.0


def begun(world: World, server: Dispatcher, run: Run, number: int = 1) -> str:
    """The name of the container of a try, once it runs and its first line is there."""

    def attempts() -> list[AttemptState]:
        return [a.state for a in world.store.attempts.of_run(run.id) if a.number == number]

    def ticked() -> bool:
        server.tick()
        world.evaluator.tick()
        if attempts() in ([], [AttemptState.QUEUED]):
            world.clock.advance(5)
        return attempts() == [AttemptState.RUNNING]

    wait_until(ticked, "the attempt to run")
    return world.name_of(run, 0, number)


def lose(world: World, server: Dispatcher, run: Run, engine: FakeEngine, number: int = 1) -> None:
    """Cut the engine off until that try has ended."""
    engine.cut()

    def lost() -> bool:
        world.clock.advance(LOST_AFTER / 2 + 1)
        server.keep_alive()
        return next(a for a in world.store.attempts.of_run(run.id) if a.number == number).state.final

    wait_until(lost, "the attempt to be given up")


@pytest.fixture
def two(world: World) -> FakeEngine:
    """The engine of a second host; the first one is wanted more, and gives up after two minutes."""
    world.hosts = (HostSpec("local", "unix:///x", 2, lost_after=LOST_AFTER),)
    return world.add_host("far", lost_after=LOST_AFTER)


def test_an_attempt_whose_host_is_given_up_is_tried_on_another_and_its_orphan_ended_later(
    world: World, two: FakeEngine
) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    server = world.server()
    name = begun(world, server, run)
    lose(world, server, run, world.engine)
    two.script(GOOD)
    ended = world.finish(run, server)
    assert ended.state is RunState.PASSED
    first, second = world.store.attempts.of_run(run.id)
    assert (first.host, first.reason, second.host) == ("local", Reason.LOST, "far")
    assert "local did not answer for 120 s" in first.message
    # Meanwhile it has ended by itself, with results that count for nothing any more.
    world.engine.restore()
    world.engine.finish(name, Exit(0), {"/mlci/output/metrics.json": b'{"accuracy": 0.1}'})

    def cleared() -> bool:
        world.clock.advance(5)
        server.tick()
        return name not in world.engine.containers

    wait_until(cleared, "the orphan to go")
    assert [m.value for m in world.store.runs.metrics(run.id)[0]] == [0.93]
    assert ("get", name) not in world.engine.calls


def test_a_host_that_comes_back_gets_no_work_while_an_orphan_may_still_run_there(world: World) -> None:
    world.hosts = (HostSpec("local", "unix:///x", 2, lost_after=LOST_AFTER),)
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    server = world.server()
    name = begun(world, server, run)
    lose(world, server, run, world.engine)
    world.engine.fail("remove", EngineError("device or resource busy"), times=3)
    world.engine.restore()
    world.engine.script(GOOD)
    seen: list[list[str]] = []

    def tried() -> bool:
        world.clock.advance(5)
        server.tick()
        world.evaluator.tick()
        if name in world.engine.containers:
            seen.append([n for n in world.engine.starts if n != name and "attempt" in n])
        return world.store.runs.get(run.id).state.final

    wait_until(tried, "the run to end")
    assert seen, "the orphan was not there any more"
    assert not any(seen), "another try began beside it"
    assert world.store.runs.get(run.id).state is RunState.PASSED


def test_the_silence_that_a_former_server_saw_counts_but_is_looked_at_again(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    first = world.server(FakeProcesses("one"))
    name = begun(world, first, run)
    world.engine.cut()
    wait_until(lambda: world.store.hosts.get("local").unreachable_since, "the silence to be written down")
    assert first.drain(10)
    world.clock.advance(3600)
    second = world.server(FakeProcesses("two"))
    second.tick()
    looked = len(world.engine.calls)
    wait_until(lambda: world.engine.calls[looked + 3 :], "the next server to look in vain")
    world.clock.advance(50)
    looked = len(world.engine.calls)
    wait_until(lambda: ("find", name) in world.engine.calls[looked:], "it to look again")
    assert only(world, run).state is AttemptState.RUNNING, "it was not watched for long enough"

    def lost() -> bool:
        world.clock.advance(11)
        second.keep_alive()
        return only(world, run).state.final

    wait_until(lost, "the attempt to be given up")
    assert world.clock.now() - datetime(2026, 1, 1, tzinfo=UTC) < timedelta(seconds=3600 + 300)


def test_a_run_cancelled_while_its_host_is_silent_ends_as_cancelled(world: World, two: FakeEngine) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    server = world.server()
    begun(world, server, run)
    world.engine.cut()
    world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
    lose(world, server, run, world.engine)
    ended = world.finish(run, server)
    assert (ended.state, ended.reason) == (RunState.CANCELLED, Reason.CANCELLED_BY_PERSON)
    assert [a.number for a in world.store.attempts.of_run(run.id)] == [1]


def test_a_stop_that_was_asked_for_while_the_host_was_silent_is_carried_out_when_it_answers(
    world: World,
) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    server = world.server()
    name = begun(world, server, run)
    world.engine.cut()
    failed = len(world.engine.calls)
    wait_until(lambda: ("find", name) in world.engine.calls[failed:], "somebody to look in vain")
    wait_until(lambda: world.store.hosts.get("local").unreachable_since, "the silence to be written down")
    world.clock.advance(42)
    (told,) = doing(world.store, world.logs, world.clock.now(), run)
    assert "the host has not answered for 42" in told
    world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
    server.tick()
    world.engine.restore()
    ended = world.finish(run, server)
    assert ended.state is RunState.CANCELLED
    assert ("stop", name) in world.engine.calls
    assert only(world, run).exit is not None


STARTED = datetime(2026, 1, 1, tzinfo=UTC)
ANEW = Boot("second", STARTED + timedelta(seconds=20))
LONG_AGO = Boot("first", STARTED - timedelta(days=1))


def ends_with(code: int, files: dict[str, bytes] | None = None) -> Script:
    """A command that ends ten seconds after its start, by its host's clock."""
    return Script((b"epoch 1",), Exit(code, False, "", STARTED, STARTED + timedelta(seconds=10)), files or {})


@pytest.mark.parametrize("code", [255, 143])
@pytest.mark.parametrize(
    ("boot", "reason"),
    [
        pytest.param(ANEW, Reason.LOST, id="the host was started anew"),
        pytest.param(replace(LONG_AGO, engine_at=ANEW.at), Reason.LOST, id="the engine was started anew"),
        pytest.param(LONG_AGO, Reason.EXIT_CODE, id="neither"),
    ],
)
def test_an_exit_by_a_host_or_an_engine_that_was_started_anew_is_not_the_commands(
    world: World, code: int, boot: Boot, reason: Reason
) -> None:
    world.engine.script(ends_with(code))
    world.engine.booted = boot
    run = world.first_run(pipeline(execution=Execution(TRAIN, infrastructure_retries=0)))
    world.finish(run, world.server())
    assert only(world, run).reason is reason
    assert ("started anew" in only(world, run).message) is (reason is Reason.LOST)


@pytest.mark.parametrize("code", [0, 1])
def test_any_bad_end_is_asked_about_when_nobody_looked_meanwhile(world: World, code: int) -> None:
    world.engine.script(ENDLESS)
    execution = Execution(TRAIN, infrastructure_retries=0)
    run = world.first_run(pipeline(execution=execution, collect=("metrics.json",)))
    first = world.server(FakeProcesses("one"))
    name = begun(world, first, run)
    assert first.drain(10)
    world.engine.finish(name, ends_with(code).exit)
    world.engine.booted = ANEW
    world.finish(run, world.server(successor(world)))
    assert only(world, run).reason is Reason.LOST


@pytest.mark.parametrize("code", [0, 1, 137])
def test_an_exit_that_is_clear_costs_no_question_about_the_host(world: World, code: int) -> None:
    world.engine.script(ends_with(code))
    run = world.first_run(pipeline(execution=Execution(TRAIN, infrastructure_retries=0)))
    world.finish(run, world.server())
    assert "boot" not in [call for call, _ in world.engine.calls]


def test_an_exit_code_counts_where_nobody_can_tell_when_the_host_was_started(world: World) -> None:
    world.engine.script(ends_with(255))
    world.engine.fail("boot", EngineError("no such image"))
    run = world.finish(world.first_run(pipeline()), world.server())
    assert (run.state, run.reason) == (RunState.FAILED, Reason.EXIT_CODE)


def test_the_end_of_a_log_waits_for_a_host_that_goes_away_right_after_the_exit(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    server = world.server()
    name = begun(world, server, run)
    wait_until(lambda: log_of(world, only(world, run)), "the first line")
    world.engine.fail("logs", EngineUnavailable("the link is down"), times=6)
    world.engine._severed += 1
    world.engine.say(name, b"the last words")
    world.engine.finish(name)
    assert world.finish(run, server).state is RunState.PASSED
    assert log_of(world, only(world, run)) == [b"epoch 1", b"the last words"]


def checkpointing(copy: float | None = 0.02, **changes: object) -> Execution:
    return Execution(TRAIN, checkpoint_copy=copy, **changes)  # type: ignore[arg-type]


def checkpoint_in(engine: FakeEngine, name: str) -> dict[str, bytes | None]:
    """What a container of the fake has in its checkpoint folder."""
    inside = f"{naming.CHECKPOINT}/"
    files = engine.containers[name].files
    return {path.removeprefix(inside): f.content for path, f in files.items() if path.startswith(inside)}


def test_a_try_on_another_host_goes_on_from_the_last_copy_of_the_checkpoint(
    world: World, two: FakeEngine
) -> None:
    world.engine.script(Script((b"epoch 1",), None, {f"{naming.CHECKPOINT}/epochs/1.pt": b"weights"}))
    two.script(Script((b"epoch 2",), None))
    run = world.first_run(pipeline(execution=checkpointing()))
    server = world.server()
    begun(world, server, run)
    wait_until(lambda: world.checkpoints.find(run.id, 0), "a copy")
    lose(world, server, run, world.engine)
    name = begun(world, server, run, 2)
    found = checkpoint_in(two, name)
    assert found["epochs/1.pt"] == b"weights"
    assert two.containers[name].files[f"{naming.CHECKPOINT}/epochs"].uid == 1000
    wait_until(lambda: len(log_of(world, world.store.attempts.of_run(run.id)[1])) == 2, "both lines")
    said = log_of(world, world.store.attempts.of_run(run.id)[1])[0].decode()
    assert "try 1 was on host local" in said
    assert "$MLCI_CHECKPOINT_DIR holds what try 1 had at" in said
    two.finish(name)
    world.finish(run, server)
    assert any("$MLCI_CHECKPOINT_DIR" in w for w in world.store.attempts.of_run(run.id)[1].warnings)


@pytest.mark.parametrize(
    ("copy", "why"),
    [
        pytest.param(None, "run.checkpoint_copy is not set", id="never"),
        pytest.param(600, "no copy", id="yet"),
    ],
)
def test_a_try_on_another_host_without_a_copy_begins_with_nothing_and_says_so(
    world: World, two: FakeEngine, copy: float | None, why: str
) -> None:
    world.engine.script(Script((b"epoch 1",), None, {f"{naming.CHECKPOINT}/1.pt": b"weights"}))
    run = world.first_run(pipeline(execution=checkpointing(copy)))
    server = world.server()
    begun(world, server, run)
    lose(world, server, run, world.engine)
    two.script(GOOD)
    world.finish(run, server)
    second = world.store.attempts.of_run(run.id)[1]
    (warning,) = second.warnings
    assert "$MLCI_CHECKPOINT_DIR is empty" in warning
    assert why in warning
    assert log_of(world, second)[0].decode() == f"[orchestrator] {warning}"


def test_a_try_on_the_same_host_has_its_volume_and_nothing_to_say(world: World) -> None:
    world.engine.script(Script((b"epoch 1",), Exit(137)))
    run = world.finish(world.first_run(pipeline(execution=checkpointing())), world.server())
    volume = naming.checkpoint_volume(world.store.instance, run.id, 0)
    attempts = world.store.attempts.of_run(run.id)
    assert [a.host for a in attempts] == ["local"] * 3
    assert [a.warnings for a in attempts] == [()] * 3
    assert ("remove_volume", volume) not in world.engine.calls


def test_the_last_checkpoint_of_a_killed_container_is_copied_for_the_next_try(
    world: World, two: FakeEngine
) -> None:
    world.engine.script(Script((b"epoch 1",), Exit(137), {f"{naming.CHECKPOINT}/1.pt": b"weights"}))
    two.script(ENDLESS)
    run = world.first_run(pipeline(execution=checkpointing(3600.0)))
    server = world.server()
    name = begun(world, server, run, 2)
    assert world.store.attempts.of_run(run.id)[1].host == "far", "elsewhere, for the host may be at fault"
    assert checkpoint_in(two, name)["1.pt"] == b"weights"


def test_what_an_older_try_left_on_a_host_makes_room_for_a_newer_copy(world: World, two: FakeEngine) -> None:
    world.engine.script(Script((b"epoch 1",), Exit(137), {f"{naming.CHECKPOINT}/1.pt": b"old"}))
    two.script(Script((b"epoch 2",), None, {f"{naming.CHECKPOINT}/2.pt": b"new"}))
    run = world.first_run(pipeline(execution=checkpointing()))
    server = world.server()
    begun(world, server, run, 2)
    wait_until(lambda: (c := world.checkpoints.find(run.id, 0)) and c.number == 2, "a copy of the second try")
    world.engine.script(ENDLESS)
    lose(world, server, run, two, 2)
    name = begun(world, server, run, 3)
    assert world.store.attempts.of_run(run.id)[2].host == "local"
    assert "2.pt" in checkpoint_in(world.engine, name)
    volume = naming.checkpoint_volume(world.store.instance, run.id, 0)
    assert ("remove_volume", volume) in world.engine.calls


def test_half_a_checkpoint_never_replaces_a_whole_one(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.engine.script(Script((b"epoch 1",), None, {f"{naming.CHECKPOINT}/1.pt": b"weights"}))
    run = world.first_run(pipeline(execution=checkpointing(), limits=Limits(total_size=100)))
    server = world.server()
    name = begun(world, server, run)
    whole = wait_until(lambda: world.checkpoints.find(run.id, 0), "a copy")
    world.engine.containers[name].files[f"{naming.CHECKPOINT}/2.pt"] = replaced = world.engine.containers[
        name
    ].files[f"{naming.CHECKPOINT}/1.pt"]
    replaced.content = b"x" * 99
    wait_until(lambda: "was not copied" in caplog.text, "the reason to be said")
    assert "2.pt" in caplog.text
    with world.checkpoints.open(run.id, 0, whole) as tar:
        assert b"weights" in tar.read()


def test_no_copy_is_made_where_room_lacks_for_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.engine.script(Script((b"epoch 1",), None, {f"{naming.CHECKPOINT}/1.pt": b"weights"}))
    run = world.first_run(pipeline(execution=checkpointing()))
    world.state_lack = "storage has 1 MiB free, 1 GiB wanted"
    begun(world, world.server(), run)
    wait_until(lambda: "was not copied: storage has 1 MiB free" in caplog.text, "the reason to be said")
    assert world.checkpoints.find(run.id, 0) is None
    world.state_lack = None
    wait_until(lambda: world.checkpoints.find(run.id, 0), "a copy")


def test_copies_go_once_their_run_is_over(world: World) -> None:
    world.engine.script(Script((b"epoch 1",), None, {f"{naming.CHECKPOINT}/1.pt": b"weights"}))
    run = world.first_run(pipeline(execution=checkpointing()))
    server = world.server()
    name = begun(world, server, run)
    wait_until(lambda: world.checkpoints.find(run.id, 0), "a copy")
    forget_checkpoints(world.store, world.checkpoints)
    assert world.checkpoints.find(run.id, 0) is not None
    world.engine.finish(name)
    world.finish(run, server)
    forget_checkpoints(world.store, world.checkpoints)
    assert world.checkpoints.runs() == set()


def test_a_server_that_takes_over_goes_on_copying(world: World) -> None:
    world.engine.script(Script((b"epoch 1",), None, {f"{naming.CHECKPOINT}/1.pt": b"weights"}))
    run = world.first_run(pipeline(execution=checkpointing()))
    first = world.server(FakeProcesses("one"))
    begun(world, first, run)
    assert first.drain(10)
    world.checkpoints.forget(run.id)
    second = world.server(successor(world))
    second.tick()
    wait_until(lambda: world.checkpoints.find(run.id, 0), "a copy")
