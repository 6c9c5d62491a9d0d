"""The port :class:`orchestrator.ports.world.Engine` over the API of Docker."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from orchestrator.adapters.docker.boot import SCRIPT, boot_of
from orchestrator.adapters.docker.clients import Clients, Way, endpoint
from orchestrator.adapters.docker.convert import (
    NOT_STARTED,
    ContainerJson,
    build_limits,
    config_options,
    container_of,
    host_options,
    is_ours,
    path_modified,
    since_parameter,
)
from orchestrator.adapters.docker.errors import CONFLICT, NOT_FOUND, Refused, check, translate
from orchestrator.adapters.docker.gpus import Gpus
from orchestrator.adapters.docker.helpers import look
from orchestrator.adapters.docker.images import Images
from orchestrator.adapters.docker.info import info_of
from orchestrator.adapters.docker.known import KnownContainers
from orchestrator.adapters.docker.labels import INSTANCE
from orchestrator.adapters.docker.registries import Logins
from orchestrator.adapters.docker.sandboxes import Sandboxes
from orchestrator.adapters.docker.storage import Networks, Volumes, foreign
from orchestrator.adapters.docker.streams import Connection, LogLines, archive_stream
from orchestrator.adapters.docker.usage import Usages
from orchestrator.domain.errors import ContainerGone, EngineError, ImageNotFound
from orchestrator.domain.pipeline import Resources
from orchestrator.ports.engine import (
    Boot,
    Container,
    ContainerSpec,
    ContainerState,
    EngineInfo,
    ImageFacts,
    Interrupt,
    LogStream,
    Owned,
    Sandbox,
    SandboxSpec,
    Usage,
)
from orchestrator.ports.gpus import GpuReport
from orchestrator.ports.progress import ProgressSink

if TYPE_CHECKING:
    from docker import APIClient

_TRANSFER = 300.0
"""Seconds that an engine may take over a large file system: unpacking an archive, removing a container."""
_QUIET = 600.0
"""Seconds without a line after which a log stream ends, in case the other side is gone and nobody said so."""
_BLOCK = 1 << 18
"""More is no faster: each block of a megabyte costs the process new pages."""
_TAR_BLOCK = 512
# What docker-init says, as the last thing, when it cannot start the command. A program may print the same;
# then a wrong reason is shown for a failure that is one in either case.
_INIT_SAYS = re.compile(rb"\[FATAL tini \(\d+\)\] (exec .{1,4096} failed: [^\n]{1,200})\s*\Z", re.DOTALL)


class DockerEngine:
    """An engine at ``url`` (``unix:///run/docker.sock``), for what carries the label of ``instance``.

    ``timeout`` is in seconds, for each answer of the engine. ``logins`` are lent to it for pulls and for the
    administrator's own builds. ``way`` leads to an engine on another machine, whose ``url`` is for people.
    Connects on first use.
    """

    def __init__(
        self,
        url: str,
        instance: str,
        timeout: float = 30,
        logins: Logins | None = None,
        way: Way | None = None,
    ) -> None:
        self._clients = Clients(url, timeout, way)
        self._instance = instance
        self._timeout = timeout
        self._known = KnownContainers()
        self._images = Images(self._clients, instance, logins or Logins())
        self._networks = Networks(self._clients, instance)
        self._sandboxes = Sandboxes(self._clients, instance, self._networks)
        self._usages = Usages(self._clients, instance)
        self._volumes = Volumes(self._clients, instance)
        self._gpus = Gpus(self._clients, instance, self._volumes)

    def info(self) -> EngineInfo:
        """Who the engine is; ``warnings`` tell which limits it cannot enforce."""
        client = self._clients.control()
        with translate("asking the engine who it is"):
            said: object = client.info()
        return info_of(said)

    def find_image(self, name: str) -> str | None:
        """The id of an image on the host, or None."""
        return self._images.find(name)

    def describe_image(self, name: str) -> ImageFacts | None:
        """What there is to know of an image, or None."""
        return self._images.describe(name)

    def import_image(self, tar: BinaryIO) -> str:
        """Make an image of a root file system; its id."""
        return self._images.import_(tar)

    def export_image(self, name: str) -> BinaryIO:
        """A stream of an image, for ``load_image`` of another engine."""
        return self._images.export(name)

    def load_image(self, chunks: Iterator[bytes], what: str) -> None:
        """Have what ``export_image`` of another engine gave."""
        self._images.load(chunks, what)

    def pull(self, name: str, progress: ProgressSink) -> str:
        """Fetch an image; its id."""
        return self._images.pull(name, progress)

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
        """Make an image from a folder; its id."""
        with ExitStack() as stack:
            if isinstance(network, Sandbox):
                network = stack.enter_context(self._sandboxes.annex(network))
            options = build_limits(resources, network)
            if arguments:
                options["buildargs"] = json.dumps(dict(arguments))
            if not cached:
                options["nocache"] = "1"
            return self._images.build(
                context,
                dockerfile,
                tag,
                labels,
                options,
                progress,
                credentials=credentials,
                interrupt=interrupt,
                shared=shared,
            )

    def commit(self, container: str, tag: str, labels: Mapping[str, str], env_to_drop: Iterable[str]) -> str:
        """Keep a stopped container's files as an image with its base image's configuration; its id."""
        return self._images.commit(self._ours(container), tag, labels, env_to_drop)

    def remove_image(self, name: str) -> None:
        """Remove a tag of ours."""
        self._images.remove(name)

    def create(self, spec: ContainerSpec) -> Container:
        """Make a container with the safe defaults, or adopt ours of that name."""
        if isinstance(spec.network, Sandbox):
            self._sandboxes.require(spec.network)
        elif spec.network is not None:
            self._networks.require(spec.network)
        for mount in spec.mounts:
            self._volumes.require(mount.volume)
        of_image: Mapping[str, str] = {}
        if spec.gpus is not None and spec.gpus.volume:
            self._volumes.require(spec.gpus.volume)
            of_image = self._images.environment(spec.image)
        client = self._clients.control()
        with translate(f"describing the container {spec.name}"):
            host = client.create_host_config(**host_options(spec))
        try:
            with translate(f"making the container {spec.name}"):
                client.create_container(
                    **config_options(spec, self._instance, of_image),
                    name=spec.name,
                    host_config=host,
                    use_config_proxy=False,
                )
        except Refused as error:
            if error.status == NOT_FOUND:
                raise ImageNotFound(
                    f"{self._clients.url} has no image {spec.image}", "pull or make it first"
                ) from error
            if error.status != CONFLICT:
                raise
        made = container_of(self._ours(spec.name))
        self._known.note(spec.name, made.id, created=made.state is ContainerState.CREATED)
        return made

    def find(self, name: str) -> Container | None:
        """Our container of that name or id as it is now, or None."""
        json = self._inspect(name)
        if json is None or not is_ours(json, self._instance):
            self._known.forget(name)
            return None
        self._known.note(json["Name"].removeprefix("/"), json["Id"])
        return self._container(json)

    def put(self, name: str, folder: str, tar: BinaryIO) -> None:
        """Unpack a plain tar into a folder of a container that is not running."""
        first = tar.read(_TAR_BLOCK)
        # Engines unpack compressed bodies on their own, with programs of their host (CVE-2026-41567).
        if first[257:262] != b"ustar" and (not first or first.strip(b"\0")):
            raise EngineError(
                f"what should go into {name}:{folder} is not a plain tar", "archives are never compressed"
            )
        if not self._known.is_new(name) and container_of(self._ours(name)).state is ContainerState.RUNNING:
            raise EngineError(f"the container {name} is running", "files are put in before it starts")
        client = self._clients.control()
        with self._gone_is_said(name), translate(f"putting files into {name}:{folder}"):
            response = client.put(
                endpoint(client, f"/containers/{self._id_of(name)}/archive"),
                params={"path": folder},
                data=_blocks(first, tar),
                timeout=(self._timeout, max(_TRANSFER, self._timeout)),
            )
            check(response)

    def start(self, name: str) -> None:
        """Start it, unless it runs."""
        identity = self._id_of(name)
        self._known.starting(name)
        client = self._clients.control()
        try:
            with translate(f"starting the container {name}"):
                client.start(identity)
        except Refused as error:
            now = self._inspect(identity)
            if now is None:
                self._known.forget(name)
                raise gone(name, self._clients.url) from error
            if container_of(now).state is not ContainerState.EXITED:
                raise

    def logs(self, name: str, since: str | None) -> LogStream:
        """The container's lines."""
        return LogLines(_Log(self._clients, self, self._id_of(name), name), since)

    def stop(self, name: str, grace: float) -> None:
        """End it, by force after ``grace`` seconds. Gone or ended already is fine."""
        json = self._inspect(name)
        if json is None:
            return
        self._check_ours(json, name)
        client = self._clients.control()
        try:
            with translate(f"stopping the container {name}"):
                response = client.post(
                    endpoint(client, f"/containers/{json['Id']}/stop"),
                    params={"t": str(math.ceil(max(grace, 0)))},
                    timeout=(self._timeout, grace + self._timeout),
                )
                check(response)
        except Refused as error:
            if error.status != NOT_FOUND:
                raise

    def get(self, name: str, path: str) -> BinaryIO | None:
        """A tar of ``path`` as a file that is read while it arrives, or None when the path is not there."""
        identity = self._id_of(name)
        client = self._clients.control()
        try:
            with translate(f"getting {name}:{path}"):
                response = client.get(
                    endpoint(client, f"/containers/{identity}/archive"),
                    params={"path": path},
                    headers={"Accept-Encoding": "identity"},
                    stream=True,
                    timeout=self._timeout,
                )
                check(response)
        except EngineError as error:
            if not isinstance(error, Refused) or error.status != NOT_FOUND:
                raise
            if self._inspect(identity) is None:
                self._known.forget(name)
                raise gone(name, self._clients.url) from error
            return None
        return archive_stream(response, f"getting {name}:{path}")

    def modified(self, name: str, path: str) -> datetime | None:
        """When ``path`` was last modified, or None when it is not there."""
        identity = self._id_of(name)
        client = self._clients.control()
        try:
            with translate(f"looking at {name}:{path}"):
                response = client.head(
                    endpoint(client, f"/containers/{identity}/archive"),
                    params={"path": path},
                    timeout=self._timeout,
                )
                check(response)
        except Refused as error:
            if error.status != NOT_FOUND:
                raise
            if self._inspect(identity) is None:
                self._known.forget(name)
                raise gone(name, self._clients.url) from error
            return None
        return path_modified(response.headers.get("X-Docker-Container-Path-Stat", ""))

    def remove(self, name: str) -> None:
        """Remove a container with its anonymous volumes, running or not."""
        while (known := self._known.id_of(name)) is not None:
            self._known.forget(name)
            if self._removed(name, known):
                return
            # That one is gone; another one may have its name.
        json = self._inspect(name)
        if json is not None:
            self._check_ours(json, name)
            self._removed(name, json["Id"])

    def _removed(self, name: str, identity: str) -> bool:
        """Remove by id; False when it was gone already."""
        client = self._clients.control()
        try:
            with translate(f"removing the container {name}"):
                response = client.delete(
                    endpoint(client, f"/containers/{identity}"),
                    params={"force": "1", "v": "1"},
                    timeout=(self._timeout, max(_TRANSFER, self._timeout)),
                )
                check(response)
        except Refused as error:
            # A conflict means that somebody is removing it already.
            if error.status not in (NOT_FOUND, CONFLICT):
                raise
            return error.status == CONFLICT
        return True

    def ensure_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Have a bridge network with no traffic between its containers."""
        self._networks.ensure(name, labels)

    def remove_network(self, name: str) -> None:
        """Remove a network of ours."""
        self._networks.remove(name)

    def ensure_sandbox(self, spec: SandboxSpec) -> Sandbox:
        """Have a sandbox, as described and untouched by what was in it before."""
        return self._sandboxes.ensure(spec)

    def prohibit(self, name: str, addresses: Iterable[str]) -> None:
        """Shut more ways in a sandbox that is in use."""
        self._sandboxes.prohibit(name, addresses)

    def host_addresses(self, image: str) -> tuple[str, ...]:
        """The addresses of the host itself, loopback apart."""
        return self._sandboxes.host_addresses(image)

    def boot(self, image: str) -> Boot:
        """When the host was started."""
        what = "when the host was started"
        return boot_of(look(self._clients, self._instance, image, SCRIPT, what, pid_mode="host"))

    def gpus(self, image: str) -> GpuReport:
        """The host's GPUs as they are now."""
        return self._gpus.report(image)

    def network_ranges(self) -> tuple[str, ...]:
        """The ranges of all networks of the engine."""
        return self._networks.ranges()

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> bool:
        """Have a named volume; True when it was made now."""
        return self._volumes.ensure(name, labels)

    def remove_volume(self, name: str) -> None:
        """Remove a volume of ours."""
        self._volumes.remove(name)

    def owned(self) -> Owned:
        """Everything on this host that carries our label."""
        with translate("listing containers"):
            listed = self._clients.control().containers(
                all=True, filters={"label": f"{INSTANCE}={self._instance}"}
            )
        found = (self.find(container["Id"]) for container in listed)
        return Owned(
            containers=tuple(sorted((c for c in found if c is not None), key=lambda c: c.name)),
            networks=self._networks.names(),
            volumes=self._volumes.names(),
            images=self._images.names(),
        )

    def usage(self) -> Usage:
        """What is ours, and the room that it takes."""
        return self._usages.measured()

    def close(self) -> None:
        """Free idle connections; open streams live until they are closed."""
        self._clients.close()

    def _inspect(self, name: str) -> ContainerJson | None:
        client = self._clients.control()
        try:
            with translate(f"looking at the container {name}"):
                return cast(ContainerJson, client.inspect_container(name))
        except Refused as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def _ours(self, name: str) -> ContainerJson:
        json = self._inspect(name)
        if json is None:
            raise gone(name, self._clients.url)
        self._check_ours(json, name)
        return json

    def _id_of(self, name: str) -> str:
        """The id of our container of that name, which other calls may then go by. Raises ContainerGone."""
        known = self._known.id_of(name)
        if known is None:
            known = self._ours(name)["Id"]
            self._known.note(name, known)
        return known

    @contextmanager
    def _gone_is_said(self, name: str) -> Iterator[None]:
        """Turn an id that is gone into ContainerGone."""
        try:
            yield
        except Refused as error:
            if error.status != NOT_FOUND or self._inspect(name) is not None:
                raise
            self._known.forget(name)
            raise gone(name, self._clients.url) from error

    def _check_ours(self, json: ContainerJson, name: str) -> None:
        if not is_ours(json, self._instance):
            raise foreign("container", name, self._clients.url)

    def _container(self, json: ContainerJson) -> Container:
        container = container_of(json)
        if container.exit is None or container.exit.code not in NOT_STARTED or container.exit.error:
            return container
        client = self._clients.control()
        with translate(f"reading the end of the log of {container.name}"):
            said = client.logs(json["Id"], stdout=False, stderr=True, tail=3)
        match = _INIT_SAYS.search(said)
        return container_of(json, match[1].decode(errors="replace")) if match else container


class _Log:
    """The log of one container, however its name is used later."""

    def __init__(self, clients: Clients, engine: DockerEngine, identity: str, name: str) -> None:
        self._clients = clients
        self._engine = engine
        self._identity = identity
        self._name = name

    def open(self, since: str | None, follow: bool, client: APIClient | None = None) -> Connection:
        parameters = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": "1" if follow else "0"}
        if since is not None:
            parameters["since"] = since_parameter(since)
        client = client or self._clients.stream()
        try:
            with translate(f"reading the log of {self._name}"):
                response = client.get(
                    endpoint(client, f"/containers/{self._identity}/logs"),
                    params=parameters,
                    stream=True,
                    timeout=(self._clients.timeout, _QUIET),
                )
                check(response)
        except EngineError as error:
            client.close()
            if isinstance(error, Refused) and error.status == NOT_FOUND:
                raise gone(self._name, self._clients.url) from error
            raise
        return Connection(client, response)

    def ended(self) -> Container | None:
        try:
            container = self._engine.find(self._identity)
        except EngineError:
            return None
        return container if container is not None and container.state is ContainerState.EXITED else None


def gone(name: str, url: str) -> ContainerGone:
    """The error for a container that is not there."""
    return ContainerGone(f"there is no container {name} on {url}")


def _blocks(first: bytes, rest: BinaryIO) -> Iterator[bytes]:
    # An iterator is sent as it is read; of a bytes body the library would make copies.
    yield first
    while block := rest.read(_BLOCK):
        yield block
