"""Data and images on their way to hosts over SSH, while the way breaks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path

import docker
import pytest

from orchestrator.adapters.datasets.folder import FolderDataset
from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.adapters.docker.registries import Login, Logins
from orchestrator.adapters.process import SystemClock
from orchestrator.adapters.ssh import SshLinks
from orchestrator.domain.change import DatasetRole
from orchestrator.domain.errors import RegistryDenied
from orchestrator.domain.pipeline import HELPER_IMAGE, DatasetSpec, HostSpec, SshSpec
from orchestrator.ports.engine import VolumeMount
from orchestrator.ports.progress import ProgressEvent
from orchestrator.services import naming
from orchestrator.services.bounds import carry_on
from orchestrator.services.staging import Stager
from orchestrator.services.supply import ImageSupply
from orchestrator.store import open_store
from tests.support.containers import Bench, docker_bench, tar_of
from tests.support.hosts import Host, HostNetwork
from tests.support.link import Link
from tests.support.registry import Registry
from tests.support.waiting import wait_until

Hosts = tuple[Host, Host]
MIB = 1 << 20
SIZE = 48 * MIB
PART = 4 * MIB


def ignore(event: ProgressEvent) -> None:
    """A sink for those who do not look."""


class Way:
    """Engines of hosts over SSH."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._known = folder / "ssh" / "known_hosts"
        self._links = stack.enter_context(closing(SshLinks(self._known, SystemClock())))
        self._stack = stack

    def spec(self, host: Host, link: Link | None = None) -> HostSpec:
        """A host as configured, its key trusted; reached through ``link`` if there is one."""
        address, port = ("127.0.0.1", link.port) if link else (host.address, host.port)
        self._known.parent.mkdir(exist_ok=True)
        with self._known.open("a") as file:
            file.write(f"{host.line_at(address, port)}\n")
        ssh = SshSpec(address, host.user, port, str(host.key_path))
        return HostSpec(host.name, str(ssh), ssh=ssh, lost_after=60)

    def engine(self, spec: HostSpec, prefix: str = "test", logins: Logins | None = None) -> DockerEngine:
        """Its engine."""
        made = DockerEngine(spec.engine, prefix, logins=logins, way=self._links.link(spec))
        return self._stack.enter_context(closing(made))


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    with ExitStack() as stack:
        yield Way(tmp_path, stack)


@pytest.fixture
def local(docker_engine: docker.DockerClient, base_image: str) -> Iterator[Bench]:
    """The engine here; what is made on it is gone after the test."""
    with docker_bench(base_image) as made:
        yield made


@contextmanager
def seen_from(host: Host, registry: Registry) -> Iterator[None]:
    """A registry of this machine at the same address of a host."""
    ssh = ("ssh", "-N", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no")
    known = ("-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes", "-F", "/dev/null")
    back = ("-R", f"{registry.host}:{registry.host}", "-i", str(host.key_path), f"{host.user}@{host.address}")
    tunnel = subprocess.Popen([*ssh, *known, *back], stderr=subprocess.DEVNULL)
    try:
        number = f"{registry.port:04X}"
        wait_until(lambda: number in host.run("cat", "/proc/net/tcp"), "the registry to be seen")
        yield
    finally:
        tunnel.terminate()
        tunnel.wait(10)


def test_data_go_on_where_a_broken_link_left_them_and_arrive_whole(
    hosts: Hosts, way: Way, tmp_path: Path
) -> None:
    folder = tmp_path / "wine"
    folder.mkdir()
    (folder / "large.bin").write_bytes(os.urandom(SIZE))
    (folder / "rows.csv").write_text("1,2\n")
    dataset = DatasetSpec("wine", str(folder), DatasetRole.TRAIN, settle=0)
    source, clock = FolderDataset(tmp_path), SystemClock()
    told, cut = list[int](), list[bool]()
    with (
        hosts[0].over_a_link() as link,
        closing(open_store(f"sqlite:///{tmp_path / 'db.sqlite'}")) as store,
    ):
        spec = way.spec(hosts[0], link)
        engine = way.engine(spec)

        def cut_in_the_middle(event: ProgressEvent) -> None:
            if event.what.startswith("staging"):
                told.append(event.done or 0)
                if told[-1] >= SIZE // 2 and not cut:
                    cut.append(True)
                    link.drop()

        found = source.snapshot(dataset, (), ignore)
        version = store.detection.record_version(dataset, found.fingerprint, found.entries, clock.now())
        stager = Stager(store, source, ImageSupply(), {spec.name: spec}, clock, "me", PART)
        have = (engine, spec.name, dataset, version, (1000, 1000), carry_on, cut_in_the_middle)
        mount = stager.have(*have)
        assert isinstance(mount, VolumeMount)
        assert told[-1] == version.size
        backwards = [a - b for a, b in pairwise(told) if b < a]
        assert len(backwards) == 1, "the link was to break once"
        assert backwards[0] <= 2 * PART, "more than the part that was under way was sent again"
        with closing(hosts[0].client()) as inside:
            large = next(entry for entry in found.entries if entry.size == SIZE)
            check = f"echo {large.sha256}  {naming.data_files('wine')}/large.bin | sha256sum -c"
            volumes = {mount.volume: {"bind": mount.target, "mode": "ro"}}
            said = inside.containers.run(HELPER_IMAGE, ["sh", "-c", check], volumes=volumes, remove=True)
            assert said.decode().strip().endswith("OK")


def test_an_image_is_copied_as_it_is_and_nothing_stays_of_a_copy_that_breaks_off(
    host_network: HostNetwork, way: Way, local: Bench, docker_engine: docker.DockerClient
) -> None:
    name = f"{local.prefix}:copied"
    digest = local.engine.import_image(tar_of({"large": os.urandom(8 * MIB)}))
    docker_engine.images.get(digest).tag(*name.split(":"))
    supply = ImageSupply(lambda: {"local": local.engine})
    with host_network.host() as bare:
        engine = way.engine(way.spec(bare))

        class Enough(Exception):
            pass

        def enough(event: ProgressEvent) -> None:
            if (event.done or 0) > MIB:
                raise Enough

        with pytest.raises(Enough):
            supply.have(engine, name, enough)
        with closing(bare.client()) as inside:
            assert inside.images.list() == []
        assert supply.have(engine, name, ignore) == digest
        assert engine.find_image(name) == digest
    docker_engine.images.remove(name)


def test_registries_ask_for_the_administrators_login_on_hosts_over_ssh_too(
    hosts: Hosts, way: Way, docker_engine: docker.DockerClient
) -> None:
    with Registry(("ci", "made-up-password"), token=True) as registry, seen_from(hosts[0], registry):
        name = registry.add(docker_engine, "team/private")
        spec = way.spec(hosts[0])
        logins = Logins((registry.host,), lambda asked: Login("ci", "made-up-password"))
        with pytest.raises(RegistryDenied):
            way.engine(spec).pull(name, ignore)
        engine = way.engine(spec, logins=logins)
        try:
            assert engine.pull(name, ignore) == engine.find_image(name)
        finally:
            with closing(hosts[0].client()) as inside:
                inside.images.remove(name)
