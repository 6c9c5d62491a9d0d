"""What an installation left on a host goes when it is asked for, and nothing that is needed or another's."""

from __future__ import annotations

from orchestrator.domain.pipeline import HELPER_IMAGE, DatasetSpec
from orchestrator.services import naming
from orchestrator.services.clean import leftovers
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import World, pipeline

ROWS = DatasetSpec("rows", "/data/rows", settle=0)


def names(world: World) -> list[tuple[str, str]]:
    return [(thing.kind, thing.name) for thing in leftovers(world.store, world.engine)]


def test_all_of_an_installation_goes_once_nothing_is_unfinished(world: World) -> None:
    world.engine.script(Script())
    run = world.finish(world.first_run(pipeline(datasets=(ROWS,))), world.server())
    wait_until(lambda: not world.engine.guests, "the container to go")
    (world.folder / "Dockerfile").touch()
    world.engine.build(world.folder, "Dockerfile", "mlci/cpu:1", {}, world.progress.append)
    data = naming.data_volume(world.store.instance, run.change.datasets[0].fingerprint)
    world.engine.volumes["of-somebody-else"] = {}
    expected = {("volume", data), ("image", "mlci/cpu:1")}
    assert expected <= set(names(world))
    for thing in leftovers(world.store, world.engine):
        thing.remove()
    assert names(world) == []
    assert list(world.engine.volumes) == ["of-somebody-else"]
    assert list(world.engine.images) == ["image:1", HELPER_IMAGE]


def test_what_an_unfinished_run_needs_stays(world: World) -> None:
    world.engine.script(Script(exit=None))
    run = world.first_run(pipeline(datasets=(ROWS,)))
    server = world.server()
    server.tick()
    world.engine.wait_for_start(world.name_of(run))
    assert server.drain(10)
    (world.folder / "Dockerfile").touch()
    world.engine.build(world.folder, "Dockerfile", "mlci/cpu:1", {}, world.progress.append)
    old = naming.data_volume(world.store.instance, "0" * 64)
    world.engine.ensure_volume(old, {})
    assert names(world) == [("volume", old)]
