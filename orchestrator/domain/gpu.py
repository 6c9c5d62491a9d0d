"""GPUs: which of a host's fit a runner's wish, which an attempt gets, and how one was used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.domain.pipeline import Resources

_KEPT_BY_DRIVER = 1 / 12
"""A GPU that is sold with 24 GB tells 22.5 GiB where its driver keeps memory for error correction."""
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, by the UUID that its maker gave it. ``memory`` in bytes; ``model`` as its driver names it."""

    uuid: str
    model: str
    memory: int
    driver: str = ""
    """The driver's version."""


@dataclass(frozen=True, slots=True)
class GpuUse:
    """How a GPU was used while an attempt had it, by ``samples`` looks.

    ``mean`` and ``peak`` are shares of time in which it computed, from 0 to 1; ``memory_peak`` is in bytes.
    """

    uuid: str
    samples: int
    mean: float
    peak: float
    memory_peak: int


@dataclass(frozen=True, slots=True)
class HostGpus:
    """The GPUs of a host that runs may use, as they were at the last look."""

    gpus: tuple[Gpu, ...] = ()
    busy: Mapping[str, str] = field(default_factory=dict)
    """By UUID, who else uses one."""
    trouble: str = ""
    """Why there are none, or none can be used, and what to do about it."""
    known: bool = True
    """False: the host was not asked yet, or did not answer."""

    def free(self, leased: Mapping[str, int]) -> tuple[Gpu, ...]:
        """Those that nobody uses. ``leased`` has the attempts that have one, by UUID."""
        return tuple(gpu for gpu in self.gpus if gpu.uuid not in leased and gpu.uuid not in self.busy)


def fits(gpu: Gpu, wish: Resources) -> bool:
    """Whether it is of the model, and has the memory, that a runner asks for."""
    if not set(_WORD.findall(wish.gpu_model.lower())) <= set(_WORD.findall(gpu.model.lower())):
        return False
    return wish.gpu_memory is None or gpu.memory >= wish.gpu_memory * (1 - _KEPT_BY_DRIVER)


def chosen(free: Sequence[Gpu], wish: Resources) -> tuple[Gpu, ...] | None:
    """The GPUs that a runner gets of those that are free, or None where they are too few.

    All of one model where there are enough of one; then the smallest that fit, so that the largest stay for
    those who need them.
    """
    if not wish.gpus:
        return ()
    fitting = sorted((gpu for gpu in free if fits(gpu, wish)), key=lambda gpu: (gpu.memory, gpu.uuid))
    for model in dict.fromkeys(gpu.model for gpu in fitting):
        same = [gpu for gpu in fitting if gpu.model == model]
        if len(same) >= wish.gpus:
            return tuple(same[: wish.gpus])
    return tuple(fitting[: wish.gpus]) if len(fitting) >= wish.gpus else None


def wished(wish: Resources) -> str:
    """A wish in words: ``2 GPUs (H100, 80 GiB each)``."""
    parts = [wish.gpu_model] if wish.gpu_model else []
    if wish.gpu_memory is not None:
        parts.append(f"{wish.gpu_memory / (1 << 30):g} GiB each")
    count = "1 GPU" if wish.gpus == 1 else f"{wish.gpus} GPUs"
    return f"{count} ({', '.join(parts)})" if parts else count


def never_fits(host: HostGpus, wish: Resources) -> str | None:
    """Why a host can never give what a runner asks for; None when it may once they are free, or work."""
    if not wish.gpus or not host.known or host.trouble:
        return None
    fitting = [gpu for gpu in host.gpus if fits(gpu, wish)]
    if len(fitting) >= wish.gpus:
        return None
    has = ", ".join(f"{gpu.model} ({gpu.memory >> 20} MiB)" for gpu in host.gpus)
    return f"{wished(wish)} wanted, {len(fitting)} of its GPUs fit; it has: {has or 'none'}"


def why_taken(host: HostGpus, leased: Mapping[str, int], wish: Resources) -> str:
    """Why a host that has the GPUs that a runner asks for cannot give them now."""
    said = [host.trouble] if host.trouble else []
    for gpu in host.gpus:
        if not fits(gpu, wish):
            continue
        if gpu.uuid in leased:
            said.append(f"attempt {leased[gpu.uuid]} has {gpu.uuid}")
        elif who := host.busy.get(gpu.uuid):
            said.append(f"{gpu.uuid} is used by {who}")
    return f"{wished(wish)} wanted: {'; '.join(said)}" if said else f"{wished(wish)} wanted"
