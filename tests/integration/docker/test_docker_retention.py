"""What our images and volumes take on the real engine, and their removal once nobody uses them."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import docker
import pytest

from orchestrator.domain.change import Cause, DatasetVersion, Revision
from orchestrator.domain.errors import EngineError
from orchestrator.domain.retention import Kind, Policy, Unused
from orchestrator.ports.engine import VolumeMount
from orchestrator.ports.progress import ProgressEvent
from orchestrator.ports.records import NewRun
from orchestrator.services import naming
from orchestrator.services.retain_hosts import HostKeeper
from orchestrator.store import SqlStore, open_store
from tests.support.containers import Bench
from tests.unit.services.worlds import ManualClock, pipeline

LONG = timedelta(days=30)


class Later(ManualClock):
    """Two months from now."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    made = open_store(f"sqlite:///{tmp_path / 'db.sqlite'}")
    yield made
    made.close()


def ignore(event: ProgressEvent) -> None:
    """A sink for those who do not look."""


def built(bench: Bench, folder: Path, name: str, base: str, size: int) -> str:
    """An image of ours with a layer of that many bytes of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY content /{name}\n")
    (folder / "content").write_bytes((name + bench.prefix).encode() * (size // len(name + bench.prefix)))
    tag = f"{bench.prefix}:{name}"
    bench.engine.build(folder, "Dockerfile", tag, {}, ignore)
    return tag


def keeper(bench: Bench, store: SqlStore, policy: Policy, wanted: dict[str, str] | None = None) -> HostKeeper:
    return HostKeeper(store, {"local": bench.engine}, ["wine"], lambda: wanted or {}, policy, Later())


def test_the_engine_tells_what_our_images_and_volumes_take_and_nothing_of_others(
    bench: Bench, docker_engine: docker.DockerClient, tmp_path: Path
) -> None:
    lower = built(bench, tmp_path / "lower", "lower", bench.image, 1_000_000)
    upper = built(bench, tmp_path / "upper", "upper", lower, 500_000)
    volume = f"{bench.prefix}-rows"
    bench.engine.ensure_volume(volume, {})
    name = bench.name("holder")
    mounts = (VolumeMount(volume, "/rows", False),)
    bench.engine.create(replace(bench.spec("true"), name=name, image=upper, mounts=mounts))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        entry = tarfile.TarInfo("rows/data")
        entry.size = 300_000
        tar.addfile(entry, io.BytesIO(b"x" * entry.size))
    content.seek(0)
    bench.engine.put(name, "/", content)
    usage = bench.engine.usage()
    images = {image.name: image for image in usage.images}
    assert set(images) == {lower, upper}
    assert images[upper].layers[:-1] == images[lower].layers
    assert 490_000 < images[upper].size < 510_000
    assert not any(image.held for image in usage.images)
    assert images[upper].id == docker_engine.images.get(upper).id
    assert datetime.now(UTC) - images[upper].created_at < timedelta(hours=1)
    (found,) = usage.volumes
    assert (found.name, found.held) == (volume, False)
    assert 290_000 < (found.size or 0) < 320_000
    (container,) = usage.containers
    assert (container.name, container.image, container.volumes) == (name, images[upper].id, (volume,))
    assert datetime.now(UTC) - container.created_at < timedelta(hours=1)
    bench.engine.remove(name)
    network = f"{bench.prefix}-network"
    bench.engine.ensure_network(network, {})
    theirs = docker_engine.containers.create(upper, "true", volumes={volume: {"bind": "/rows"}})
    try:
        usage = bench.engine.usage()
    finally:
        theirs.remove()
    # That container inherits our label from the image, and is another's all the same.
    assert usage.containers == ()
    assert {image.name for image in usage.images if image.held} == {upper}
    assert [each.held for each in usage.volumes] == [True]
    assert [each.name for each in usage.networks] == [network]


def test_images_go_that_nobody_used_and_those_that_are_wanted_or_built_upon_stay(
    bench: Bench, store: SqlStore, tmp_path: Path
) -> None:
    base = built(bench, tmp_path / "base", "base", bench.image, 1000)
    runner = built(bench, tmp_path / "runner", "runner", base, 1000)
    built(bench, tmp_path / "old", "old", bench.image, 1000)
    policy = Policy(images=Unused(age=LONG))
    keeping = keeper(bench, store, policy, {runner: "it is the image of runner cpu"})
    plan, went, problems = keeping.apply({Kind.IMAGES}, "me", ignore, lambda: None)
    assert ([t.key for t in went], problems) == ([f"{bench.prefix}:old"], [])
    assert {s.key: s.why for s in plan.staying} == {
        base: "an image that is needed is built on it",
        runner: "it is the image of runner cpu",
    }
    assert set(bench.engine.owned().images) == {base, runner}
    assert keeping.apply({Kind.IMAGES}, "me", ignore, lambda: None)[1] == []
    assert keeper(bench, store, policy).apply({Kind.IMAGES}, "me", ignore, lambda: None)[2] == []
    assert bench.engine.owned().images == ()


def test_a_budget_is_kept_by_removing_the_least_recently_used(
    bench: Bench, store: SqlStore, tmp_path: Path
) -> None:
    tags = [built(bench, tmp_path / name, name, bench.image, 400_000) for name in ("one", "two", "three")]
    keeping = keeper(bench, store, Policy(images=Unused(budget=900_000)))
    _, went, problems = keeping.apply({Kind.IMAGES}, "me", ignore, lambda: None)
    assert ([t.key for t in went], problems) == (tags[:1], [])


def test_data_of_no_unfinished_run_goes_and_what_a_container_has_stays(bench: Bench, store: SqlStore) -> None:
    names = {}
    for letter in "abc":
        version = DatasetVersion("rows", letter * 64, 1, 1, number=1)
        names[letter] = naming.data_volume(store.instance, version.fingerprint)
        bench.engine.ensure_volume(names[letter], {})
        store.attempts.mark_staged("local", names[letter], datetime.now(UTC))
        if letter == "b":
            revision = Revision("repo", "main", "a" * 40, "a subject", "Ana", "ana@example.org")
            new = NewRun(pipeline(), Cause.PUSH, revision, (version,))
            store.runs.enqueue(new, (), "wine", datetime.now(UTC))
    holder = bench.name("holder")
    mounts = (VolumeMount(names["c"], "/rows", True),)
    bench.engine.create(replace(bench.spec("true"), name=holder, mounts=mounts))
    keeping = keeper(bench, store, Policy(volumes=Unused(age=LONG)))
    plan, went, problems = keeping.apply({Kind.VOLUMES}, "me", ignore, lambda: None)
    assert ([t.key for t in went], problems) == ([names["a"]], [])
    assert {s.key: s.why for s in plan.staying} == {
        names["b"]: "wine #1 has not ended",
        names["c"]: "a container has it",
    }
    assert set(bench.engine.owned().volumes) == {names["b"], names["c"]}
    assert [store.attempts.is_staged("local", names[letter]) for letter in "abc"] == [False, True, True]


def test_an_engine_that_refuses_is_told_and_the_rest_goes_on(
    bench: Bench, store: SqlStore, tmp_path: Path
) -> None:
    class Refusing:
        """Refuses to remove one image."""

        def __getattr__(self, name: str) -> object:
            return getattr(bench.engine, name)

        def remove_image(self, tag: str) -> None:
            if tag.endswith(":one"):
                raise EngineError("somebody uses it")
            bench.engine.remove_image(tag)

    tags = [built(bench, tmp_path / name, name, bench.image, 1000) for name in ("one", "two")]
    policy = Policy(images=Unused(age=LONG))
    keeping = HostKeeper(store, {"local": Refusing()}, [], dict, policy, Later())  # type: ignore[dict-item]
    _, went, problems = keeping.apply({Kind.IMAGES}, "me", ignore, lambda: None)
    assert [t.key for t in went] == tags[1:]
    assert problems == [f"local: {tags[0]} stays: somebody uses it"]
