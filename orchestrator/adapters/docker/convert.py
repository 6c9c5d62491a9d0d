"""Between our values and the engine's JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NotRequired, TypedDict

from orchestrator.adapters.docker.gpus import device_files, driver_mount, requests
from orchestrator.adapters.docker.labels import CONTAINER, INSTANCE, with_instance
from orchestrator.adapters.docker.nvidia import driver_paths
from orchestrator.domain.errors import EngineError
from orchestrator.domain.hostpaths import why_not_mounted
from orchestrator.domain.pipeline import Resources
from orchestrator.domain.run import Exit
from orchestrator.ports.engine import Container, ContainerSpec, ContainerState, FolderMount, Health, Sandbox
from orchestrator.ports.gpus import GpuWay

if TYPE_CHECKING:
    from docker.types import DeviceRequest, LogConfig, Mount

NOT_STARTED = frozenset({126, 127})
"""Exit codes of a command that cannot be started: not executable, not found."""


class HealthJson(TypedDict):
    """``Health`` of an inspected container that has a command for it."""

    Status: str


class StateJson(TypedDict):
    """``State`` of an inspected container."""

    Status: str
    ExitCode: int
    Error: str
    OOMKilled: bool
    StartedAt: str
    FinishedAt: str
    Health: NotRequired[HealthJson]


class ConfigJson(TypedDict):
    """``Config`` of an inspected container or image, as far as we read it."""

    Image: str
    Labels: dict[str, str] | None
    Env: list[str] | None


class ContainerJson(TypedDict):
    """An inspected container, as far as we read it."""

    Id: str
    Name: str
    Image: str
    State: StateJson
    Config: ConfigJson
    RestartCount: NotRequired[int]


# A daemon's own defaults would rotate or drop lines where a container leaves an option open, so each one is
# given. The driver knows no "never" for max-size: a petabyte it is.
_LOG_OPTIONS = {"max-size": "1p", "max-file": "1", "compress": "false", "mode": "blocking"}
_SERVING_LOG_OPTIONS = {**_LOG_OPTIONS, "max-size": "10m", "max-file": "3"}

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
"""How the kernel calls machines, and how images call them."""
_STATES = {
    "created": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "paused": ContainerState.RUNNING,
    "restarting": ContainerState.RUNNING,
    "stopping": ContainerState.RUNNING,
}


def is_ours(json: ContainerJson, instance: str) -> bool:
    """Whether we made this container, and not a person from an image of ours."""
    labels = json["Config"]["Labels"] or {}
    return labels.get(INSTANCE) == instance and labels.get(CONTAINER) == json["Name"].removeprefix("/")


def container_of(json: ContainerJson, start_error: str = "") -> Container:
    """A container as inspected. ``start_error``: what its init said of a failed command."""
    stored = json["State"]
    state = _STATES.get(stored["Status"], ContainerState.EXITED)
    if state is ContainerState.CREATED and stored["Error"] and stored["ExitCode"] in NOT_STARTED:
        # Without an init the runtime itself fails to start the command, and the container stays "created".
        state = ContainerState.EXITED
    return Container(
        id=json["Id"],
        name=json["Name"].removeprefix("/"),
        state=state,
        labels=dict(json["Config"]["Labels"] or {}),
        image=json["Image"],
        exit=_exit_of(json["State"], start_error) if state is ContainerState.EXITED else None,
        health=stored["Health"]["Status"] if stored.get("Health") else "",
        restarts=json.get("RestartCount", 0),
    )


def _exit_of(state: StateJson, start_error: str) -> Exit:
    return Exit(
        code=state["ExitCode"],
        oom_killed=bool(state["OOMKilled"]),
        error=state["Error"] or start_error,
        started_at=moment(state["StartedAt"]),
        finished_at=moment(state["FinishedAt"]),
    )


def moment(text: str) -> datetime | None:
    """An engine's time in UTC, to microseconds; None for its year 1, which means never."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None or text.startswith("0001-"):
        return None
    seconds, fraction, zone = match.groups()
    return datetime.fromisoformat(f"{seconds}.{(fraction or '0')[:6]:0<6}{zone}").astimezone(UTC)


