"""Container engines as the services see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol

from orchestrator.domain.pipeline import Resources
from orchestrator.domain.run import Exit
from orchestrator.ports.gpus import GpuAccess, GpuReport
from orchestrator.ports.progress import ProgressSink

Interrupt = Callable[[], None]
"""Called now and then, by any thread, while something takes long; raises when it is not to go on."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself. ``memory`` in bytes."""

    id: str
    version: str
    cpus: int
    memory: int
    operating_system: str
    warnings: tuple[str, ...] = ()
    name: str = ""
    """What its machine is called."""
    data_root: str = ""
    """The folder on that machine in which it keeps images, containers and volumes."""
    clock: datetime | None = None
    """The time there when it answered; None where it does not tell."""
    platform: str = ""
    """What images have to be for, such as ``linux/amd64``; empty where it does not tell."""


@dataclass(frozen=True, slots=True)
class Boot:
    """A start of a host: ``id`` is another one for each. Times are by the host's clock, up to a
    second too early.
    """

    id: str
    at: datetime
    engine_at: datetime | None = None
    """When the engine there was started; None where that cannot be seen."""
    cpu: str = ""
    """The model of its CPU; empty where that cannot be seen."""

    @property
    def last(self) -> datetime:
        """When either was started last."""
        return self.at if self.engine_at is None else max(self.at, self.engine_at)


class ContainerState(StrEnum):
    """What an engine says of a container."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a container that its host gives: ``address`` and ``host`` there, ``container`` inside."""

    address: str
    host: int
    container: int


@dataclass(frozen=True, slots=True)
class Health:
    """A command in a container that tells whether it is well, by its exit code 0. Times in seconds.

    ``retries`` failures in a row make it unwell; those within ``start`` do not count.
    """

    command: tuple[str, ...]
    interval: float = 2.0
    timeout: float = 5.0
    retries: int = 5
    start: float = 30.0


@dataclass(frozen=True, slots=True)
class Container:
    """A container of ours as the engine shows it now. ``exit`` is there once it has ended."""

    id: str
    name: str
    state: ContainerState
    labels: Mapping[str, str]
    image: str
    exit: Exit | None = None
    health: str = ""
    """What its health command says: ``starting``, ``healthy``, ``unhealthy``; empty without one."""
    restarts: int = 0
    """How often the engine had to start it again."""


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A named volume in a container."""

    volume: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class FolderMount:
    """A folder of the host in a container, read-only, without what is mounted below it.

    ``path`` is the host's. An engine refuses one that :mod:`orchestrator.domain.hostpaths` forbids.
    """

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an engine tells of an image. ``size`` in bytes; ``layers`` are digests, the lowest first."""

    id: str
    created_at: datetime
    size: int
    layers: tuple[str, ...]
    labels: Mapping[str, str]
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A network that a container may join, in which ways are shut. ``id`` is the engine's."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A sandbox to be had.

    ``image`` is the helper image, which has ``ip``. ``prohibited`` and ``reachable`` are IPv4 addresses and
    networks (``169.254.0.0/16``); the longest prefix counts, and DNS (port 53) is open to all of them. An
    address that is prohibited by itself is one of the host's, and is shut below IP as well. There is no IPv6.
    """

    name: str
    image: str
    labels: Mapping[str, str]
    prohibited: tuple[str, ...]
    reachable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container to be made, with the safe defaults of the product unless a field says otherwise.

    Always: all capabilities dropped, no-new-privileges, the default seccomp profile, ``init``, restart policy
    ``no``, no log rotation, the limits of ``resources``, never the engine's socket, nothing of the host but
    ``folders``, which are the administrator's choice.
    ``network`` is a sandbox made by ``ensure_sandbox``, the name of a network made by ``ensure_network``, or
    None for no network at all.
    """

    name: str
    image: str
    command: tuple[str, ...]
    labels: Mapping[str, str]
    env: Mapping[str, str]
    user: str
    workdir: str
    resources: Resources
    network: Sandbox | str | None = None
    mounts: tuple[VolumeMount, ...] = ()
    folders: tuple[FolderMount, ...] = ()
    gpus: GpuAccess | None = None
    """Its GPUs; None: it gets none, whatever its image asks for."""
    ports: tuple[Port, ...] = ()
    """Only with a network that is named."""
    health: Health | None = None
    serves: bool = False
    """It is to run for good: the engine starts it again when it ends, and bounds its log. Without a command,
    what its image says is run."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a container's output: the host's time in UTC with nanoseconds as text, and the bytes
    without newline.

    ``\\r`` stays in the line. ``stream`` tells the output's streams apart, where that is known. ``cut``: it
    was too long, and goes on in this stream's next line, at the same time.
    """

    timestamp: str
    text: bytes
    stream: int = field(default=0, compare=False)
    cut: bool = field(default=False, compare=False)


