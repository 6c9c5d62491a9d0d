"""Each slot of a host has a network whose ways to the host are shut, and keeps it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.domain.errors import EngineError, EngineUnavailable, ImageNotFound
from orchestrator.domain.pipeline import (
    Execution,
    HostSpec,
    NamedImage,
    Protection,
    RepositoryImage,
    RunnerSpec,
    Setup,
)
from orchestrator.domain.run import Reason, RunState
from orchestrator.ports.engine import Sandbox
from orchestrator.services import naming
from orchestrator.services.clean import Needs
from orchestrator.services.networks import Networks, dismiss
from tests.support.fake_engine import FakeEngine, Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import ManualClock, World, pipeline

ENDLESS = Script((b"epoch 1",), None)
INSTANCE = "0123456789abcdef"
SLOT = "mlci-01234567-slot-local-0"


class Slots:
    """Networks on a fake engine and a clock of the test's own."""

    def __init__(self, **changes: object) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine(INSTANCE)
        self.host = HostSpec("local", "unix:///x", 2, **changes)  # type: ignore[arg-type]  # any field
        self.aside: list[Callable[[], None]] = []
        self.networks = Networks(INSTANCE, [self.host], self.clock, self.aside.append)

    def join(self, slot: int = 0, *, as_root: bool = False) -> Sandbox:
        found = self.networks.join(self.engine, "local", slot, as_root=as_root)
        assert isinstance(found, Sandbox)
        return found

    def shut(self, sandbox: Sandbox) -> set[str]:
        return self.engine.sandboxes[sandbox.id].prohibited

    def asked(self, call: str) -> int:
        return [name for name, _ in self.engine.calls].count(call)


def test_a_slot_keeps_its_network_and_the_next_attempt_costs_the_engine_nothing() -> None:
    slots = Slots()
    first = slots.join()
    calls = len(slots.engine.calls)
    assert slots.join() == first
    assert len(slots.engine.calls) == calls
    assert slots.join(1) != first


def test_the_host_its_networks_and_the_metadata_are_shut() -> None:
    slots = Slots()
    shut = slots.shut(slots.join())
    # The network of others, and its own, which is made first.
    assert {"169.254.0.0/16", "192.0.2.2", "172.18.0.0/24", "172.18.1.0/24"} <= shut
    assert "10.0.0.0/8" not in shut


def test_private_networks_are_shut_and_addresses_left_open_as_the_administrator_says() -> None:
    slots = Slots(protection=Protection.PRIVATE, reachable=("192.0.2.2", "10.1.0.0/16"))
    sandbox = slots.join()
    assert {"10.0.0.0/8", "192.168.0.0/16"} <= slots.shut(sandbox)
    assert "192.0.2.2" not in slots.shut(sandbox)
    assert slots.engine.sandboxes[sandbox.id].spec.reachable == ("192.0.2.2", "10.1.0.0/16")


def test_without_protection_a_slot_has_a_plain_network_of_its_own() -> None:
    slots = Slots(protection=Protection.NONE)
    assert slots.networks.join(slots.engine, "local", 0) == SLOT
    assert slots.networks.join(slots.engine, "local", 1) != SLOT
    assert slots.asked("ensure_sandbox") == 0
    slots.networks.keep_shut(slots.engine, "local", 0)
    assert not slots.networks.renew(slots.engine, "local", 0)


def test_without_the_helper_image_there_is_no_network_at_all() -> None:
    slots = Slots(helper_image="other:1")
    with pytest.raises(ImageNotFound):
        slots.join()


def test_a_network_that_somebody_makes_is_shut_for_the_next_attempt() -> None:
    slots = Slots()
    first = slots.join()
    slots.engine.other_networks += 1
    slots.clock.advance(16)
    assert slots.join() == first
    assert "172.18.2.0/24" in slots.shut(first)


def test_a_network_that_somebody_makes_is_shut_for_the_attempt_that_runs() -> None:
    slots = Slots()
    sandbox = slots.join()
    slots.engine.other_networks += 1
    slots.networks.keep_shut(slots.engine, "local", 0)
    assert slots.asked("prohibit") == 0
    slots.clock.advance(16)
    for _ in range(3):
        slots.networks.keep_shut(slots.engine, "local", 0)
    assert slots.asked("prohibit") == 1
    assert "172.18.2.0/24" in slots.shut(sandbox)


