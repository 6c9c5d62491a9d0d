"""What is not ours survives every cleaning of a host: containers, volumes, networks and images of others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest

from orchestrator.bootstrap import Application, read_configuration
from orchestrator.cli.main import execute
from orchestrator.services.retain import HOSTS
from tests.support.hosts import Host, trust

MIB = 1 << 20


@pytest.fixture
def app(hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[Application]:
    """The product with one remote host, on which 300 MiB are to stay free."""
    ssh = hosts[0].ssh
    main = {"storage": {"path": "var"}, "hosts": {"lab1": {"ssh": ssh, "min_free": "300m"}}}
    (tmp_path / "orchestrator.yaml").write_text(json.dumps(main))
    trust(tmp_path / "var", hosts[0])
    with closing(Application(read_configuration(tmp_path))) as made:
        yield made


@pytest.fixture
def inside(hosts: tuple[Host, Host]) -> Iterator[docker.DockerClient]:
    """The host's engine, past the product."""
    with closing(hosts[0].client()) as client:
        yield client


def image(app: Application, folder: Path, tag: str, size: int) -> str:
    """An image of ours with so many bytes of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text("FROM mlci/base:1\nCOPY content /\n")
    (folder / "content").write_bytes(tag.encode().ljust(20, b".") * (size // 20))
    app.engines["lab1"].build(folder, "Dockerfile", tag, {}, lambda event: None)
    return tag


def test_others_things_survive_although_they_are_made_of_ours(
    app: Application, inside: docker.DockerClient, base_image: str, tmp_path: Path
) -> None:
    engine, mine = app.engines["lab1"], {"mlci.instance": app.store.instance}
    used, spare = (
        image(app, tmp_path / "used", "ours:used", 1000),
        image(app, tmp_path / "x", "ours:spare", 1000),
    )
    engine.ensure_volume("ours-spare", {})
    engine.ensure_volume("ours-used", {})
    engine.ensure_network("ours-net", {})
    theirs = {"mlci.instance": "another"}
    inside.volumes.create("plain")
    inside.volumes.create("another", labels=theirs)
    inside.networks.create("plain")
    inside.containers.create(base_image, "true", name="plain")
    inside.containers.create(
        base_image, "true", name="another", labels=theirs | {"mlci.container": "another"}
    )
    # Somebody tries our image on our volume: that container inherits our label, and is not ours.
    inside.containers.create(used, "true", name="tried", volumes={"ours-used": {"bind": "/x"}})
    inside.containers.create(base_image, "true", name="labelled", labels=mine)
    inside.images.get(base_image).tag("plain:1")
    config = ["--config", str(app.config.base), "hosts", "prune", "--all"]
    assert execute([*config, "--dry-run"]) == 0
    assert engine.owned().volumes == ("ours-spare", "ours-used")
    assert execute([*config, "--yes"]) == 0
    assert {c.name for c in inside.containers.list(all=True, ignore_removed=True)} == {
        "plain",
        "another",
        "tried",
        "labelled",
    }
    assert {v.name for v in inside.volumes.list()} == {"plain", "another", "ours-used"}
    assert "plain" in {n.name for n in inside.networks.list()}
    assert engine.owned().networks == ()
    tags = {tag for each in inside.images.list() for tag in each.tags}
    assert {base_image, "plain:1", used} <= tags
    assert spare not in tags


def test_a_host_without_room_is_relieved_of_what_nothing_needs_and_of_nothing_else(
    app: Application, hosts: tuple[Host, Host], inside: docker.DockerClient, tmp_path: Path
) -> None:
    image(app, tmp_path / "old", "ours:old", 60 * MIB)
    image(app, tmp_path / "new", "ours:new", 60 * MIB)
    inside.volumes.create("plain")
    assert app.retainer.plan(HOSTS, lambda event: None)[0].going == ()
    hosts[0].fill(leave=280 * MIB)
    done = app.retainer.apply(HOSTS, "me", lambda event: None, lambda: None)
    assert [(t.title, t.why) for t in done.plan.going] == [
        ("ours:old", "the disk is short of room"),
        ("ours:new", "the disk is short of room"),
    ]
    assert done.problems == ()
    assert app.room.lacks("lab1", app.room.host("lab1")) is None
    assert [v.name for v in inside.volumes.list()] == ["plain"]
    assert app.retainer.plan(HOSTS, lambda event: None)[0].going == ()