class LogStream(Iterator[LogLine], Protocol):
    """The lines of a container while they come.

    One thread reads; any thread may close, which wakes the reader.
    """

    @property
    def ended(self) -> Container | None:
        """After the last line: the container as it ended, when all that it said has been read."""

    def close(self) -> None:
        """Free the connection; the iteration ends. Repeating is fine."""


@dataclass(frozen=True, slots=True)
class Owned:
    """What on a host carries our instance label: names (containers, networks, volumes) and tags (images)."""

    containers: tuple[Container, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """An image of ours: its tag (or id), its id, the layers it consists of, and the bytes that no other image
    shares.
    """

    name: str
    id: str
    created_at: datetime
    size: int
    layers: tuple[str, ...]
    held: bool
    """Whether there is a container of it that is not ours."""


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """A volume of ours. ``size`` in bytes, None where the engine does not tell it."""

    name: str
    created_at: datetime
    size: int | None
    held: bool
    """Whether a container that is not ours has it."""


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """A container of ours, running or not, with its image's id and the names of its volumes."""

    name: str
    id: str
    created_at: datetime
    labels: Mapping[str, str]
    image: str
    volumes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NetworkUsage:
    """A network of ours."""

    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """What is ours on a host, and the room that it takes."""

    images: tuple[ImageUsage, ...]
    volumes: tuple[VolumeUsage, ...]
    containers: tuple[ContainerUsage, ...] = ()
    networks: tuple[NetworkUsage, ...] = ()


class Engine(Protocol):
    """One Docker engine. Thread-safe; each call is bounded in time unless it says that it streams.

    All calls may be repeated: what exists is adopted, what is gone is no error to remove. Everything made
    carries the instance label, and nothing without it is ever adopted, stopped or removed. Raises
    EngineUnavailable when the engine does not answer, EngineFull when its disk is full, EngineError when it
    refuses; ContainerGone where a container is named that is not there.
    """

    def info(self) -> EngineInfo:
        """Ask the engine who it is."""

    def find_image(self, name: str) -> str | None:
        """The id (digest) of an image that is on the host, or None."""

    def describe_image(self, name: str) -> ImageFacts | None:
        """What there is to know of an image that is on the host, or None."""

    def import_image(self, tar: BinaryIO) -> str:
        """Make an image without a name of a root file system's plain tar; its id."""

    def export_image(self, name: str) -> BinaryIO:
        """A stream of an image with its name, for the caller to close, early if need be. ImageNotFound."""

    def load_image(self, chunks: Iterator[bytes], what: str) -> None:
        """Have what ``export_image`` of another engine gave; ``what`` says so in errors.

        Nothing is kept of chunks that break off. What they raise is passed on.
        """

    def pull(self, name: str, progress: ProgressSink) -> str:
        """Fetch an image from its registry, with the administrator's login there; its id.

        ImageNotFound when the registry does not have it, RegistryDenied when it wants another login,
        RegistryUnavailable when it does not answer, SecretMissing when the login's password has no value.
        """

    def build(
        self,
        context: Path,
        dockerfile: str,
        tag: str,
        labels: Mapping[str, str],
        progress: ProgressSink,
        resources: Resources | None = None,
        network: Sandbox | bool = True,
        credentials: bool = False,
        interrupt: Interrupt | None = None,
        arguments: Mapping[str, str] | None = None,
        shared: bool = False,
        cached: bool = True,
    ) -> str:
        """Make an image from a folder; its id. ``arguments`` are those of the Dockerfile's ARG.

        A ``shared`` one belongs to no installation: it does not carry our label, and so is never removed.
        One that is not ``cached`` is made line by line, and takes no layer that another build left.

        A stranger's Dockerfile is given ``resources``, within which each of its lines runs (``pids`` apart,
        which engines cannot limit there), and reaches what ``network`` does: a sandbox, the engine's default
        network or none. ``credentials`` lends it
        the logins at registries, for the images in FROM: never for a stranger's. ImageRejected with the
        log's end when a line of the Dockerfile fails; what ``pull`` raises when it is a FROM that fails and
        the administrator's or the registry's fault. What ``interrupt`` raises ends the build.
        """

    def commit(self, container: str, tag: str, labels: Mapping[str, str], env_to_drop: Iterable[str]) -> str:
        """Keep a stopped container's files as an image with the base image's own configuration; its id.

        Nothing of the container's environment is kept; ``env_to_drop`` are the names for which that is
        verified.
        """

    def remove_image(self, name: str) -> None:
        """Remove a tag of ours."""

    def create(self, spec: ContainerSpec) -> Container:
        """Make a container, or adopt the one of that name that carries our label."""

    def find(self, name: str) -> Container | None:
        """Our container of that name (or id) as it is now, or None."""

    def put(self, name: str, folder: str, tar: BinaryIO) -> None:
        """Unpack a plain (never compressed) tar into a folder of a container that is not running."""

    def start(self, name: str) -> None:
        """Start it; a running one stays as it is.

        A command that cannot be started becomes an Exit with ``error``.
        """

    def logs(self, name: str, since: str | None) -> LogStream:
        """Stream complete lines, from the first or from the timestamp on (inclusive, cut to microseconds).

        Ends when the container ends or the engine goes away: the end says nothing about the container.
        Closing the stream frees the connection. A line that the container has not finished comes once it is,
        or when the container has ended; a line of more than 1 MiB comes in parts of the same timestamp.
        """

    def stop(self, name: str, grace: float) -> None:
        """Ask the container to end, and kill it after ``grace`` seconds. Gone or ended already is fine."""

    def get(self, name: str, path: str) -> AbstractContextManager[BinaryIO] | None:
        """A stream of a plain tar of ``path``, or None when the path is not there. Closing early is fine."""

    def modified(self, name: str, path: str) -> datetime | None:
        """When a file or folder was last modified; None when it is not there, or the engine does not tell.

        A folder is modified when an entry is made in it or removed from it.
        """

    def remove(self, name: str) -> None:
        """Remove a container of ours with its anonymous volumes, running or not."""

    def ensure_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Have a bridge network with no traffic between containers."""

    def remove_network(self, name: str) -> None:
        """Remove a network of ours."""

    def ensure_sandbox(self, spec: SandboxSpec) -> Sandbox:
        """Have a sandbox of that name, as described and untouched by what was in it before.

        For a caller who alone uses the name, and none of whose containers is in it now: where something still
        runs in it, it is made anew, and that is left without a network. ImageNotFound without its image;
        EngineError where the engine cannot do it. No container made by ``create`` is ever given what a
        sandbox needs to keep the ways shut.
        """

    def prohibit(self, name: str, addresses: Iterable[str]) -> None:
        """Shut more ways in the sandbox of that name, while containers are in it. ContainerGone."""

    def host_addresses(self, image: str) -> tuple[str, ...]:
        """The IPv4 addresses of the host itself, loopback apart, and the multicast groups that it listens to.

        Seen from a container of the helper image; ImageNotFound without it.
        """

    def boot(self, image: str) -> Boot:
        """When the host and the engine were started, seen from a container of the helper image.

        ImageNotFound without it.
        """

    def gpus(self, image: str) -> GpuReport:
        """The host's NVIDIA GPUs and who computes on them now, from within containers of the helper image.

        Takes a second. A host without any gives an empty report, one whose GPUs cannot be given to containers
        says so in it. ImageNotFound without the image.
        """

    def network_ranges(self) -> tuple[str, ...]:
        """The IPv4 ranges (``172.17.0.0/16``) of all networks of the engine, whoever made them, and the
        host's own address on each.
        """

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> bool:
        """Have a named volume; True when it was made now."""

    def remove_volume(self, name: str) -> None:
        """Remove a volume of ours; one in use stays (EngineError)."""

    def owned(self) -> Owned:
        """Everything on this host that carries our instance label."""

    def usage(self) -> Usage:
        """What is ours and the room that images and volumes take. The engine counts it anew, which may take
        minutes.
        """

    def close(self) -> None:
        """Free connections."""
