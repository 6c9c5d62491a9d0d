"""GPUs of an engine's host: found, and given to containers, in whichever of three ways works there."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, cast

from orchestrator.adapters.docker import nvidia
from orchestrator.adapters.docker.clients import Clients
from orchestrator.adapters.docker.errors import Refused, translate
from orchestrator.adapters.docker.helpers import Helper, ask
from orchestrator.adapters.docker.storage import Volumes
from orchestrator.domain.errors import EngineError, EngineFull, EngineUnavailable, ImageNotFound
from orchestrator.ports.gpus import GpuReport, GpuSeen, GpuWay

if TYPE_CHECKING:
    from docker.types import DeviceRequest, Mount

ALL = ("all",)
_PATIENCE = 60
"""Seconds for a helper: a driver that was asleep takes some to answer."""
_COPY_PATIENCE = 300
_MEMORY = 256 << 20
_PIDS = 64
_TOOLKIT = "install the NVIDIA Container Toolkit on the host"


class _InfoJson(TypedDict, total=False):
    Runtimes: dict[str, object] | None
    CDISpecDirs: list[str] | None


class Gpus:
    """Looks for GPUs by small containers of the helper image. Thread-safe."""

    def __init__(self, clients: Clients, instance: str, volumes: Volumes) -> None:
        self._clients = clients
        self._instance = instance
        self._volumes = volumes
        self._last: tuple[GpuWay, nvidia.Look] | None = None
        """What worked at the last time."""

    def report(self, image: str) -> GpuReport:
        """The GPUs as they are now. EngineError where no helper can run, ImageNotFound without ``image``."""
        last = self._last
        if last is not None:
            seen = self._tried(image, *last)
            if seen.gpus:
                return seen
            self._last = None
        with translate("asking the engine for its runtimes"):
            info = cast(_InfoJson, self._clients.control().info())
        trouble = ""
        if "nvidia" in (info.get("Runtimes") or {}):
            seen = self._tried(image, GpuWay.RUNTIME, nvidia.Look())
            if seen.gpus:
                return seen
            trouble = seen.trouble
        look = self._look(image)
        if not look.gpus:
            return GpuReport(trouble=trouble)
        if info.get("CDISpecDirs"):
            seen = self._tried(image, GpuWay.CDI, look)
            if seen.gpus:
                return seen
        if (lack := _lacks(look)) is not None:
            return GpuReport(trouble=lack)
        return self._tried(image, GpuWay.DEVICES, look)

    def _tried(self, image: str, way: GpuWay, look: nvidia.Look) -> GpuReport:
        try:
            seen = self._seen(image, way, look)
        except (EngineUnavailable, EngineFull, ImageNotFound):
            raise
        except Refused as error:
            return GpuReport(trouble=f"{way.value}: {error}")
        if seen.gpus:
            self._last = way, look
        return seen

    def _seen(self, image: str, way: GpuWay, look: nvidia.Look) -> GpuReport:
        volume = ""
        if way is GpuWay.DEVICES:
            volume = self._driver(image, look)
        # Processes are told to those alone who see them: in a namespace of its own, none.
        helper = Helper(
            pid_mode="host",
            devices=tuple(device_files((*look.gpus, *look.common))) if way is GpuWay.DEVICES else (),
            device_requests=tuple(requests(way, ALL)),
            mounts=(driver_mount(volume),) if volume else (),
            pids=_PIDS,
            memory=_MEMORY,
            patience=_PATIENCE,
        )
        code, said = self._ask(image, nvidia.PROBE, helper)
        seen = nvidia.seen_of(said)
        if code != 0 or not seen:
            return GpuReport(trouble=f"nvidia-smi (exit code {code}) says: {said.strip()[-500:]}")
        return reported(seen, way, look, volume)

    def _look(self, image: str) -> nvidia.Look:
        from docker.types import Mount

        mounts = (Mount(f"/host{path}", path, type="bind", read_only=True) for path in ("/usr", "/dev"))
        helper = Helper(mounts=tuple(mounts), pids=_PIDS, memory=_MEMORY, patience=_PATIENCE)
        code, said = self._ask(image, nvidia.LOOK, helper)
        if code != 0:
            raise EngineError(f"the host cannot be searched for GPUs in {image}: {said.strip()[-500:]}")
        return nvidia.look_of(said)

    def _driver(self, image: str, look: nvidia.Look) -> str:
        """Have the volume with the driver's libraries and programs, filled; its name."""
        from docker.types import Mount

        volume = f"mlci-{self._instance[:8]}-driver-{look.driver}"
        if self._last is not None and self._volumes.present(volume):
            return volume
        self._volumes.ensure(volume, {"mlci.role": "driver"})
        mounts = (
            Mount("/host/usr", "/usr", type="bind", read_only=True),
            Mount("/driver", volume, type="volume", no_copy=True),
        )
        helper = Helper(user="0:0", mounts=mounts, pids=_PIDS, memory=_MEMORY, patience=_COPY_PATIENCE)
        code, said = self._ask(image, nvidia.COPY, helper)
        if code != 0:
            raise EngineError(f"the driver's libraries cannot be copied: {said.strip()[-500:]}", _TOOLKIT)
        return volume

    def _ask(self, image: str, script: str, helper: Helper) -> tuple[int, str]:
        return ask(self._clients, self._instance, image, script, "the host's GPUs", helper)


