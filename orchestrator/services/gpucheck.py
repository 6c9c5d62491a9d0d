"""Proof by a container that a host's GPUs compute: a run would find what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from orchestrator.domain.errors import EngineError
from orchestrator.domain.gpu import Gpu, HostGpus
from orchestrator.domain.pipeline import HostSpec, Resources
from orchestrator.ports.engine import ContainerSpec, ContainerState, Engine
from orchestrator.ports.world import Clock
from orchestrator.services import naming
from orchestrator.services.gpus import Gpus
from orchestrator.services.networkcheck import Finding

_PATIENCE = 60.0
# CUDA itself is asked, by its own library: nvidia-smi works also where programs cannot compute.
_CUDA = """
import ctypes
cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
error = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
print("cuda", count.value) if not error else print("cuda failed with error", error)
"""
_LOOK = f"""
nvidia-smi -L || exit $?
if command -v python3 >/dev/null; then python3 -c '{_CUDA}' || echo 'cuda failed'; fi
"""


def try_gpu(
    gpus: Gpus, engine: Engine, host: HostSpec, leased: Mapping[str, int], name: str, clock: Clock
) -> Finding:
    """Run a container as a run would on a GPU that is free. Raises EngineError.

    ``leased`` are the host's GPUs that attempts have; ``name`` is what the container is called.
    """
    if host.gpus == ():
        return Finding("ok", "runs get none: `gpus: none`")
    found = gpus.look(host.name)
    if not found.gpus:
        if found.trouble:
            return Finding("warn", found.trouble)
        return Finding("ok", "it has none of NVIDIA's")
    free = found.free(leased)
    if not free:
        return Finding("warn", f"{_told(found)}; not tried, for none is free: {_users(found, leased)}")
    said = _run(gpus, engine, host, free[0], name, clock)
    listed = sum(line.startswith("GPU ") for line in said)
    if listed != 1:
        return Finding("fail", f"a container that was given 1 GPU sees {listed}: {' '.join(said)[-300:]}")
    cuda = [line for line in said if line.startswith("cuda")]
    if cuda and cuda != ["cuda 1"]:
        wrong = next((line for line in reversed(said) if "Error" in line), cuda[-1])
        return Finding("fail", f"{_told(found)}; nvidia-smi works there, and CUDA does not: {wrong}")
    trouble = f"; {found.trouble}" if found.trouble else ""
    users = f"; {_users(found, leased)}" if len(free) < len(found.gpus) else ""
    told = f"{_told(found)}; {'CUDA starts' if cuda else 'nvidia-smi answers'} in a container{users}{trouble}"
    return Finding("warn" if found.trouble else "ok", told)


def _told(found: HostGpus) -> str:
    models = [gpu.model for gpu in found.gpus]
    counted = ", ".join(f"{models.count(model)} x {model}" for model in dict.fromkeys(models))
    return f"{counted} (driver {found.gpus[0].driver})"


def _users(found: HostGpus, leased: Mapping[str, int]) -> str:
    told = [f"attempt {leased[gpu.uuid]} has {gpu.uuid}" for gpu in found.gpus if gpu.uuid in leased]
    return "; ".join([*told, *(f"{uuid} is used by {who}" for uuid, who in found.busy.items())])


def _run(gpus: Gpus, engine: Engine, host: HostSpec, gpu: Gpu, name: str, clock: Clock) -> list[str]:
    engine.remove(name)
    try:
        engine.create(
            ContainerSpec(
                name=name,
                image=host.helper_image,
                command=("/bin/sh", "-c", _LOOK),
                labels={naming.ROLE_LABEL: "check"},
                env={},
                user="1000:1000",
                workdir="/",
                resources=Resources(memory=1 << 30, pids=64),
                gpus=gpus.access_to(engine, host.name, (gpu,)),
            )
        )
        engine.start(name)
        deadline = clock.monotonic() + _PATIENCE
        while (found := engine.find(name)) is not None and found.state is not ContainerState.EXITED:
            if clock.monotonic() > deadline:
                raise EngineError(f"a container with a GPU had not ended after {_PATIENCE:.0f} s")
            clock.sleep(0.1)
        with closing(engine.logs(name, None)) as lines:
            return [line.text.decode(errors="replace") for line in lines]
    finally:
        engine.remove(name)