def test_no_attempt_waits_while_the_host_is_asked_again_in_time() -> None:
    slots = Slots()
    first = slots.join()
    slots.engine.other_networks += 1
    slots.clock.advance(8)
    before = len(slots.engine.calls)
    assert slots.join() == slots.join() == first
    assert len(slots.engine.calls) == before
    (ask,) = slots.aside
    ask()
    assert slots.join() == first
    assert "172.18.2.0/24" in slots.shut(first)
    slots.clock.advance(14)
    slots.aside.clear()
    asked = slots.asked("network_ranges")
    slots.join()
    assert len(slots.aside) == 1
    assert slots.asked("network_ranges") == asked


def test_an_answer_from_before_a_network_was_made_does_not_count() -> None:
    slots = Slots()
    first = slots.join()
    slots.clock.advance(8)
    slots.join()
    slots.engine.other_networks += 1
    slots.join(1)
    slots.engine.other_networks -= 1
    (late,) = slots.aside
    late()
    assert slots.join() == first
    assert "172.18.3.0/24" in slots.shut(first)


def test_a_host_that_does_not_answer_aside_is_asked_again_when_it_must() -> None:
    slots = Slots()
    first = slots.join()
    slots.clock.advance(8)
    slots.join()
    slots.engine.fail("network_ranges", EngineUnavailable("no"))
    slots.aside.pop()()
    assert slots.join() == first
    slots.aside.pop()()
    slots.engine.other_networks += 1
    slots.clock.advance(16)
    slots.join()
    assert "172.18.2.0/24" in slots.shut(first)


def test_whoever_takes_an_attempt_over_goes_on_shutting_its_network() -> None:
    slots = Slots()
    sandbox = slots.join()
    slots.engine.other_networks += 1
    Networks(INSTANCE, [slots.host], slots.clock).keep_shut(slots.engine, "local", 0)
    assert "172.18.2.0/24" in slots.shut(sandbox)


def test_a_sandbox_that_cannot_be_changed_ends_no_run_and_is_tried_again() -> None:
    slots = Slots()
    sandbox = slots.join()
    slots.engine.other_networks += 1
    slots.clock.advance(16)
    slots.engine.fail("prohibit", EngineError("no"))
    slots.networks.keep_shut(slots.engine, "local", 0)
    slots.networks.keep_shut(slots.engine, "local", 0)
    assert slots.asked("prohibit") == 1
    slots.clock.advance(61)
    slots.networks.keep_shut(slots.engine, "local", 0)
    assert "172.18.2.0/24" in slots.shut(sandbox)
    slots.engine.cut()
    slots.clock.advance(16)
    with pytest.raises(EngineUnavailable):
        slots.networks.keep_shut(slots.engine, "local", 0)


def test_another_process_adopts_the_network_of_a_slot() -> None:
    slots = Slots()
    first = slots.join()
    again = Networks(INSTANCE, [slots.host], slots.clock).join(slots.engine, "local", 0)
    assert again == first


@pytest.mark.parametrize("as_root", [False, True])
def test_after_a_root_user_a_network_is_looked_at_before_it_is_used_again(as_root: bool) -> None:
    slots = Slots()
    first = slots.join(as_root=as_root)
    slots.engine.sandboxes[first.id].tampered = True
    assert (slots.join() != first) is as_root


def test_the_builds_of_repositories_and_root_runners_are_root_users(world: World) -> None:
    world.sources.files["Dockerfile"] = b"FROM image:1\n"
    world.engine.script(Script())
    server = world.server()
    for number, runner in enumerate(
        [
            RunnerSpec("repo", RepositoryImage()),
            RunnerSpec("root", NamedImage("image:1"), uid=0),
            RunnerSpec("cpu", NamedImage("image:1")),
            RunnerSpec("cpu", NamedImage("image:1")),
        ]
    ):
        world.sources.push("main", f"change {number}")
        watched = pipeline(runner=runner, name=f"p{number}")
        world.finish(world.first_run(watched), server)
        wait_until(lambda: not world.engine.guests, "the container to go")
    made = [name for call, name in world.engine.calls if call == "ensure_sandbox"]
    assert made.count(naming.slot_name(world.store.instance, "local", 0)) == 3
    builds = [sandbox for _, sandbox in world.engine.build_limits.values()]
    assert [isinstance(network, Sandbox) for network in builds] == [True]


