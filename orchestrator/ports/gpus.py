"""What engines tell of the GPUs of their hosts, and how a container is given some."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.domain.gpu import Gpu


class GpuWay(StrEnum):
    """How a container is given GPUs."""

    RUNTIME = "runtime"
    """The engine asks NVIDIA's runtime."""
    CDI = "cdi"
    """The engine reads the host's description of its devices (Container Device Interface)."""
    DEVICES = "devices"
    """Its device files, and a volume with the libraries of the host's driver."""


@dataclass(frozen=True, slots=True)
class GpuAccess:
    """The GPUs of one container. ``devices`` and ``volume`` are for the way of that name alone."""

    way: GpuWay
    uuids: tuple[str, ...]
    devices: tuple[str, ...] = ()
    """Paths of device files on the host."""
    volume: str = ""
    """A volume of ours with the driver's libraries and programs."""


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes on a GPU: its id on the host, and its program."""

    pid: int
    program: str


@dataclass(frozen=True, slots=True)
class GpuSeen:
    """A GPU as it was at one look. ``memory_used`` in bytes."""

    gpu: Gpu
    device: str
    """The path of its device file on the host; empty where nobody tells."""
    memory_used: int = 0
    processes: tuple[GpuProcess, ...] = ()
    partitioned: bool = False
    """Cut into parts (MIG), which are GPUs of their own."""


@dataclass(frozen=True, slots=True)
class GpuReport:
    """The GPUs of a host at one look, and how containers get them."""

    gpus: tuple[GpuSeen, ...] = ()
    way: GpuWay | None = None
    common: tuple[str, ...] = ()
    """Device files that every container with a GPU needs."""
    volume: str = ""
    trouble: str = ""
    """Why there are none, or not all, although something of NVIDIA's is there, and what to do about it."""

    def access(self, uuids: Iterable[str]) -> GpuAccess:
        """How a container is given these. Raises KeyError for one that was not seen."""
        wanted = tuple(uuids)
        if self.way is None:
            raise KeyError(wanted)
        devices = {seen.gpu.uuid: seen.device for seen in self.gpus}
        theirs = tuple(devices[uuid] for uuid in wanted)
        if self.way is not GpuWay.DEVICES:
            return GpuAccess(self.way, wanted)
        return GpuAccess(self.way, wanted, (*theirs, *self.common), self.volume)
