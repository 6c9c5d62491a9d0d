"""A run with GPUs has those that it was given, and no other right for it; one without has none."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.domain.pipeline import HELPER_IMAGE
from orchestrator.ports.gpus import GpuAccess
from tests.support.containers import Bench
from tests.support.fakegpu import MODEL, uuid_of
from tests.support.hosts import Host

pytestmark = pytest.mark.xdist_group("gpu-host")


@pytest.fixture
def there(gpu_host: Host) -> Iterator[Bench]:
    """A bench on the engine of the host with GPUs."""
    prefix = f"mlci-test-{uuid.uuid4().hex[:8]}"
    with closing(DockerEngine(gpu_host.url, uuid.uuid4().hex)) as engine:
        yield Bench(engine, HELPER_IMAGE, prefix)


def prints(bench: Bench, gpus: GpuAccess | None, script: str = "nvidia-smi -L 2>&1") -> list[str]:
    """What a container with these GPUs, and all the safe defaults, prints."""
    _, lines = bench.shell(script, gpus=gpus)
    return [line.text.decode() for line in lines]


def test_a_container_sees_the_gpu_that_it_was_given_and_no_other(there: Bench) -> None:
    report = there.engine.gpus(there.image)
    seen = prints(there, report.access([uuid_of(1)]), "nvidia-smi -L; ls /dev | grep nvidia; id -u")
    assert seen == [
        f"GPU 0: {MODEL} (UUID: {uuid_of(1)})",
        *("nvidia-uvm", "nvidia1", "nvidiactl", "1000"),
    ]


def test_a_container_without_gpus_sees_none_of_them(there: Bench) -> None:
    there.engine.gpus(there.image)
    seen = prints(
        there, None, "ls /dev | grep nvidia; ls /usr/local/nvidia 2>&1; echo $NVIDIA_VISIBLE_DEVICES"
    )
    assert seen == ["ls: cannot access '/usr/local/nvidia': No such file or directory", "void"]


def test_a_container_with_a_gpu_has_no_more_rights_than_others(there: Bench, gpu_host: Host) -> None:
    report = there.engine.gpus(there.image)
    make = "mknod /tmp/nvidia0 c 1 3 2>&1 | grep -o 'not permitted'; grep CapEff /proc/self/status"
    assert prints(there, report.access([uuid_of(1)]), make) == ["not permitted", f"CapEff:\t{0:016x}"]
    with closing(gpu_host.client()) as client:
        made = client.api.inspect_container(there.name())
    assert made["HostConfig"]["Binds"] is None
    assert [(mount["Type"], mount["RW"]) for mount in made["Mounts"]] == [("volume", False)]
    assert (made["HostConfig"]["CapAdd"], made["HostConfig"]["CapDrop"]) == (None, ["ALL"])
    assert (made["HostConfig"]["Privileged"], made["HostConfig"]["PidMode"]) == (False, "")
    assert {device["CgroupPermissions"] for device in made["HostConfig"]["Devices"]} == {"rw"}