def test_a_setup_is_behind_the_same_walls_as_its_run(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    execution = Execution(("true",), Setup(("pip", "install"), ("requirements.txt",)))
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline(execution=execution))
    world.server().tick()
    (setup,) = wait_until(lambda: [n for n in world.engine.starts if "setup" in n], "setup to start")
    network = world.engine.containers[setup].spec.network
    assert network in world.engine.current_sandboxes
    world.engine.finish(setup)
    world.engine.wait_for_start(world.name_of(run))
    assert world.engine.containers[world.name_of(run)].spec.network == network


def test_two_attempts_at_once_never_share_a_network(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline(replicates=2))
    world.server().tick()
    names = [world.name_of(run, replicate) for replicate in (0, 1)]
    for name in names:
        world.engine.wait_for_start(name)
    first, second = (world.engine.containers[name].spec.network for name in names)
    assert first != second


def test_an_attempt_whose_sandbox_was_removed_starts_in_a_new_one(world: World) -> None:
    world.engine.script(Script())
    server = world.server()
    world.finish(world.first_run(pipeline()), server)
    wait_until(lambda: not world.engine.guests, "the container to go")
    (old,) = world.engine.current_sandboxes
    world.engine.vanish(old.name)
    world.engine.script(ENDLESS)
    world.sources.push("main", "second")
    (run,) = world.detector.poll_source(pipeline(), pipeline().sources[0])
    server.tick()
    world.engine.wait_for_start(world.name_of(run))
    (new,) = world.engine.current_sandboxes
    assert new != old
    assert world.engine.containers[world.name_of(run)].spec.network == new


def test_a_start_that_fails_for_another_reason_is_not_repeated(world: World) -> None:
    world.engine.fail("start", EngineError("no such device"))
    run = world.finish(world.first_run(pipeline()), world.server())
    (attempt,) = world.store.attempts.of_run(run.id)
    assert (run.state, attempt.reason) == (RunState.ERRORED, Reason.ENGINE_REFUSED)
    assert [call for call, _ in world.engine.calls].count("start") == 1


def test_after_a_preparation_that_failed_a_network_is_looked_at_before_it_is_used_again(world: World) -> None:
    server = world.server()
    for number in (1, 2):
        world.engine.fail("start", EngineError("no such device"))
        world.sources.push("main", f"change {number}")
        world.finish(world.first_run(pipeline(name=f"p{number}")), server)
    assert [call for call, _ in world.engine.calls].count("ensure_sandbox") == 2


def test_a_host_without_the_helper_image_errors_and_says_what_is_missing(world: World) -> None:
    del world.engine.images["mlci/base:1"]
    run = world.finish(world.first_run(pipeline()), world.server())
    (attempt,) = world.store.attempts.of_run(run.id)
    assert attempt.reason is Reason.IMAGE_NOT_FOUND
    assert "mlci/base:1" in attempt.message
    assert world.engine.guests == {}


def test_a_server_that_stops_leaves_the_networks_of_runs_that_go_on_and_no_other(world: World) -> None:
    world.engine.script(Script())
    server = world.server()
    world.finish(world.first_run(pipeline(replicates=2)), server)
    wait_until(lambda: not world.engine.guests, "the containers to go")
    assert len(world.engine.current_sandboxes) == 2
    world.engine.script(ENDLESS)
    world.sources.push("main", "second")
    (run,) = world.detector.poll_source(pipeline(), pipeline().sources[0])
    server.tick()
    world.engine.wait_for_start(world.name_of(run))
    assert server.drain(10)
    dismiss(world.store, {"local": world.engine})
    assert [s.name for s in world.engine.current_sandboxes] == list(world.engine.networks)
    joined = world.engine.containers[world.name_of(run)].spec.network
    assert world.engine.current_sandboxes == [joined]
    needed = Needs(world.store, served=False)
    assert all(needed.network(name) for name in world.engine.networks)


def test_an_engine_out_of_reach_keeps_no_server_from_stopping(world: World) -> None:
    world.engine.cut()
    dismiss(world.store, {"local": world.engine})
    assert ("owned", "") in world.engine.calls