def path_modified(stat: str) -> datetime | None:
    """The modification time in what an engine's header tells of a path; None when it tells none."""
    try:
        told = json.loads(base64.b64decode(stat, validate=True))
    except ValueError:
        return None
    mtime = told.get("mtime") if isinstance(told, dict) else None
    return moment(mtime) if isinstance(mtime, str) else None


def platform_of(system: str, machine: str) -> str:
    """What images for an engine's machine say that they are for, such as ``linux/amd64``."""
    return f"{system}/{_ARCHITECTURES.get(machine, machine)}"


def since_parameter(timestamp: str) -> str:
    """A log line's timestamp as the ``since`` of a request: Unix seconds, cut to microseconds.

    ValueError when it is none.
    """
    when = moment(timestamp)
    if when is None:
        raise ValueError(
            f"'{timestamp}' is no timestamp of a log line, such as 2026-01-31T12:00:00.000000001Z"
        )
    whole = when.replace(microsecond=0)
    return f"{int(whole.timestamp())}.{when.microsecond:06d}"


def whole_second(timestamp: str) -> str:
    """A log line's timestamp without its fraction."""
    match = _TIMESTAMP.fullmatch(timestamp)
    return timestamp if match is None else f"{match[1]}{match[3]}"


class HostOptions(TypedDict):
    """The arguments of docker-py's ``create_host_config`` that we use: the safe defaults of the product."""

    cap_drop: list[str]
    security_opt: list[str]
    privileged: bool
    init: bool
    restart_policy: Mapping[str, str | int]
    log_config: LogConfig
    network_mode: str
    ipc_mode: str
    mounts: list[Mount]
    pids_limit: int
    shm_size: int
    mem_limit: int | None
    memswap_limit: int | None
    nano_cpus: int | None
    devices: list[str]
    device_requests: list[DeviceRequest]
    port_bindings: Mapping[int | str, list[tuple[str, int]]]


def host_options(spec: ContainerSpec) -> HostOptions:
    """What a container may do on its host. EngineError for a folder of the host that nobody may mount."""
    from docker.types import LogConfig, Mount

    resources, gpus = spec.resources, spec.gpus
    driver = [driver_mount(gpus.volume)] if gpus is not None and gpus.volume else []
    return HostOptions(
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        privileged=False,
        init=True,
        restart_policy={"Name": "unless-stopped" if spec.serves else "no"},
        log_config=LogConfig(
            type=LogConfig.types.JSON, config=dict(_SERVING_LOG_OPTIONS if spec.serves else _LOG_OPTIONS)
        ),
        network_mode=network_mode(spec.network),
        ipc_mode="private",
        # What an image has at the mount point is not copied into the volume: others mount it too.
        mounts=[
            *(
                Mount(mount.target, mount.volume, type="volume", read_only=mount.read_only, no_copy=True)
                for mount in spec.mounts
            ),
            *(_folder_mount(folder) for folder in spec.folders),
            *driver,
        ],
        pids_limit=resources.pids,
        shm_size=resources.shm_size,
        mem_limit=resources.memory,
        memswap_limit=resources.memory,
        nano_cpus=round(resources.cpus * 1_000_000_000) if resources.cpus is not None else None,
        devices=device_files(gpus.devices) if gpus is not None else [],
        device_requests=requests(gpus.way, gpus.uuids) if gpus is not None else [],
        port_bindings={
            inside: [(port.address, port.host) for port in spec.ports if port.container == inside]
            for inside in sorted({port.container for port in spec.ports})
        },
    )


def _folder_mount(folder: FolderMount) -> Mount:
    from docker.types import Mount

    why_not = why_not_mounted(folder.path)
    if why_not:
        raise EngineError(f"the folder {folder.path} of the host is not mounted: {why_not}")
    # Unlike a bind of the old kind, a mount makes no folder that is missing.
    mount = Mount(folder.target, folder.path, type="bind", read_only=True)
    # Read-only is the folder alone: file systems mounted below it would be writable on many engines.
    mount["BindOptions"] = {"Propagation": "private", "NonRecursive": True}
    return mount