def reported(seen: tuple[GpuSeen, ...], way: GpuWay, look: nvidia.Look, volume: str) -> GpuReport:
    """What a host has. By device files only those GPUs can be given whose own file is known."""
    if way is not GpuWay.DEVICES:
        return GpuReport(seen, way, look.common, volume)
    lost = [one.gpu.uuid for one in seen if one.device not in look.gpus]
    trouble = f"nobody tells which device file is that of {', '.join(lost)}; {_TOOLKIT}" if lost else ""
    known = tuple(one for one in seen if one.device in look.gpus)
    return GpuReport(known, way if known else None, look.common, volume, trouble)


def requests(way: GpuWay, uuids: tuple[str, ...]) -> list[DeviceRequest]:
    """What an engine is asked for to give a container these GPUs; nothing where it gets device files."""
    from docker.types import DeviceRequest

    match way:
        case GpuWay.RUNTIME:
            if uuids == ALL:
                return [
                    DeviceRequest(driver="nvidia", count=-1, capabilities=[["gpu", "compute", "utility"]])
                ]
            return [
                DeviceRequest(
                    driver="nvidia", device_ids=list(uuids), capabilities=[["gpu", "compute", "utility"]]
                )
            ]
        case GpuWay.CDI:
            return [DeviceRequest(driver="cdi", device_ids=[f"nvidia.com/gpu={one}" for one in uuids])]
        case GpuWay.DEVICES:
            return []


def device_files(paths: tuple[str, ...]) -> list[str]:
    """Device files as docker-py takes them: to read and write, never to make others."""
    return [f"{path}:{path}:rw" for path in paths]


def driver_mount(volume: str) -> Mount:
    """The driver's volume in a container."""
    from docker.types import Mount

    return Mount(nvidia.DRIVER, volume, type="volume", read_only=True, no_copy=True)


def _lacks(look: nvidia.Look) -> str | None:
    if not look.driver or not look.program:
        return f"it has {look.gpus[0]}, and no libraries of NVIDIA's driver below /usr; {_TOOLKIT}"
    lacking = [node for node in (nvidia.CONTROL, nvidia.MEMORY) if node not in look.nodes]
    if lacking:
        return (
            f"it has {look.gpus[0]}, and no {' and no '.join(lacking)}; run `nvidia-modprobe -u -c=0` there,"
            " also after each boot"
        )
    return None
