"""An engine in memory, for unit tests of the use cases: scripted containers, faults, recorded calls.

It keeps the contract of :class:`orchestrator.ports.world.Engine`; the suite that shows it for the real engine
runs against this one too.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from orchestrator.domain.errors import (
    ContainerGone,
    EngineError,
    EngineUnavailable,
    ImageNotFound,
    ImageRejected,
    RegistryUnavailable,
)
from orchestrator.domain.pipeline import HELPER_IMAGE, Resources
from orchestrator.domain.run import Exit
from orchestrator.ports.engine import (
    Boot,
    Container,
    ContainerSpec,
    ContainerState,
    ContainerUsage,
    EngineInfo,
    ImageFacts,
    ImageUsage,
    Interrupt,
    LogLine,
    NetworkUsage,
    Owned,
    Sandbox,
    SandboxSpec,
    Usage,
    VolumeUsage,
)
from orchestrator.ports.gpus import GpuReport
from orchestrator.ports.progress import ProgressEvent, ProgressSink

INSTANCE_LABEL = "mlci.instance"
NOBODYS_REGISTRY = "localhost:1/"


@dataclass(frozen=True)
class Script:
    """What a container does once it is started.

    ``lines`` come at once; it then ends with ``exit``, or, when that is None, runs on until
    :meth:`FakeEngine.finish` or a stop. ``files`` are left behind, by absolute path.
    """

    lines: Sequence[bytes] = ()
    exit: Exit | None = field(default_factory=lambda: Exit(0))
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass
class File:
    """A file (or a folder, when ``content`` is None) inside a fake container."""

    content: bytes | None
    uid: int = 0
    gid: int = 0
    mode: int = 0o644
    modified: datetime | None = None


@dataclass
class FakeContainer:
    """A container as the fake keeps it; tests may look at it and change it."""

    id: str
    spec: ContainerSpec
    labels: dict[str, str]
    state: ContainerState = ContainerState.CREATED
    exit: Exit | None = None
    lines: list[LogLine] = field(default_factory=list)
    files: dict[str, File] = field(default_factory=dict)
    started_at: datetime | None = None

    def seen(self) -> Container:
        """As the port shows it."""
        return Container(self.id, self.spec.name, self.state, dict(self.labels), self.spec.image, self.exit)


@dataclass
class FakeSandbox:
    """What the fake knows of a sandbox, by its container's id."""

    spec: SandboxSpec
    prohibited: set[str]
    tampered: bool = False


