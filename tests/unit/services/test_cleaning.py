"""What an installation left on a host goes in its time, and nothing that is needed or another's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from orchestrator.adapters.docker import helpers
from orchestrator.domain.pipeline import HELPER_IMAGE, DatasetSpec, Resources
from orchestrator.domain.retention import Kind, Policy
from orchestrator.ports.engine import ContainerSpec, VolumeMount
from orchestrator.services import naming
from orchestrator.services.clean import sweep
from orchestrator.services.retain import HOSTS
from orchestrator.services.retain_hosts import EVERYTHING, HostKeeper, HostSpace
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import World, pipeline

ROWS = DatasetSpec("rows", "/data/rows", settle=0)
HOUR = Policy(leftovers=timedelta(hours=1))


@dataclass
class Broom:
    """What cleans the host of a world, by a policy."""

    world: World
    policy: Policy = EVERYTHING
    to_the_last: bool = True
    served: bool = False
    lacking: int = 0

    def keeper(self) -> HostKeeper:
        world = self.world
        space = HostSpace(lambda host: self.lacking > 0, lambda host: self.lacking)
        engines = {"local": world.engine}
        return HostKeeper(
            world.store,
            engines,
            ["wine"],
            lambda: {"mlci/runner:1": "it is the image of runner cpu"},
            self.policy,
            world.clock,
            lambda: self.served,
            space,
            to_the_last=self.to_the_last,
        )

    def going(self) -> list[tuple[Kind, str]]:
        plan, problems = self.keeper().plan(HOSTS, self.world.progress.append)
        assert problems == []
        return [(thing.kind, thing.title) for thing in plan.going]

    def sweep(self) -> list[str]:
        _, went, problems = self.keeper().apply(HOSTS, "me", self.world.progress.append, lambda: None)
        assert problems == []
        return [thing.title for thing in went]


def container(world: World, name: str, role: str, volume: str = "", **labels: str) -> str:
    """A container of ours, which was never started."""
    mounts = (VolumeMount(volume, "/x"),) if volume else ()
    world.engine.create(
        ContainerSpec(
            name=name,
            image="image:1",
            command=("true",),
            labels={naming.ROLE_LABEL: role, **labels},
            env={},
            user="0:0",
            workdir="/",
            resources=Resources(),
            mounts=mounts,
        )
    )
    world.engine.made_at[name] = world.clock.now()
    return name


def image(world: World, tag: str, size: int = 0) -> str:
    (world.folder / "Dockerfile").touch()
    world.engine.build(world.folder, "Dockerfile", tag, {}, world.progress.append)
    world.engine.sizes[tag] = size
    world.engine.made_at[tag] = world.clock.now()
    return tag


def test_all_of_an_installation_goes_once_nothing_is_unfinished(world: World) -> None:
    world.engine.script(Script())
    run = world.finish(world.first_run(pipeline(datasets=(ROWS,))), world.server())
    wait_until(lambda: not world.engine.guests, "the container to go")
    image(world, "mlci/runner:1")
    data = naming.data_volume(world.store.instance, run.change.datasets[0].fingerprint)
    container(world, "mlci-reader", "stager", data)
    world.engine.volumes["of-somebody-else"] = {}
    broom = Broom(world)
    expected = {(Kind.CONTAINERS, "mlci-reader"), (Kind.VOLUMES, data), (Kind.IMAGES, "mlci/runner:1")}
    assert expected <= set(broom.going())
    broom.sweep()
    assert broom.going() == []
    assert list(world.engine.volumes) == ["of-somebody-else"]
    assert list(world.engine.images) == ["image:1", HELPER_IMAGE]


def test_what_an_unfinished_run_needs_stays(world: World) -> None:
    world.engine.script(Script(exit=None))
    run = world.first_run(pipeline(datasets=(ROWS,)))
    server = world.server()
    server.tick()
    world.engine.wait_for_start(world.name_of(run))
    assert server.drain(10)
    image(world, "mlci/cpu:1")
    old = naming.data_volume(world.store.instance, "0" * 64)
    world.engine.ensure_volume(old, {})
    assert Broom(world).going() == [(Kind.VOLUMES, old)]


def test_what_a_runner_or_a_pipeline_uses_stays_but_when_all_is_to_go(world: World) -> None:
    runner, spare = image(world, "mlci/runner:1"), image(world, "mlci/spare:1")
    assert Broom(world, to_the_last=False).sweep() == [spare]
    assert Broom(world).sweep() == [runner]


def test_what_was_used_a_moment_ago_is_not_said_to_be_old_when_all_is_to_go(world: World) -> None:
    world.engine.script(Script())
    run = world.finish(world.first_run(pipeline(datasets=(ROWS,))), world.server())
    wait_until(lambda: not world.engine.guests, "the container to go")
    data = naming.data_volume(world.store.instance, run.change.datasets[0].fingerprint)
    world.engine.made_at[data] = world.clock.now() - timedelta(days=3)
    plan, _ = Broom(world).keeper().plan(HOSTS, world.progress.append)
    (why,) = [thing.why for thing in plan.going if thing.title == data]
    assert why.startswith("unused for ")
    assert "d" not in why.removeprefix("unused for "), "the run is no day old"


def test_leftovers_go_with_their_age_and_what_they_hold_goes_with_them(world: World) -> None:
    volume = naming.data_volume(world.store.instance, "0" * 64)
    world.engine.ensure_volume(volume, {})
    world.engine.made_at[volume] = world.clock.now()
    container(world, "mlci-helper", "helper", volume)
    broom = Broom(world, HOUR, to_the_last=False)
    assert broom.going() == []
    # A container that is not to go yet keeps what it has, however old that is.
    broom.policy = Policy(leftovers=timedelta(hours=1), volumes=EVERYTHING.volumes)
    assert broom.going() == []
    world.clock.advance(3601)
    assert broom.going() == [(Kind.CONTAINERS, "mlci-helper"), (Kind.VOLUMES, volume)]
    assert broom.sweep() == ["mlci-helper", volume]


@pytest.mark.parametrize("role", [helpers.ROLE, naming.LOOK])
def test_a_look_at_a_host_is_not_swept_from_under_whoever_looks_and_goes_with_its_age(
    world: World, role: str
) -> None:
    name = container(world, "mlci-look", role)
    assert sweep(world.store, {"local": world.engine}) == []
    broom = Broom(world, HOUR, to_the_last=False, served=True)
    assert broom.going() == []
    world.clock.advance(3601)
    assert broom.sweep() == [name]


def test_the_checkpoint_of_a_run_that_ended_goes_with_its_age_and_other_volumes_stay(world: World) -> None:
    world.engine.script(Script())
    run = world.finish(world.first_run(pipeline()), world.server())
    checkpoint = naming.checkpoint_volume(world.store.instance, run.id, 0)
    driver = f"mlci-{world.store.instance[:8]}-driver-550"
    for volume in (checkpoint, driver):
        world.engine.ensure_volume(volume, {})
        world.engine.made_at[volume] = world.clock.now()
    broom = Broom(world, HOUR, to_the_last=False, served=True)
    assert broom.going() == []
    world.clock.advance(3601)
    assert broom.sweep() == [checkpoint]
    assert driver in world.engine.volumes


def test_an_attempt_that_the_database_does_not_know_is_left_alone(world: World) -> None:
    """The database may be an older copy of the one that made it."""
    container(world, "mlci-unknown", "attempt", **{naming.ATTEMPT_LABEL: "7000"})
    world.engine.ensure_volume(naming.checkpoint_volume(world.store.instance, 7000, 0), {})
    assert Broom(world).going() == []


def test_the_networks_of_slots_stay_while_a_server_lives(world: World) -> None:
    name = naming.slot_name(world.store.instance, "local", 0)
    world.engine.ensure_network(name, {})
    container(world, name, "sandbox")
    assert Broom(world, served=True).going() == []
    assert Broom(world).sweep() == [name, name]
    assert name not in world.engine.networks


def test_a_host_without_room_is_relieved_of_the_least_recently_used_and_of_no_more(world: World) -> None:
    volume = naming.data_volume(world.store.instance, "0" * 64)
    world.engine.ensure_volume(volume, {})
    world.engine.sizes[volume], world.engine.made_at[volume] = 100, world.clock.now()
    world.clock.advance(10)
    image(world, "mlci/runner:1", 1000)
    image(world, "mlci/older:1", 50)
    world.clock.advance(10)
    image(world, "mlci/newer:1", 50)
    broom = Broom(world, HOUR, to_the_last=False, lacking=120)
    assert broom.keeper().short()
    assert broom.going() == [(Kind.VOLUMES, volume), (Kind.IMAGES, "mlci/older:1")]
    plan, _ = broom.keeper().plan({Kind.IMAGES}, world.progress.append)
    assert [(thing.title, thing.why) for thing in plan.going] == [
        ("mlci/older:1", "the disk is short of room"),
        ("mlci/newer:1", "the disk is short of room"),
    ]
    broom.lacking = 0
    assert broom.going() == []
