"""What NVIDIA's tools print, as recorded, becomes what is known of GPUs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.adapters.docker import nvidia
from orchestrator.adapters.docker.convert import VISIBLE_GPUS, config_options, host_options
from orchestrator.adapters.docker.gpus import reported
from orchestrator.domain.gpu import Gpu
from orchestrator.domain.pipeline import Resources
from orchestrator.ports.engine import ContainerSpec
from orchestrator.ports.gpus import GpuAccess, GpuProcess, GpuReport, GpuSeen, GpuWay

MIB = 1 << 20
H100 = "GPU-3c1f4a52-9d5e-4f3b-8f53-0d2a5b1f8b67"
OTHER = "GPU-8f6d3b2a-1c4e-4d5f-9a6b-7c8d9e0f1a2b"
TWO_H100 = f"""#gpus
{H100}, 81559, 1485, 550.54.15, NVIDIA H100 80GB HBM3
{OTHER}, 81559, 1, 550.54.15, NVIDIA H100 80GB HBM3
#processes
{H100}, 4711, /opt/torch/.venv/bin/python3, with a comma
#partitioned
{H100}, Disabled
{OTHER}, Enabled
#minors
Model: \t\t NVIDIA H100 80GB HBM3
IRQ:   \t\t 144
GPU UUID: \t {H100}
Video BIOS: \t 96.00.74.00.01
Bus Type: \t PCIe
Bus Location: \t 0000:19:00.0
Device Minor: \t 3
GPU Excluded:\t No
Model: \t\t NVIDIA H100 80GB HBM3
GPU UUID: \t {OTHER}
Device Minor: \t 1
"""


def test_gpus_are_told_with_their_device_files_and_who_computes_on_them() -> None:
    first, second = nvidia.seen_of(TWO_H100)
    assert first == GpuSeen(
        Gpu(H100, "NVIDIA H100 80GB HBM3", 81559 * MIB, "550.54.15"),
        "/dev/nvidia3",
        1485 * MIB,
        (GpuProcess(4711, "/opt/torch/.venv/bin/python3, with a comma"),),
    )
    assert second.device == "/dev/nvidia1"
    assert (second.processes, second.partitioned) == ((), True)


def test_where_the_kernel_tells_no_minor_numbers_nvidias_program_does() -> None:
    told = f"    GPU UUID                 : {H100}\n    Minor Number             : 2\n"
    (seen,) = nvidia.seen_of(f"#gpus\n{H100}, 24564, 0, 535.183.01, NVIDIA GeForce RTX 4090\n#minors\n{told}")
    assert seen.device == "/dev/nvidia2"


@pytest.mark.parametrize("minors", ["", f"GPU UUID : {H100}\nMinor Number : N/A\n"])
def test_a_gpu_whose_device_file_nobody_tells_is_not_given_by_device_files(minors: str) -> None:
    seen = nvidia.seen_of(
        f"#gpus\n{H100}, 24564, 0, 535.183.01, GPU\n{OTHER}, 24564, 0, 535.183.01, GPU\n"
        f"#minors\n{minors}GPU UUID : {OTHER}\nDevice Minor : 0\n"
    )
    look = nvidia.Look(("/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"), "535.183.01", True)
    report = reported(seen, GpuWay.DEVICES, look, "mlci-driver")
    assert [one.gpu.uuid for one in report.gpus] == [OTHER]
    assert H100 in report.trouble
    # A runtime finds them itself, by UUID.
    assert reported(seen, GpuWay.RUNTIME, look, "") == GpuReport(seen, GpuWay.RUNTIME, look.common)


def test_memory_that_the_driver_does_not_tell_is_none() -> None:
    (seen,) = nvidia.seen_of(f"#gpus\n{H100}, [N/A], [N/A], 580.65.06, NVIDIA GB10\n")
    assert (seen.gpu.memory, seen.memory_used) == (0, 0)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "#gpus\n",
        "#gpus\nNo devices were found\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
        "#gpus\nFailed to initialize NVML: Driver/library version mismatch\n",
    ],
)
def test_complaints_are_no_gpus(said: str) -> None:
    assert nvidia.seen_of(said) == ()


def test_a_look_at_a_host_tells_its_device_files_and_its_driver() -> None:
    nodes = ("/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl")
    said = "".join(f"node {node}\n" for node in nodes)
    look = nvidia.look_of(said + "driver 550.54.15\nprogram /usr/bin/nvidia-smi\n")
    assert look.gpus == ("/dev/nvidia0", "/dev/nvidia1")
    assert look.common == ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
    assert (look.driver, look.program) == ("550.54.15", True)
    assert nvidia.look_of("") == nvidia.Look()


@pytest.mark.parametrize("script", [nvidia.LOOK, nvidia.COPY, nvidia.PROBE])
def test_scripts_are_understood_by_a_plain_shell(script: str, tmp_path: Path) -> None:
    shell = shutil.which("dash") or shutil.which("sh")
    assert shell is not None
    file = tmp_path / "script"
    file.write_text(script)
    subprocess.run([shell, "-n", str(file)], check=True)


def spec(gpus: GpuAccess | None, **env: str) -> ContainerSpec:
    return ContainerSpec("c", "image:1", ("true",), {}, env, "1000:1000", "/", Resources(), gpus=gpus)


def test_device_files_and_a_read_only_driver_are_given_where_nothing_else_works() -> None:
    report = GpuReport(
        (GpuSeen(Gpu(H100, "H100", 1), "/dev/nvidia3"), GpuSeen(Gpu(OTHER, "H100", 1), "/dev/nvidia1")),
        GpuWay.DEVICES,
        ("/dev/nvidiactl", "/dev/nvidia-uvm"),
        "mlci-driver",
    )
    options = host_options(spec(report.access([OTHER])))
    # To read and write, never to make others; and the other GPU's file is not there.
    assert options["devices"] == [
        f"{path}:{path}:rw" for path in ("/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm")
    ]
    assert options["device_requests"] == []
    (mount,) = options["mounts"]
    assert (mount["Target"], mount["Source"], mount["Type"], mount["ReadOnly"]) == (
        *("/usr/local/nvidia", "mlci-driver", "volume"),
        True,
    )


def test_the_driver_is_found_beside_what_image_and_user_set() -> None:
    access = GpuAccess(GpuWay.DEVICES, (H100,), ("/dev/nvidia0",), "mlci-driver")
    given = config_options(spec(access, PATH="/venv/bin"), "i" * 32, {"LD_LIBRARY_PATH": "/opt/lib"})
    assert {
        "PATH": "/venv/bin:/usr/local/nvidia/bin",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64:/opt/lib",
        VISIBLE_GPUS: "void",
    }.items() <= given["environment"].items()


def test_a_runtime_is_asked_for_the_leased_gpus_alone() -> None:
    (request,) = host_options(spec(GpuAccess(GpuWay.RUNTIME, (H100,))))["device_requests"]
    assert (request["Driver"], request["DeviceIDs"], request["Count"]) == ("nvidia", [H100], 0)
    assert request["Capabilities"] == [["gpu", "compute", "utility"]]
    (request,) = host_options(spec(GpuAccess(GpuWay.CDI, (H100, OTHER))))["device_requests"]
    assert request["DeviceIDs"] == [f"nvidia.com/gpu={H100}", f"nvidia.com/gpu={OTHER}"]
    assert request["Driver"] == "cdi"


@pytest.mark.parametrize(
    ("access", "visible"),
    [
        (None, "void"),
        (GpuAccess(GpuWay.RUNTIME, (H100, OTHER)), f"{H100},{OTHER}"),
        (GpuAccess(GpuWay.DEVICES, (H100,)), "void"),
    ],
)
def test_neither_image_nor_user_can_ask_a_default_runtime_for_other_gpus(
    access: GpuAccess | None, visible: str
) -> None:
    wants_all = {VISIBLE_GPUS: "all"}
    given = config_options(spec(access, **wants_all), "i" * 32, wants_all)
    assert given["environment"][VISIBLE_GPUS] == visible


@pytest.mark.parametrize("access", [None, GpuAccess(GpuWay.RUNTIME, (H100,)), GpuAccess(GpuWay.CDI, (H100,))])
def test_neither_image_nor_user_opens_other_devices_of_the_host_by_words_of_nvidias(
    access: GpuAccess | None,
) -> None:
    words = ("MOFED", "GDS", "GDRCOPY", "NVSWITCH", "IMEX_CHANNELS", "MIG_CONFIG_DEVICES")
    wanted = {f"NVIDIA_{word}": "enabled" for word in words} | {"NVIDIA_DRIVER_CAPABILITIES": "all"}
    given = config_options(spec(access, **wanted), "i" * 32, wanted)["environment"]
    assert [given[name] for name in wanted] == [*(["disabled"] * 4), "", "", "compute,utility"]


def test_a_run_without_gpus_has_no_device_files() -> None:
    options = host_options(spec(None))
    assert (options["devices"], options["device_requests"], options["mounts"]) == ([], [], [])