class FakeEngine:
    """Holds images, containers, networks and volumes. Thread-safe.

    ``calls`` lists each call as its name and its first argument; ``starts`` counts how often a container of a
    name really began to run, so that a double start shows.
    """

    def __init__(self, instance: str = "test", images: Iterable[str] = ("image:1", HELPER_IMAGE)) -> None:
        self.instance = instance
        self.images: dict[str, str] = {name: f"sha256:{index:064x}" for index, name in enumerate(images)}
        self.image_labels: dict[str, dict[str, str]] = {}
        self.registry: dict[str, str] = {}
        self.build_output: Sequence[str] = ("Step 1/1 : FROM image:1",)
        self.build_fails: str | None = None
        self.build_limits: dict[str, tuple[Resources | None, Sandbox | bool]] = {}
        self.build_credentials: dict[str, bool] = {}
        self.build_cached: dict[str, bool] = {}
        self.build_arguments: dict[str, dict[str, str]] = {}
        self.shared_labels: dict[str, dict[str, str]] = {}
        self.build_hangs = False
        self.building = threading.Event()
        self.containers: dict[str, FakeContainer] = {}
        self.networks: dict[str, dict[str, str]] = {}
        self.other_networks = 1
        """How many networks others have made on the host."""
        self.sandboxes: dict[str, FakeSandbox] = {}
        self.volumes: dict[str, dict[str, str]] = {}
        self.sizes: dict[str, int] = {}
        self.made_at: dict[str, datetime] = {}
        self.layers: dict[str, tuple[str, ...]] = {}
        self.calls: list[tuple[str, str]] = []
        self.graces: list[float] = []
        """What each container that was asked to end was given for that."""
        self.starts: Counter[str] = Counter()
        self.closed = False
        self.machine = ""
        self.platform = "linux/amd64"
        self.data_root = "/var/lib/fake"
        self.booted = Boot("first", datetime(2025, 12, 31, tzinfo=UTC), cpu="Fake CPU")
        self.gpu_report = GpuReport()
        self.booted = Boot("first", datetime(2025, 12, 31, tzinfo=UTC), cpu="Fake CPU")
        self.contents: dict[str, dict[str, bytes]] = {}
        """The files of volumes and of folders of the host, by name and path."""
        self.commands: dict[str, Callable[[FakeContainer, dict[str, bytes]], Script]] = {}
        """What scripts do with the files of a container's first mount, by the name they are called by."""
        self._scripts: list[tuple[Callable[[ContainerSpec], bool], Script]] = []
        self._faults: dict[str, deque[BaseException | None]] = {}
        self._after: dict[str, deque[BaseException]] = {}
        self._unreachable = False
        self._severed = 0
        self._changed = threading.Condition(threading.RLock())
        self._serial = 0
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    # What tests arrange

    def script(self, script: Script, when: Callable[[ContainerSpec], bool] = lambda spec: True) -> None:
        """Let containers for which ``when`` is true behave so. The newest script that fits counts."""
        self._scripts.insert(0, (when, script))

    def fail(self, call: str, error: BaseException, *, after: int = 0, times: int = 1) -> None:
        """Make the method ``call`` raise and do nothing, ``times`` times after ``after`` good ones."""
        self._faults.setdefault(call, deque()).extend([*([None] * after), *([error] * times)])

    def fail_late(self, call: str, error: BaseException) -> None:
        """Make ``call`` do its work once and then raise, as a request whose answer is lost."""
        self._after.setdefault(call, deque()).append(error)

    def cut(self) -> None:
        """Be out of reach: calls raise EngineUnavailable, streams end. Containers go on."""
        with self._changed:
            self._unreachable = True
            self._severed += 1
            self._changed.notify_all()

    def restore(self) -> None:
        """Be within reach again."""
        self._unreachable = False

    def say(self, name: str, *lines: bytes) -> None:
        """Let a container print lines."""
        with self._changed:
            self._print(self.containers[name], lines)
            self._changed.notify_all()

    def finish(self, name: str, ending: Exit | None = None, files: Mapping[str, bytes] | None = None) -> None:
        """Let a running container end, leaving files behind."""
        with self._changed:
            container = self.containers[name]
            container.files |= {path: File(content, 1000, 1000) for path, content in (files or {}).items()}
            self._end(container, ending or Exit(0))

    def vanish(self, name: str) -> None:
        """Remove a container behind the orchestrator's back."""
        with self._changed:
            del self.containers[name]
            self._changed.notify_all()

    def wait_for_start(self, name: str, seconds: float = 5.0) -> None:
        """Return once the container of that name has been started."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.starts[name] > 0, seconds):
                raise AssertionError(f"waited {seconds:g} s in vain for {name} to start")

    @property
    def guests(self) -> dict[str, FakeContainer]:
        """The containers that are no sandboxes."""
        return {name: c for name, c in self.containers.items() if c.id not in self.sandboxes}

    @property
    def current_sandboxes(self) -> list[Sandbox]:
        """The sandboxes that containers can join now."""
        held = {identity: box.spec.name for identity, box in self.sandboxes.items()}
        return [Sandbox(identity, name) for identity, name in held.items() if self._is_running(identity)]

    @property
    def double_starts(self) -> list[str]:
        """Names under which something ran more than once."""
        return sorted(name for name, count in self.starts.items() if count > 1)

    # The port

    def info(self) -> EngineInfo:
        with self._call("info"):
            return EngineInfo(
                *("fake", "0", 4, 16 << 30, "fake"),
                name=self.machine,
                data_root=self.data_root,
                platform=self.platform,
            )

    def find_image(self, name: str) -> str | None:
        with self._call("find_image", name):
            return self._image(name)

    def describe_image(self, name: str) -> ImageFacts | None:
        with self._call("describe_image", name):
            found = self._image(name)
            if found is None:
                return None
            labels = self.image_labels.get(name) or self.shared_labels.get(name) or {}
            return ImageFacts(found, self._now, 1000, (found,), labels, self.platform)

    def import_image(self, tar: BinaryIO) -> str:
        with self._call("import_image"):
            made = f"sha256:{hashlib.sha256(tar.read()).hexdigest()}"
            self.images[made] = made
            return made

    def export_image(self, name: str) -> BinaryIO:
        with self._call("export_image", name):
            found = self._image(name)
            if found is None:
                raise ImageNotFound(f"there is no image {name}")
            return io.BytesIO(f"{name}\n{found}\n".encode())

    def load_image(self, chunks: Iterator[bytes], what: str) -> None:
        with self._call("load_image", what):
            name, digest = b"".join(chunks).decode().splitlines()
            self.images[name] = digest

    def pull(self, name: str, progress: ProgressSink) -> str:
        with self._call("pull", name):
            if name.startswith(NOBODYS_REGISTRY):
                raise RegistryUnavailable(f"pulling {name}: it does not answer")
            if name not in self.registry:
                raise ImageNotFound(f"pulling {name}: no registry has it")
            progress(ProgressEvent("pull", 1, 1, "bytes"))
            self.images[name] = self.registry[name]
            return self.images[name]

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
        if self.build_hangs and interrupt is not None:
            for line in self.build_output:
                progress(ProgressEvent("build", line=line))
            self.building.set()
            while True:
                interrupt()
                time.sleep(0.01)
        with self._call("build", tag):
            self.build_limits[tag] = (resources, network)
            self.build_credentials[tag] = credentials
            self.build_cached[tag] = cached
            self.build_arguments[tag] = dict(arguments or {})
            for line in self.build_output:
                progress(ProgressEvent("build", line=line))
            if self.build_fails is not None:
                raise ImageRejected(f"building {tag}: {self.build_fails}", "\n".join(self.build_output))
            if not (context / dockerfile).is_file():
                raise ImageRejected(f"building {tag}: there is no {dockerfile}")
            made = self._make_image(tag, labels)
            if shared:
                del self.image_labels[tag]
                self.shared_labels[tag] = dict(labels)
            return made

    def commit(self, container: str, tag: str, labels: Mapping[str, str], env_to_drop: Iterable[str]) -> str:
        with self._call("commit", container):
            if self._ours(container).state is ContainerState.RUNNING:
                raise EngineError(f"the container {container} is running")
            return self._make_image(tag, labels)

    def remove_image(self, name: str) -> None:
        with self._call("remove_image", name):
            if name not in self.images:
                return
            if self.image_labels.get(name, {}).get(INSTANCE_LABEL) != self.instance:
                raise EngineError(f"the image {name} is not ours")
            del self.images[name], self.image_labels[name]

    def create(self, spec: ContainerSpec) -> Container:
        with self._call("create", spec.name):
            if spec.name in self.containers:
                return self._ours(spec.name).seen()
            image = self._image(spec.image)
            if image is None:
                raise ImageNotFound(f"there is no image {spec.image}")
            if isinstance(spec.network, Sandbox):
                if spec.network.id not in self.sandboxes:
                    raise EngineError(f"there is no sandbox {spec.network.name}")
            elif spec.network is not None and spec.network not in self.networks:
                raise EngineError(f"there is no network {spec.network}")
            for mount in spec.mounts:
                if mount.volume not in self.volumes:
                    raise EngineError(f"there is no volume {mount.volume}")
            self._serial += 1
            made = FakeContainer(
                id=f"{self._serial:064x}",
                spec=replace(spec, image=image),
                labels={**spec.labels, INSTANCE_LABEL: self.instance},
            )
            self.containers[spec.name] = made
            return made.seen()

    def find(self, name: str) -> Container | None:
        with self._call("find", name):
            container = self._known(name)
            if container is None or container.labels.get(INSTANCE_LABEL) != self.instance:
                return None
            return container.seen()

    def put(self, name: str, folder: str, tar: BinaryIO) -> None:
        with self._call("put", name):
            container = self._ours(name)
            if container.state is ContainerState.RUNNING:
                raise EngineError(f"the container {name} is running")
            try:
                with tarfile.open(fileobj=tar, mode="r|") as packed:
                    for member in packed:
                        stream = packed.extractfile(member)
                        content = stream.read() if stream else None
                        self._keep(container, str(PurePosixPath(folder, member.name)), content)
                        container.files[str(PurePosixPath(folder, member.name))] = File(
                            content,
                            member.uid,
                            member.gid,
                            member.mode,
                            datetime.fromtimestamp(member.mtime, UTC),
                        )
            except tarfile.ReadError as error:
                raise EngineError(f"what should go into {name}:{folder} is not a plain tar") from error

    def start(self, name: str) -> None:
        with self._call("start", name):
            container = self._ours(name)
            if container.state is ContainerState.RUNNING:
                return
            joined = container.spec.network
            if isinstance(joined, Sandbox) and not self._is_running(joined.id):
                raise EngineError(f"the sandbox {joined.name} that {name} joins is not running")
            self.starts[container.spec.name] += 1
            container.state, container.started_at = ContainerState.RUNNING, self._tick()
            script = next((script for fits, script in self._scripts if fits(container.spec)), Script())
            called = container.spec.command[3:4]
            command = self.commands.get(called[0]) if called else None
            if command is not None:
                script = command(container, self._mounted(container.spec))
            self._print(container, script.lines)
            container.files |= {path: File(content, 1000, 1000) for path, content in script.files.items()}
            if script.exit is not None:
                self._end(container, script.exit)
            self._changed.notify_all()

    def logs(self, name: str, since: str | None) -> FakeLog:
        with self._call("logs", name):
            container = self._ours(name)
            # "...:12.123456789Z" cut to microseconds.
            first = since[: since.index(".") + 7] if since else ""
            return FakeLog(self, container, first, self._severed)

    def stop(self, name: str, grace: float) -> None:
        with self._call("stop", name):
            container = self._known(name)
            if container is None:
                return
            container = self._ours(name)
            if container.state is ContainerState.RUNNING:
                self.graces.append(grace)
                self._end(container, Exit(143))

    def get(self, name: str, path: str) -> BinaryIO | None:
        with self._call("get", name):
            container = self._ours(name)
            wanted = PurePosixPath(path)
            files = {
                PurePosixPath(inside): file
                for inside, file in sorted(container.files.items())
                if PurePosixPath(inside).is_relative_to(wanted)
            }
            if not files:
                return None
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as tar:
                if wanted not in files:
                    files = {wanted: File(None, mode=0o755), **files}
                for inside, file in files.items():
                    member = tarfile.TarInfo(str(inside.relative_to(wanted.parent)))
                    member.uid, member.gid, member.mode = file.uid, file.gid, file.mode
                    if file.content is None:
                        member.type = tarfile.DIRTYPE
                    else:
                        member.size = len(file.content)
                    tar.addfile(member, io.BytesIO(file.content or b""))
            packed.seek(0)
            return packed

    def modified(self, name: str, path: str) -> datetime | None:
        with self._call("modified", name):
            files = self._ours(name).files
            inside = [f for p, f in files.items() if PurePosixPath(p).is_relative_to(path) and p != path]
            if any(f.modified is None for f in inside):
                return self._now
            return files[path].modified if path in files else None

    def remove(self, name: str) -> None:
        with self._call("remove", name):
            if self._known(name) is not None:
                del self.containers[self._ours(name).spec.name]
                self._changed.notify_all()

    def ensure_network(self, name: str, labels: Mapping[str, str]) -> None:
        with self._call("ensure_network", name):
            self._check("network", name, self.networks)
            self.networks.setdefault(name, {**labels, INSTANCE_LABEL: self.instance})

    def remove_network(self, name: str) -> None:
        with self._call("remove_network", name):
            self._check("network", name, self.networks)
            if any(c.spec.network == name for c in self.containers.values()):
                raise EngineError(f"the network {name} is in use")
            self.networks.pop(name, None)

    def ensure_sandbox(self, spec: SandboxSpec) -> Sandbox:
        with self._call("ensure_sandbox", spec.name):
            image = self._image(spec.image)
            if image is None:
                raise ImageNotFound(f"there is no image {spec.image}")
            self._check("network", spec.name, self.networks)
            self.networks.setdefault(spec.name, {**spec.labels, INSTANCE_LABEL: self.instance})
            found = self._ours(spec.name) if spec.name in self.containers else None
            if found is not None:
                held_by = Sandbox(found.id, spec.name)
                inside = [c for c in self.containers.values() if c.spec.network == held_by]
                before = self.sandboxes.get(found.id)
                good = (
                    before is not None
                    and not before.tampered
                    and before.spec.reachable == spec.reachable
                    and found.state is ContainerState.RUNNING
                    and not any(c.state is ContainerState.RUNNING for c in inside)
                )
                if not good:
                    del self.containers[spec.name]
                    found = None
            if found is None:
                self._serial += 1
                held = ContainerSpec(
                    spec.name, image, ("hold",), spec.labels, {}, "0:0", "/", Resources(), network=spec.name
                )
                found = FakeContainer(
                    id=f"{self._serial:064x}",
                    spec=held,
                    labels={**spec.labels, INSTANCE_LABEL: self.instance},
                    state=ContainerState.RUNNING,
                )
                self.containers[spec.name] = found
                self.sandboxes[found.id] = FakeSandbox(spec, set(spec.prohibited))
            self.sandboxes[found.id].prohibited |= set(spec.prohibited)
            return Sandbox(found.id, spec.name)

    def prohibit(self, name: str, addresses: Iterable[str]) -> None:
        with self._call("prohibit", name):
            container = self._known(name)
            if container is None or container.state is not ContainerState.RUNNING:
                raise ContainerGone(f"there is no sandbox {name}")
            self.sandboxes[container.id].prohibited |= set(addresses)

    def host_addresses(self, image: str) -> tuple[str, ...]:
        with self._call("host_addresses", image):
            if self._image(image) is None:
                raise ImageNotFound(f"there is no image {image}")
            return ("192.0.2.2",)

    def boot(self, image: str) -> Boot:
        with self._call("boot", image):
            if self._image(image) is None:
                raise ImageNotFound(f"there is no image {image}")
            return self.booted

    def gpus(self, image: str) -> GpuReport:
        with self._call("gpus", image):
            if self._image(image) is None:
                raise ImageNotFound(f"there is no image {image}")
            return self.gpu_report

    def network_ranges(self) -> tuple[str, ...]:
        with self._call("network_ranges"):
            return tuple(f"172.18.{index}.0/24" for index in range(len(self.networks) + self.other_networks))

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> bool:
        with self._call("ensure_volume", name):
            self._check("volume", name, self.volumes)
            made = name not in self.volumes
            self.volumes.setdefault(name, {**labels, INSTANCE_LABEL: self.instance})
            return made

    def remove_volume(self, name: str) -> None:
        with self._call("remove_volume", name):
            self._check("volume", name, self.volumes)
            mounted = {mount.volume for c in self.containers.values() for mount in c.spec.mounts}
            if name in mounted:
                raise EngineError(f"the volume {name} is in use")
            self.volumes.pop(name, None)
            self.contents.pop(name, None)

    def owned(self) -> Owned:
        with self._call("owned"):
            ours = {
                name for name, labels in self.image_labels.items() if labels[INSTANCE_LABEL] == self.instance
            }
            return Owned(
                containers=tuple(
                    c.seen()
                    for _, c in sorted(self.containers.items())
                    if c.labels.get(INSTANCE_LABEL) == self.instance
                ),
                networks=self._labelled(self.networks),
                volumes=self._labelled(self.volumes),
                images=tuple(sorted(ours)),
            )

    def usage(self) -> Usage:
        with self._call("usage"):
            theirs = [c for c in self.containers.values() if c.labels.get(INSTANCE_LABEL) != self.instance]
            mounted = {m.volume for c in theirs for m in c.spec.mounts}
            images = {c.spec.image for c in theirs}
            return Usage(
                tuple(
                    ImageUsage(
                        name,
                        self.images[name],
                        self.made_at.get(name, self._now),
                        self.sizes.get(name, 0),
                        self.layers.get(name, (name,)),
                        name in images,
                    )
                    for name, labels in sorted(self.image_labels.items())
                    if labels[INSTANCE_LABEL] == self.instance and name in self.images
                ),
                tuple(
                    VolumeUsage(
                        name, self.made_at.get(name, self._now), self.sizes.get(name), name in mounted
                    )
                    for name in self._labelled(self.volumes)
                ),
                tuple(
                    ContainerUsage(
                        c.spec.name,
                        c.id,
                        self.made_at.get(c.spec.name, self._now),
                        c.labels,
                        self.images.get(c.spec.image, ""),
                        tuple(m.volume for m in c.spec.mounts),
                    )
                    for c in self.containers.values()
                    if c.labels.get(INSTANCE_LABEL) == self.instance
                ),
                tuple(
                    NetworkUsage(name, self.made_at.get(name, self._now))
                    for name in self._labelled(self.networks)
                ),
            )

    def close(self) -> None:
        self.closed = True

    # Within

    @contextmanager
    def _call(self, name: str, argument: str = "") -> Iterator[None]:
        with self._changed:
            self.calls.append((name, argument))
            if self._unreachable:
                raise EngineUnavailable(f"{name}: the engine does not answer")
            faults = self._faults.get(name)
            fault = faults.popleft() if faults else None
            if fault is not None:
                raise fault
            yield
            late = self._after.get(name)
            if late:
                raise late.popleft()

    def _keep(self, container: FakeContainer, path: str, content: bytes | None) -> None:
        """Keep a file that is put into a volume, which outlives the container."""
        for mount in container.spec.mounts:
            if content is not None and path.startswith(f"{mount.target}/"):
                kept = self.contents.setdefault(mount.volume, {})
                kept[path.removeprefix(f"{mount.target}/")] = content

    def _mounted(self, spec: ContainerSpec) -> dict[str, bytes]:
        first = [mount.volume for mount in spec.mounts] or [folder.path for folder in spec.folders]
        return self.contents.setdefault(first[0], {}) if first else {}

    def _image(self, name: str) -> str | None:
        return self.images.get(name) or (name if name in self.images.values() else None)

    def _make_image(self, tag: str, labels: Mapping[str, str]) -> str:
        self._serial += 1
        self.images[tag] = f"sha256:{self._serial:064x}"
        self.image_labels[tag] = {**labels, INSTANCE_LABEL: self.instance}
        return self.images[tag]

    def _known(self, name: str) -> FakeContainer | None:
        return next((c for c in self.containers.values() if name in (c.spec.name, c.id)), None)

    def _is_running(self, identity: str) -> bool:
        container = self._known(identity)
        return container is not None and container.state is ContainerState.RUNNING

    def _ours(self, name: str) -> FakeContainer:
        container = self._known(name)
        if container is None:
            raise ContainerGone(f"there is no container {name}")
        if container.labels.get(INSTANCE_LABEL) != self.instance:
            raise EngineError(f"the container {name} is not ours")
        return container

    def _check(self, kind: str, name: str, kept: Mapping[str, Mapping[str, str]]) -> None:
        if name in kept and kept[name].get(INSTANCE_LABEL) != self.instance:
            raise EngineError(f"the {kind} {name} is not ours")

    def _labelled(self, kept: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
        return tuple(sorted(n for n, labels in kept.items() if labels.get(INSTANCE_LABEL) == self.instance))

    def _tick(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now

    def _print(self, container: FakeContainer, lines: Iterable[bytes]) -> None:
        for text in lines:
            stamp = self._tick().strftime("%Y-%m-%dT%H:%M:%S.%f") + "001Z"
            container.lines.append(LogLine(stamp, text))

    def _end(self, container: FakeContainer, ending: Exit) -> None:
        container.state = ContainerState.EXITED
        container.exit = replace(
            ending,
            started_at=ending.started_at or container.started_at,
            finished_at=ending.finished_at or self._tick(),
        )
        self._changed.notify_all()


class FakeLog:
    """A log that follows its container."""

    def __init__(self, engine: FakeEngine, container: FakeContainer, first: str, severed: int) -> None:
        self._engine = engine
        self._container = container
        self._first = first
        self._severed = severed
        self._position = 0
        self._closed = False

    def __iter__(self) -> FakeLog:
        return self

    def __next__(self) -> LogLine:
        changed = self._engine._changed
        with changed:
            while True:
                changed.wait_for(lambda: self._position < len(self._container.lines) or self._ended())
                if self._closed or self._engine._severed != self._severed:
                    raise StopIteration
                if self._position == len(self._container.lines):
                    raise StopIteration
                line = self._container.lines[self._position]
                self._position += 1
                if line.timestamp >= self._first:
                    return line

    @property
    def ended(self) -> Container | None:
        whole = self._position == len(self._container.lines) and not self._closed
        there = self._engine._severed == self._severed and self._container.state is ContainerState.EXITED
        return self._container.seen() if whole and there else None

    def close(self) -> None:
        with self._engine._changed:
            self._closed = True
            self._engine._changed.notify_all()

    def _ended(self) -> bool:
        return (
            self._closed
            or self._engine._severed != self._severed
            or self._container.state is not ContainerState.RUNNING
            or self._container.spec.name not in self._engine.containers
        )
