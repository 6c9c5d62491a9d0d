"""Containers without our label survive: nothing of others is adopted, changed or removed."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest
from docker.models.containers import Container

from orchestrator.domain.errors import EngineError
from tests.support.containers import Bench, docker_bench, tar_of


@pytest.fixture
def bench(docker_engine: docker.DockerClient, base_image: str) -> Iterator[Bench]:
    with docker_bench(base_image) as bench:
        yield bench


@pytest.fixture(params=["no label", "another instance's label", "a label inherited from our image"])
def stranger(
    request: pytest.FixtureRequest, bench: Bench, docker_engine: docker.DockerClient
) -> Iterator[Container]:
    """A running container that has the name we want and is not ours."""
    image, labels = bench.image, {}
    if request.param == "another instance's label":
        labels = {"mlci.instance": "another", "mlci.container": bench.name()}
    elif request.param == "a label inherited from our image":
        image = f"{bench.prefix}:ours"
        bench.shell("true")
        bench.engine.commit(bench.name(), image, {}, ())
        bench.engine.remove(bench.name())
    made = docker_engine.containers.run(
        image, ["sleep", "600"], name=bench.name(), labels=labels, init=True, detach=True
    )
    try:
        yield made
    finally:
        made.remove(force=True)


def test_a_strangers_container_is_never_touched(bench: Bench, stranger: Container) -> None:
    name = bench.name()
    assert bench.engine.find(name) is None
    assert bench.engine.owned().containers == ()
    for act in (
        lambda: bench.engine.create(bench.spec("true")),
        lambda: bench.engine.start(name),
        lambda: bench.engine.stop(name, 0),
        lambda: bench.engine.remove(name),
        lambda: bench.engine.put(name, "/", tar_of({"a": b"a"})),
        lambda: bench.engine.get(name, "/etc/passwd"),
        lambda: bench.engine.logs(name, None),
        lambda: bench.engine.commit(name, f"{bench.prefix}:stolen", {}, ()),
    ):
        with pytest.raises(EngineError, match="does not belong to this orchestrator"):
            act()
    stranger.reload()
    assert stranger.status == "running"
    assert bench.engine.find_image(f"{bench.prefix}:stolen") is None


def test_a_strangers_network_and_volume_are_never_touched(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    net, vol = bench.name("net"), bench.name("vol")
    network = docker_engine.networks.create(net, driver="bridge")
    volume = docker_engine.volumes.create(vol)
    try:
        for act in (
            lambda: bench.engine.ensure_network(net, {}),
            lambda: bench.engine.remove_network(net),
            lambda: bench.engine.ensure_volume(vol, {}),
            lambda: bench.engine.remove_volume(vol),
        ):
            with pytest.raises(EngineError, match="does not belong to this orchestrator"):
                act()
        network.reload()
        volume.reload()
        assert bench.engine.owned().networks == bench.engine.owned().volumes == ()
    finally:
        network.remove()
        volume.remove()


def test_an_image_that_a_person_made_from_ours_is_not_ours(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    bench.shell("true")
    ours = f"{bench.prefix}:ours"
    bench.engine.commit(bench.name(), ours, {}, ())
    theirs = f"{bench.prefix}:theirs"
    holder = docker_engine.containers.create(ours, ["true"])
    holder.commit(*theirs.split(":"))
    holder.remove()
    try:
        assert bench.engine.owned().images == (ours,)
        with pytest.raises(EngineError, match="does not belong to this orchestrator"):
            bench.engine.remove_image(theirs)
        assert bench.engine.find_image(theirs) is not None
    finally:
        docker_engine.images.remove(theirs)
