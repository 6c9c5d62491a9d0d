"""GPUs on a real engine. The host's are made up (``support/fakegpu.py``); what containers see is not."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.domain.gpu import Gpu
from orchestrator.domain.pipeline import HELPER_IMAGE
from orchestrator.ports.gpus import GpuAccess, GpuProcess, GpuReport, GpuWay
from tests.support.containers import Bench
from tests.support.fakegpu import DRIVER, MEMORY, MODEL, compute_on, give_gpus, leave, uuid_of
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


def test_the_gpus_of_a_host_without_nvidias_runtime_are_found(there: Bench) -> None:
    report = there.engine.gpus(there.image)
    assert (report.way, report.trouble) == (GpuWay.DEVICES, "")
    assert [seen.gpu for seen in report.gpus] == [Gpu(uuid_of(n), MODEL, MEMORY, DRIVER) for n in (0, 1)]
    assert [seen.processes for seen in report.gpus] == [(), ()]
    # A second look finds the same, and nothing is left behind but the driver's volume.
    assert there.engine.gpus(there.image) == report
    owned = there.engine.owned()
    assert (owned.containers, owned.volumes) == ((), (report.volume,))


def test_the_driver_in_a_container_is_found_and_cannot_be_changed(there: Bench) -> None:
    report = there.engine.gpus(there.image)
    script = "ls $LD_LIBRARY_PATH; touch /usr/local/nvidia/lib64/evil 2>&1 | grep -o Read-only"
    seen = prints(there, report.access([uuid_of(0)]), script)
    assert {f"libcuda.so.{DRIVER}", "libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1"} <= set(seen)
    assert seen[-1] == "Read-only"


def test_who_computes_on_a_gpu_outside_of_any_container_is_told(there: Bench, gpu_host: Host) -> None:
    pid = compute_on(gpu_host, 1)
    try:
        free, used = there.engine.gpus(there.image).gpus
    finally:
        leave(gpu_host, 1)
    assert (free.processes, used.processes) == ((), (GpuProcess(pid, "fake-train-1"),))
    assert there.engine.gpus(there.image).gpus[1].processes == ()


def test_a_volume_of_the_driver_that_somebody_removed_is_made_again(there: Bench) -> None:
    report = there.engine.gpus(there.image)
    there.engine.remove_volume(report.volume)
    assert there.engine.gpus(there.image) == report
    assert there.engine.owned().volumes == (report.volume,)


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("/dev/nvidia-uvm", "it has /dev/nvidia0, and no /dev/nvidia-uvm; run `nvidia-modprobe"),
        ("/usr/bin/nvidia-smi", "it has /dev/nvidia0, and no libraries of NVIDIA's driver below /usr;"),
    ],
)
def test_a_half_installed_driver_is_told_with_what_to_do(
    there: Bench, gpu_host: Host, lost: str, says: str
) -> None:
    gpu_host.run("rm", lost)
    try:
        report = there.engine.gpus(there.image)
    finally:
        give_gpus(gpu_host)
    assert (report.gpus, report.way) == ((), None)
    assert report.trouble.startswith(says)


def test_a_gpu_that_falls_off_the_bus_is_missed_and_found_again(there: Bench, gpu_host: Host) -> None:
    assert len(there.engine.gpus(there.image).gpus) == 2
    gpu_host.run("rm", "/dev/nvidia0")
    try:
        left = there.engine.gpus(there.image)
    finally:
        give_gpus(gpu_host)
    assert [seen.gpu.uuid for seen in left.gpus] == [uuid_of(1)]


def test_a_host_without_gpus_has_none_and_no_trouble(there: Bench, gpu_host: Host) -> None:
    gpu_host.run("rm", "/dev/nvidia0", "/dev/nvidia1")
    try:
        assert there.engine.gpus(there.image) == GpuReport()
    finally:
        give_gpus(gpu_host)
    assert there.engine.owned().containers == ()