def network_mode(network: Sandbox | str | None) -> str:
    """A network as an engine wants it named."""
    if isinstance(network, Sandbox):
        return f"container:{network.id}"
    return network or "none"


_CPU_PERIOD = 100_000
"""Microseconds; the engine's own default."""


def build_limits(resources: Resources | None, network: Sandbox | bool) -> dict[str, str]:
    """The parameters of a build that bound what its lines may use."""
    way = network if isinstance(network, Sandbox) else "default" if network else None
    limits = {"networkmode": network_mode(way)}
    if resources is not None:
        limits["shmsize"] = str(resources.shm_size)
        if resources.memory is not None:
            limits |= {"memory": str(resources.memory), "memswap": str(resources.memory)}
        if resources.cpus is not None:
            limits |= {"cpuperiod": str(_CPU_PERIOD), "cpuquota": str(round(resources.cpus * _CPU_PERIOD))}
    return limits


class ConfigOptions(TypedDict):
    """The arguments of docker-py's ``create_container`` that we use, but for the host's."""

    image: str
    entrypoint: list[str] | None
    command: list[str] | None
    environment: dict[str, str]
    user: str
    working_dir: str
    labels: dict[str, str]
    ports: list[int]
    healthcheck: dict[str, list[str] | int] | None


VISIBLE_GPUS = "NVIDIA_VISIBLE_DEVICES"
_FIXED = {
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    **dict.fromkeys(("NVIDIA_GDRCOPY", "NVIDIA_GDS", "NVIDIA_MOFED", "NVIDIA_NVSWITCH"), "disabled"),
    **dict.fromkeys(("NVIDIA_IMEX_CHANNELS", "NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_MIG_MONITOR_DEVICES"), ""),
}
"""The other words by which NVIDIA's runtime gives a container device files of the host."""


def gpu_environment(spec: ContainerSpec, of_image: Mapping[str, str]) -> dict[str, str]:
    """What a container's environment says of GPUs, whatever its image and its maker say.

    Where NVIDIA's runtime is the engine's default one, it gives every container the GPUs that its environment
    names, and images name all of them; other words open what is not a GPU, as an InfiniBand adapter.
    """
    if spec.gpus is None:
        return {**_FIXED, VISIBLE_GPUS: "void"}
    if spec.gpus.way is not GpuWay.DEVICES:
        return {**_FIXED, VISIBLE_GPUS: ",".join(spec.gpus.uuids)}
    return {**_FIXED, VISIBLE_GPUS: "void", **driver_paths({**of_image, **spec.env})}


def config_options(
    spec: ContainerSpec, instance: str, of_image: Mapping[str, str] | None = None
) -> ConfigOptions:
    """What a container runs. Its command replaces the image's entrypoint, so that it runs as written.

    ``of_image`` is the image's environment, which matters where the GPUs' driver comes as a volume.
    """
    return ConfigOptions(
        image=spec.image,
        entrypoint=list(spec.command[:1]) or None,
        command=list(spec.command[1:]) or None,
        environment={**spec.env, **gpu_environment(spec, of_image or {})},
        user=spec.user,
        working_dir=spec.workdir,
        labels={**with_instance(spec.labels, instance), CONTAINER: spec.name},
        ports=sorted({port.container for port in spec.ports}),
        healthcheck=_healthcheck(spec.health),
    )


def _healthcheck(health: Health | None) -> dict[str, list[str] | int] | None:
    """How an engine wants it told, in nanoseconds."""
    if health is None:
        return None
    return {
        "test": ["CMD", *health.command],
        "interval": round(health.interval * 1e9),
        "timeout": round(health.timeout * 1e9),
        "retries": health.retries,
        "start_period": round(health.start * 1e9),
    }
