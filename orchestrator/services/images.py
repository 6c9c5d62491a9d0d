"""Images: pulled, built from a folder or from the repository, and the setup layer on top.

Every image that is made here is named by its content, so that the same files make it once per host.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import stat
import tarfile
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import assert_never

from orchestrator.domain.errors import (
    ContainerGone,
    EngineError,
    ImageNotFound,
    ImageRejected,
    RegistryDenied,
    RegistryUnavailable,
)
from orchestrator.domain.pipeline import (
    HELPER_IMAGE,
    FolderImage,
    ImageSpec,
    NamedImage,
    RepositoryImage,
    RunnerSpec,
    Setup,
)
from orchestrator.domain.run import Exit
from orchestrator.ports.engine import (
    ContainerSpec,
    ContainerState,
    Engine,
    Interrupt,
    LogStream,
    Sandbox,
)
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.world import Clock
from orchestrator.services import naming
from orchestrator.services.bounds import LOG_TAIL, LONGEST_LINE, BoundedBuild, carry_on, held
from orchestrator.services.cleanup import cleaned_up
from orchestrator.services.supply import OWN_NAMES, ImageSupply

log = logging.getLogger(__name__)

_DIGEST = 40
"""Hexadecimal digits by which an image is known. Branches that never deploy share images with those that do,
so nobody may be able to look for two contents of one name: with 12 digits that takes minutes.
"""
_FROM_OURS = re.compile(
    rf"^[ \t]*(?:ARG[ \t]+\w+=|FROM[ \t]+(?:--\S+[ \t]+)*)({OWN_NAMES}[\w./-]+:[\w.-]+)(?=\s)",
    re.MULTILINE | re.IGNORECASE,
)
_LOOK = 1.0
"""Seconds between two looks at a setup that goes on."""
_LOG_PATIENCE = 60.0
_AGAIN = 0.2


class SetupFailed(Exception):
    """The setup command ended badly; carries its output's end."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.message = message
        self.log = log


