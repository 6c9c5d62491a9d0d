"""Images on the real engine: built, committed, and nothing left of those that failed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tarfile
import threading
import time
import uuid
from pathlib import Path

import docker
import pytest

from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.domain.errors import ImageRejected
from orchestrator.domain.pipeline import Resources
from orchestrator.ports.progress import ProgressEvent
from tests.support.containers import HOME, SOCKET, Bench
from tests.support.relay import Relay
from tests.support.waiting import wait_until


def ignore(event: ProgressEvent) -> None:
    """A sink for those who do not look."""


def test_a_built_image_carries_labels_and_its_output_is_told_line_by_line(
    bench: Bench, docker_engine: docker.DockerClient, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {bench.image}\nCOPY hello /hello\nRUN cat /hello\n")
    (tmp_path / "hello").write_text(f"hello from {bench.prefix}\n")
    told: list[str] = []
    tag = f"{bench.prefix}:built"
    made = bench.engine.build(
        tmp_path, "Dockerfile", tag, {"mlci.test": "image"}, lambda e: told.append(e.line)
    )
    assert bench.engine.find_image(tag) == made
    assert f"hello from {bench.prefix}" in told
    labels = docker_engine.images.get(tag).labels
    assert (labels["mlci.instance"], labels["mlci.test"]) == (bench.prefix, "image")
    assert bench.engine.owned().images == (tag,)


LOOK = """\
FROM {base}
RUN echo memory $(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null)
RUN echo routes $(cat /proc/net/route | wc -l)
"""


def test_a_strangers_dockerfile_runs_within_its_limits_and_reaches_no_network(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(LOOK.format(base=bench.image) + f"RUN echo {bench.prefix}\n")
    told: list[str] = []
    limits = Resources(cpus=0.5, memory=64 << 20)
    bench.engine.build(
        tmp_path,
        "Dockerfile",
        f"{bench.prefix}:bounded",
        {},
        lambda e: told.append(e.line),
        limits,
        network=False,
    )
    assert f"memory {64 << 20}" in told
    assert "routes 1" in told, "but for the table's heading"


def test_a_build_that_is_not_cached_takes_no_layer_of_another(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {bench.image}\nRUN echo {bench.prefix}\n")

    def lines_were_run(name: str, cached: bool) -> bool:
        told: list[str] = []
        tag = f"{bench.prefix}:{name}"
        bench.engine.build(
            tmp_path, "Dockerfile", tag, {}, lambda event: told.append(event.line), cached=cached
        )
        return bench.prefix in told

    assert lines_were_run("ours", cached=True)
    assert not lines_were_run("again", cached=True)
    assert lines_were_run("strangers", cached=False)


class Unwanted(Exception):
    """Nobody wants the build any more."""


@pytest.mark.parametrize("line", ["while :; do echo {token}; done", "echo {token}; sleep 100"])
def test_a_build_that_nobody_wants_any_more_ends_at_once_whether_it_speaks_or_not(
    bench: Bench, docker_engine: docker.DockerClient, tmp_path: Path, line: str
) -> None:
    token = uuid.uuid4().hex
    (tmp_path / "Dockerfile").write_text(
        f"FROM {bench.image}\nRUN echo {token} one\nRUN {line.format(token=token)}\n"
    )
    running = threading.Event()

    def hear(event: ProgressEvent) -> None:
        if event.line == token:
            running.set()

    def interrupt() -> None:
        if running.is_set():
            raise Unwanted

    def going_on() -> bool:
        return any(
            token in str(c.attrs["Config"]["Cmd"])
            for c in docker_engine.containers.list(all=True, ignore_removed=True)
        )

    began = time.monotonic()
    with pytest.raises(Unwanted):
        bench.engine.build(tmp_path, "Dockerfile", f"{bench.prefix}:bad", {}, hear, interrupt=interrupt)
    assert time.monotonic() - began < 50
    wait_until(lambda: not going_on(), "the container of the build to go", 20)
    assert left_by(docker_engine, token) == []


@pytest.mark.parametrize("lent", [True, False])
def test_passwords_of_registries_are_sent_for_builds_that_they_are_lent_to_alone(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lent: bool
) -> None:
    login = base64.b64encode(b"ana:made-up-password").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.invalid": {"auth": login}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {bench.image}\nLABEL mlci.test={bench.prefix}\n")
    with Relay(tmp_path / "s", SOCKET.removeprefix("unix://")) as relay:
        engine = DockerEngine(relay.url, bench.prefix)
        engine.build(folder, "Dockerfile", f"{bench.prefix}:lent", {}, ignore, credentials=lent)
        engine.close()
        assert b"/build?" in relay.asked
        assert (b"x-registry-config" in relay.asked.lower()) is lent


def left_by(client: docker.DockerClient, token: str) -> list[str]:
    """The images whose making mentions the token."""
    found = []
    for image in client.api.images(all=True):
        try:
            described = client.api.inspect_image(image["Id"])  # type: ignore[no-untyped-call]
        except docker.errors.ImageNotFound:
            continue
        if token in str(described["ContainerConfig"]["Cmd"]):
            found.append(image["Id"])
    return found


def test_a_failed_build_shows_the_end_of_its_output_and_leaves_no_image_behind(
    bench: Bench, docker_engine: docker.DockerClient, tmp_path: Path
) -> None:
    token = uuid.uuid4().hex
    (tmp_path / "Dockerfile").write_text(
        f"FROM {bench.image}\nRUN echo {token}-1\nRUN echo {token}-2\n"
        "RUN echo no space left on device; exit 9\n"
    )
    tag = f"{bench.prefix}:broken"
    with pytest.raises(ImageRejected, match="non-zero code: 9") as caught:
        bench.engine.build(tmp_path, "Dockerfile", tag, {}, ignore)
    assert f"{token}-2" in caught.value.log
    assert "no space left on device" in caught.value.log
    assert left_by(docker_engine, token) == []
    assert bench.engine.find_image(tag) is None
    assert bench.engine.find_image(bench.image) is not None


def test_a_failed_build_leaves_the_layers_of_another_alone(
    bench: Bench, docker_engine: docker.DockerClient, tmp_path: Path
) -> None:
    shared = f"FROM {bench.image}\nRUN echo {uuid.uuid4().hex}\n"
    (tmp_path / "Dockerfile").write_text(shared)
    tag = f"{bench.prefix}:good"
    made = bench.engine.build(tmp_path, "Dockerfile", tag, {}, ignore)
    layers = [entry["Id"] for entry in docker_engine.images.get(tag).history()]
    (tmp_path / "Dockerfile").write_text(shared + "RUN false\n")
    with pytest.raises(ImageRejected):
        bench.engine.build(tmp_path, "Dockerfile", f"{bench.prefix}:bad", {}, ignore)
    assert bench.engine.find_image(tag) == made
    assert [entry["Id"] for entry in docker_engine.images.get(tag).history()] == layers


@pytest.mark.parametrize(
    "content", ["FROM {image}\nNOSUCH line\n", "RUN true\n", None], ids=["bad line", "no FROM", "absent"]
)
def test_a_dockerfile_that_cannot_be_read_is_rejected(
    bench: Bench, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "Dockerfile").write_text(content.format(image=bench.image))
    with pytest.raises(ImageRejected):
        bench.engine.build(tmp_path, "Dockerfile", f"{bench.prefix}:bad", {}, ignore)


def test_a_committed_image_has_the_files_and_the_configuration_of_its_base(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    bench.shell(f"echo kept > {HOME}/file")
    tag = f"{bench.prefix}:setup"
    bench.engine.commit(bench.name(), tag, {"mlci.test": "image"}, ())
    bench.engine.remove(bench.name())
    base, made = docker_engine.images.get(bench.image).attrs, docker_engine.images.get(tag).attrs
    differing = {key for key in base["Config"] if base["Config"][key] != made["Config"].get(key)}
    assert differing == {"Labels"}
    assert made["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    _, lines = bench.shell(f"cat {HOME}/file", image=tag)
    assert [line.text for line in lines] == [b"kept"]
    bench.engine.remove(bench.name())


def test_committing_again_replaces_the_image_and_leaves_none_without_a_name(bench: Bench) -> None:
    bench.shell(f"echo kept > {HOME}/file")
    tag = f"{bench.prefix}:setup"
    bench.engine.commit(bench.name(), tag, {}, ())
    again = bench.engine.commit(bench.name(), tag, {}, ())
    assert bench.engine.find_image(tag) == again
    for name in bench.engine.owned().images:
        if name != tag:
            bench.engine.remove_image(name)
    assert bench.engine.owned().images == (tag,)


def test_of_those_who_ask_for_a_volume_at_once_exactly_one_made_it(
    engine: DockerEngine, bench: Bench
) -> None:
    ready, answers = threading.Barrier(8), []

    def ask() -> None:
        ready.wait()
        answers.append(engine.ensure_volume(bench.name("vol"), {}))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]


def test_an_archive_larger_than_any_buffer_goes_in_and_comes_out(bench: Bench, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 40
    (tmp_path / "big").write_bytes(content)
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "big", "big")
    bench.engine.create(bench.spec("true"))
    with (tmp_path / "t.tar").open("rb") as packed:
        bench.engine.put(bench.name(), HOME, packed)
    stream = bench.engine.get(bench.name(), f"{HOME}/big")
    assert stream is not None
    with stream as source, tarfile.open(fileobj=source, mode="r|") as tar:
        member = tar.next()
        assert member is not None
        extracted = tar.extractfile(member)
        assert extracted is not None
        digest = hashlib.sha256()
        while block := extracted.read(1 << 20):
            digest.update(block)
    assert digest.digest() == hashlib.sha256(content).digest()
