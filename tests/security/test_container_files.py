"""Archive tricks, compressed bodies, secrets in images, builds that look around: files in and out."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from orchestrator.domain.errors import EngineError, ImageRejected
from tests.support.containers import HOME, Bench, docker_bench, tar_of

SECRET = "hunter2-but-longer"


@pytest.fixture
def bench(docker_engine: docker.DockerClient, base_image: str) -> Iterator[Bench]:
    with docker_bench(base_image) as bench:
        yield bench


def test_a_sparse_file_of_50_gb_that_is_not_read_to_its_end_blocks_nothing(bench: Bench) -> None:
    bench.shell(f"truncate -s 50G {HOME}/huge")
    began = time.monotonic()
    stream = bench.engine.get(bench.name(), f"{HOME}/huge")
    assert stream is not None
    with stream as source, tarfile.open(fileobj=source, mode="r|") as tar:
        member = tar.next()
        assert member is not None
        assert member.size == 50 << 30
        content = tar.extractfile(member)
        assert content is not None
        assert content.read(1 << 20) == bytes(1 << 20)
        source.close()
    assert bench.engine.info().id
    bench.engine.remove(bench.name())
    assert bench.engine.find(bench.name()) is None
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, bz2.compress, lzma.compress, lambda plain: b"\x28\xb5\x2f\xfd" + plain],
    ids=["gzip", "bzip2", "xz", "zstd"],
)
def test_a_compressed_body_never_reaches_the_engine(bench: Bench, compress: Callable[[bytes], bytes]) -> None:
    bench.engine.create(bench.spec("true"))
    body = compress(tar_of({"a": b"a" * 10_000}).read())
    with pytest.raises(EngineError, match="not a plain tar"):
        bench.engine.put(bench.name(), HOME, io.BytesIO(body))
    assert bench.engine.get(bench.name(), f"{HOME}/a") is None


def test_the_environment_of_a_setup_is_nowhere_in_its_image(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    spec = replace(bench.spec("true"), env={"HOME": "/elsewhere", "TOKEN": SECRET, "PLAIN": "plain-value"})
    bench.run(spec)
    tag = f"{bench.prefix}:setup"
    bench.engine.commit(spec.name, tag, {}, ("TOKEN", "HOME"))
    image = docker_engine.images.get(tag)
    base = docker_engine.images.get(bench.image)
    assert image.attrs["Config"]["Env"] == base.attrs["Config"]["Env"]
    for shown in (json.dumps(image.attrs), json.dumps(image.history())):
        assert SECRET not in shown
        assert "TOKEN" not in shown
        assert "plain-value" not in shown


def escape_by_name(folder: Path) -> str:
    (folder.parent / "outside").write_text("FROM scratch\n")
    return "../outside"


def escape_by_path(folder: Path) -> str:
    (folder.parent / "outside").write_text("FROM scratch\n")
    return str(folder.parent / "outside")


def escape_by_link(folder: Path) -> str:
    (folder.parent / "outside").write_text("FROM scratch\nLABEL stolen=yes\n")
    (folder / "Dockerfile").symlink_to(folder.parent / "outside")
    return "Dockerfile"


def endless_ignore_file(folder: Path) -> str:
    (folder / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    (folder / ".dockerignore").symlink_to("/dev/zero")
    return "Dockerfile"


@pytest.mark.parametrize("trick", [escape_by_name, escape_by_path, escape_by_link, endless_ignore_file])
def test_a_build_reads_nothing_outside_its_folder(
    bench: Bench, tmp_path: Path, trick: Callable[[Path], str]
) -> None:
    folder = tmp_path / "context"
    folder.mkdir()
    dockerfile = trick(folder)
    with pytest.raises(ImageRejected):
        bench.engine.build(folder, dockerfile, f"{bench.prefix}:bad", {}, lambda event: None)
    assert bench.engine.find_image(f"{bench.prefix}:bad") is None


def test_links_and_pipes_in_a_build_folder_are_not_followed(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    folder.mkdir()
    (tmp_path / "secret").write_text(SECRET)
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    (folder / "Dockerfile").write_text(
        f"FROM {bench.image}\nCOPY . /seen/\nRUN ls -lR /seen; cat /seen/link /seen/linked/secret; true\n"
    )
    told: list[str] = []
    tag = f"{bench.prefix}:links"
    bench.engine.build(folder, "Dockerfile", tag, {}, lambda event: told.append(event.line))
    assert any("link ->" in line for line in told)
    assert not any(SECRET in line for line in told)


def test_nothing_of_the_orchestrators_own_environment_is_seen_by_a_build_or_a_run(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    proxy = f"http://user:{SECRET}@proxy.invalid:3128"
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": proxy}}}))
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {bench.image}\nRUN env\n")
    told: list[str] = []
    with docker_bench(bench.image) as own:
        own.engine.build(folder, "Dockerfile", f"{own.prefix}:env", {}, lambda e: told.append(e.line))
        _, lines = own.shell("env")
    assert any(line.startswith("PATH=") for line in told)
    assert any(line.text.startswith(b"HOME=") for line in lines)
    assert not any(SECRET in line for line in told)
    assert not any(SECRET.encode() in line.text for line in lines)