class Images:
    """Makes the images that attempts run in. Thread-safe: one image is made once, by whoever asks first."""

    def __init__(self, instance: str, owner: str, clock: Clock, supply: ImageSupply | None = None) -> None:
        self._instance = instance
        self._owner = owner
        self._clock = clock
        self._supply = supply or ImageSupply()
        self._locks: defaultdict[tuple[int, str], threading.Lock] = defaultdict(threading.Lock)

    def runner_image(
        self,
        engine: Engine,
        image: ImageSpec,
        checkout: Path | None,
        progress: ProgressSink,
        runner: RunnerSpec | None = None,
        limit: float | None = None,
        interrupt: Interrupt | None = None,
        network: Sandbox | str | None = None,
        anew: bool = False,
        whose: str = "",
    ) -> tuple[str, str]:
        """Have a runner's image on a host: its name and digest.

        ``checkout`` is needed for a RepositoryImage alone, and so are ``runner``, ``limit`` (seconds) and
        ``network``, within which a repository's Dockerfile is built, without the passwords of registries that
        an administrator's gets. What is made of a repository is kept for those with the same ``whose`` alone.
        Raises ImageNotFound, ImageRejected, EngineError, and what ``interrupt``
        raises, which ends a build.
        """
        match image:
            case NamedImage():
                return image.name, self._named(engine, image.name, progress, interrupt or carry_on)
            case FolderImage():
                folder = Path(image.folder)
                if not (folder / "Dockerfile").is_file():
                    raise ImageNotFound(
                        f"{folder} holds no Dockerfile",
                        "point the runner's image at a folder with a Dockerfile",
                    )
                return self._built(
                    engine,
                    folder,
                    "Dockerfile",
                    folder.name,
                    progress,
                    interrupt or carry_on,
                    anew=anew,
                )
            case RepositoryImage():
                if checkout is None or not (checkout / image.dockerfile).is_file():
                    raise ImageRejected(
                        f"the repository holds no {image.dockerfile} at this commit",
                        remedy="add it, or name another image in the runner",
                    )
                return self._built(
                    engine,
                    checkout,
                    image.dockerfile,
                    f"repository-{_digest(whose)}" if whose else "repository",
                    progress,
                    interrupt or carry_on,
                    runner,
                    limit,
                    network,
                    # Layers that others left could hold what only they may see.
                    cached=not whose,
                )
            case _:
                assert_never(image)

    def _named(self, engine: Engine, name: str, progress: ProgressSink, interrupt: Interrupt) -> str:
        """Have an image by name; its id. Where no registry gives it, it may be copied."""
        digest = engine.find_image(name)
        if digest is not None:
            return digest
        if name.startswith(OWN_NAMES):
            return self._supply.have(engine, name, progress, interrupt)
        try:
            return engine.pull(name, progress)
        except (ImageNotFound, RegistryDenied, RegistryUnavailable) as refused:
            try:
                return self._supply.have(engine, name, progress, interrupt)
            except ImageNotFound:
                # Nobody else has it either: what the registry said is the reason.
                raise refused from None

    def _built(
        self,
        engine: Engine,
        folder: Path,
        dockerfile: str,
        name: str,
        progress: ProgressSink,
        interrupt: Interrupt,
        runner: RunnerSpec | None = None,
        limit: float | None = None,
        network: Sandbox | str | None = None,
        *,
        anew: bool = False,
        cached: bool = True,
    ) -> tuple[str, str]:
        """Build a folder, a stranger's when there is a ``runner``."""
        tag = built_tag(folder, dockerfile, name)
        with held(self._locks[id(engine), tag], interrupt):
            digest = None if anew else engine.find_image(tag)
            if digest is None:
                for name in _begins_with(folder / dockerfile, stranger=runner is not None):
                    self._supply.have(engine, name, progress, interrupt)
                progress(ProgressEvent(f"building {tag}"))
                # Builds know no networks by name: what is not protected has the engine's default one.
                way = "default" if runner is None else network
                bounded = BoundedBuild(tag, self._clock, limit, interrupt, progress)
                digest = engine.build(
                    folder,
                    dockerfile,
                    tag,
                    {naming.ROLE_LABEL: "runner"},
                    bounded.hear,
                    runner.resources if runner else None,
                    network=way if isinstance(way, Sandbox) else way is not None,
                    credentials=runner is None,
                    interrupt=bounded.check,
                    cached=cached,
                )
        return tag, digest

    def with_setup(
        self,
        engine: Engine,
        base: tuple[str, str],
        runner: RunnerSpec,
        setup: Setup,
        checkout: Path,
        limit: float,
        interrupt: Interrupt,
        progress: ProgressSink,
        network: Sandbox | str | None = None,
        whose: str = "",
    ) -> tuple[str, str]:
        """Have the base image plus what the setup command installed: name and digest.

        The command runs as the run's user inside the run's limits, ``limit`` seconds at most, without
        secrets, on the ``key`` files alone, so that what it sees is what the layer is named by. It is
        shared by those with the same ``whose``: what a stranger's packages leave is for nobody else. Raises
        SetupFailed, EngineError, and what ``interrupt`` raises, which ends the command.
        """
        files = _key_files(checkout, setup.key)
        digest = hashlib.sha256()
        who = (whose,) if whose else ()
        for part in (base[1], *setup.command, runner.network.value, f"{runner.uid}:{runner.gid}", *who):
            digest.update(part.encode() + b"\0")
        for path, content in files:
            digest.update(os.fsencode(path) + b"\0" + hashlib.sha256(content).digest())
        key = digest.hexdigest()[:_DIGEST]
        tag = f"mlci/setup:{key}"
        with held(self._locks[id(engine), tag], interrupt):
            found = engine.find_image(tag)
            if found is not None:
                return tag, found
            return tag, self._run_setup(
                engine, base[0], runner, setup, files, key, tag, limit, interrupt, progress, network
            )

    def _run_setup(
        self,
        engine: Engine,
        base: str,
        runner: RunnerSpec,
        setup: Setup,
        files: list[tuple[str, bytes]],
        key: str,
        tag: str,
        limit: float,
        interrupt: Interrupt,
        progress: ProgressSink,
        network: Sandbox | str | None,
    ) -> str:
        name = naming.helper_name(self._instance, "setup", key, self._owner)
        labels = {naming.ROLE_LABEL: "setup"}
        env = {"HOME": naming.HOME, "USER": "mlci", "LOGNAME": "mlci", "CI": "true"}
        engine.remove(name)
        with cleaned_up(partial(engine.remove, name)):
            engine.create(
                ContainerSpec(
                    name=name,
                    image=base,
                    command=setup.command,
                    labels=labels,
                    env=env,
                    user=f"{runner.uid}:{runner.gid}",
                    workdir=naming.WORKSPACE,
                    resources=runner.resources,
                    network=network,
                )
            )
            engine.put(name, "/", _tar_of(files, runner.uid, runner.gid))
            progress(ProgressEvent(f"setup: {' '.join(setup.command)}"))
            deadline = self._clock.monotonic() + limit
            engine.start(name)
            with _Tail(engine, name, progress) as tail:
                ended = self._until_ended(engine, name, setup, tail, limit, deadline, interrupt)
            if ended.code != 0:
                reason = "ran out of memory" if ended.oom_killed else "failed"
                raise SetupFailed(
                    f"setup {reason} with exit code {ended.code}: {' '.join(setup.command)}", tail.text()
                )
            return engine.commit(name, tag, labels, env.keys())

    def _until_ended(
        self,
        engine: Engine,
        name: str,
        setup: Setup,
        tail: _Tail,
        limit: float,
        deadline: float,
        interrupt: Interrupt,
    ) -> Exit:
        while True:
            container = engine.find(name)
            if container is None:
                raise ContainerGone(f"the setup container {name} was removed while it ran")
            if container.state is ContainerState.EXITED and container.exit is not None:
                tail.over.wait(_LOG_PATIENCE)
                return container.exit
            interrupt()
            if self._clock.monotonic() > deadline:
                raise SetupFailed(
                    f"setup was stopped after {limit:.0f} s, the run's timeout: {' '.join(setup.command)}",
                    tail.text(),
                )
            if tail.over.is_set():
                # The end of a log says nothing about the container.
                self._clock.sleep(_AGAIN)
            else:
                tail.over.wait(_LOOK)


class _Tail:
    """The last lines of a container's output, read by a thread of its own for as long as the block lasts."""

    def __init__(self, engine: Engine, name: str, progress: ProgressSink) -> None:
        self._engine = engine
        self._name = name
        self._progress = progress
        self._lines: deque[str] = deque(maxlen=LOG_TAIL)
        self._stream: LogStream | None = None
        self._closing = threading.Event()
        self.over = threading.Event()
        """Set once nothing more is read."""
        self._thread = threading.Thread(target=self._read, name=f"log-{name}", daemon=True)

    def __enter__(self) -> _Tail:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        if self._stream is not None:
            self._stream.close()
        self._thread.join(5.0)

    def text(self) -> str:
        """The lines so far."""
        return "\n".join(tuple(self._lines))

    def _read(self) -> None:
        try:
            with closing(self._engine.logs(self._name, None)) as stream:
                self._stream = stream
                for line in stream:
                    if self._closing.is_set():
                        return
                    text = line.text[: 4 * LONGEST_LINE].decode(errors="replace")[:LONGEST_LINE]
                    self._lines.append(text)
                    self._progress(ProgressEvent("setup", line=text))
        except EngineError as error:
            log.info("the output of %s broke off: %s", self._name, error)
        finally:
            self.over.set()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]


def tag_of(image: ImageSpec) -> str:
    """What a runner's image is called on a host; empty where each commit has its own."""
    match image:
        case NamedImage():
            return image.name
        case FolderImage() if (Path(image.folder) / "Dockerfile").is_file():
            return built_tag(Path(image.folder), "Dockerfile", Path(image.folder).name)
        case _:
            return ""


def built_tag(folder: Path, dockerfile: str, name: str) -> str:
    """What the image built from a folder is called: ``name`` and a digest of the folder's content."""
    return f"mlci/{_slug(name)}:{folder_digest(folder, extra=(dockerfile,))[:_DIGEST]}"


def folder_digest(folder: Path, extra: Iterable[str] = ()) -> str:
    """SHA-256 over names, kinds, execute bits and contents of a folder, ``.git`` apart; links by their
    target.
    """
    digest = hashlib.sha256()
    for text in extra:
        digest.update(text.encode() + b"\0")
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f != ".git")
        # The walk counts a link to a folder among the folders, and does not go there.
        links = [f for f in folders if (Path(root) / f).is_symlink()]
        for name in sorted([*files, *links]):
            path = Path(root) / name
            mode = path.lstat().st_mode
            digest.update(os.fsencode(path.relative_to(folder)) + b"\0")
            if stat.S_ISLNK(mode):
                digest.update(b"link" + os.fsencode(path.readlink()) + b"\0")
            elif stat.S_ISREG(mode):
                digest.update(b"exec" if mode & 0o100 else b"file")
                with path.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _begins_with(dockerfile: Path, *, stranger: bool) -> Iterator[str]:
    """The images of ours that a Dockerfile begins with; a stranger's gets the base image alone."""
    text = dockerfile.read_text(encoding="utf-8", errors="replace")
    for name in dict.fromkeys(_FROM_OURS.findall(text)):
        if name == HELPER_IMAGE or not stranger:
            yield name


def _key_files(checkout: Path, patterns: tuple[str, ...]) -> list[tuple[str, bytes]]:
    found: dict[str, bytes] = {}
    root = checkout.resolve()
    for pattern in patterns:
        matches = [
            p for p in sorted(checkout.glob(pattern)) if p.is_file() and p.resolve().is_relative_to(root)
        ]
        if not matches:
            raise SetupFailed(f"setup: no file matches the key '{pattern}'", "")
        for path in matches:
            found[path.relative_to(checkout).as_posix()] = path.read_bytes()
    return sorted(found.items())


def _tar_of(files: list[tuple[str, bytes]], uid: int, gid: int) -> io.BytesIO:
    buffer = io.BytesIO()
    workspace = naming.WORKSPACE.lstrip("/")
    folders = {workspace, naming.HOME.lstrip("/")}
    for path, _ in files:
        parts = path.split("/")[:-1]
        folders |= {"/".join([workspace, *parts[: n + 1]]) for n in range(len(parts))}
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in sorted(folders):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o755, uid, gid
            tar.addfile(entry)
        for path, content in files:
            entry = tarfile.TarInfo(f"{workspace}/{path}")
            entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o644, uid, gid
            tar.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-") or "image"
