"""Making an image from a folder with a Dockerfile, with the engine's own builder."""

from __future__ import annotations

import contextlib
import json
import re
import stat
import tarfile
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from orchestrator.adapters.docker.clients import Clients, endpoint
from orchestrator.adapters.docker.errors import CONFLICT, Refused, check, disk_full, says_full, translate
from orchestrator.adapters.docker.messages import Message, messages
from orchestrator.adapters.docker.registries import Logins, not_pulled, registry_of, speaks_of_network
from orchestrator.adapters.docker.streams import body_of
from orchestrator.domain.errors import EngineError, ImageRejected, RegistryUnavailable
from orchestrator.ports.engine import Interrupt
from orchestrator.ports.progress import ProgressEvent, ProgressSink

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

_SILENCE = 1800.0
"""Seconds that a line of a Dockerfile may say nothing."""
_LOOK = 1.0
"""Seconds between two questions whether a build is still wanted."""
_LETTING_GO = 10.0
"""Seconds that an engine may need to end what an interrupted build was doing."""
_AGAIN = 0.2
_TAIL = 100
_IGNORE_LIMIT = 64 * 1024
_STEP = re.compile(r"Step \d+/\d+ : (?P<instruction>\w+)(?P<rest>[^\n]*)")
_LAYER = re.compile(r" ---> (?P<id>[0-9a-f]{12,64})\s*")


class _Trail:
    """Which images a build left behind so far, from what it says.

    A failed build keeps the image of each line that worked, without any label. Those that the cache gave, and
    the ones named in FROM, were there before.
    """

    def __init__(self) -> None:
        self.made: list[str] = []
        self._instruction = ""
        self._cached = False
        self._rest = ""

    @property
    def wanted(self) -> str:
        """The image that the FROM under way asks for; empty anywhere else."""
        words = [word for word in self._rest.split() if not word.startswith("--")]
        return words[0] if self._instruction == "FROM" and words else ""

    def hear(self, text: str) -> None:
        if step := _STEP.match(text):
            self._instruction, self._cached = step["instruction"].upper(), False
            self._rest = step["rest"]
        elif text.startswith(" ---> Using cache"):
            self._cached = True
        elif (layer := _LAYER.fullmatch(text)) and not self._cached and self._instruction != "FROM":
            self.made.append(layer["id"])


class _Watch:
    """Asks within the block, in a thread of its own, whether the build is still wanted; else cuts it off.

    Leaving the block raises what ``interrupt`` raised.
    """

    def __init__(self, interrupt: Interrupt | None, response: Response) -> None:
        self._interrupt = interrupt
        self._response = response
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="build-watch", daemon=True)
        self.reason: BaseException | None = None

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        if self.reason is not None:
            raise self.reason

    def _watch(self) -> None:
        if self._interrupt is None:
            return
        try:
            while not self._over.wait(_LOOK):
                self._interrupt()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that builds
            self.reason = error
            with contextlib.suppress(ValueError, RuntimeError, OSError):
                body_of(self._response).shutdown()


def build(
    clients: Clients,
    context: Path,
    dockerfile: str,
    tag: str,
    labels: Mapping[str, str],
    limits: Mapping[str, str],
    progress: ProgressSink,
    *,
    logins: Logins | None,
    interrupt: Interrupt | None,
) -> None:
    """Build ``context`` as ``tag``. ImageRejected with the output's end when the project is at fault.

    ``limits`` are parameters of the request, see :func:`orchestrator.adapters.docker.convert.build_limits`.
    ``logins`` are sent along for the images in FROM, and are None for a stranger's Dockerfile.
    """
    what = f"building {tag}"
    client = clients.stream()
    trail, tail, fault, watch = _Trail(), deque[str](maxlen=_TAIL), None, None
    try:
        with tempfile.TemporaryFile() as packed:
            try:
                _pack(context, dockerfile, packed)
            except OSError as error:
                raise EngineError(f"{what}: the folder {context} cannot be packed: {error}") from error
            packed.seek(0)
            with translate(what):
                response = client.post(
                    endpoint(client, "/build"),
                    params={
                        "t": tag,
                        "dockerfile": dockerfile,
                        "labels": json.dumps(dict(labels)),
                        "rm": "1",
                        "forcerm": "1",
                        **limits,
                    },
                    data=packed,
                    headers={"Content-Type": "application/tar", **(logins.for_build() if logins else {})},
                    stream=True,
                    timeout=(clients.timeout, _SILENCE),
                )
                check(response)
        watch = _Watch(interrupt, response)
        with watch:
            for message in messages(response, what):
                if "error" in message:
                    fault = message
                elif text := message.get("stream", ""):
                    trail.hear(text)
                    for line in filter(None, text.splitlines()):
                        tail.append(line)
                        progress(ProgressEvent("build", line=line))
    except Refused as error:
        # Found wrong before the first line ran: the Dockerfile is missing or cannot be parsed.
        raise ImageRejected(error.message, "\n".join(tail)) from error
    finally:
        if fault is not None:
            _forget(client, trail.made, 0.0)
        elif watch is not None and watch.reason is not None:
            _forget(client, trail.made, _LETTING_GO)
        client.close()
    if fault is not None:
        raise _rejection(what, fault, tail, trail.wanted, logins)


def _rejection(
    what: str, fault: Message, tail: deque[str], wanted: str, logins: Logins | None
) -> EngineError:
    detail = fault.get("errorDetail", {})
    # With an exit code the message repeats a line of the Dockerfile, which may say anything.
    if "code" not in detail and says_full(fault["error"]):
        return disk_full(what)
    if "code" not in detail and wanted:
        what = f"{what}: FROM {wanted}"
        missed = not_pulled(what, registry_of(wanted), 0, fault["error"], logins or Logins())
        down = isinstance(missed, RegistryUnavailable)
        # An image that is not to be had is the fault of who wrote the Dockerfile.
        if speaks_of_network(fault["error"]) if down else logins is not None:
            return missed
    return ImageRejected(f"{what}: {fault['error']}", "\n".join([*tail, fault["error"]]))


def _forget(client: APIClient, images: list[str], patience: float) -> None:
    """Remove, newest first, what an unfinished build left. One that another build shares by now stays.

    One that is still in use is asked for again for ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    for image in reversed(images):
        while True:
            try:
                with translate(f"removing the unfinished image {image}"):
                    described = client.inspect_image(image)  # type: ignore[no-untyped-call]
                    if not described["RepoTags"]:
                        client.remove_image(image, noprune=True)
                break
            except EngineError as error:
                if not (isinstance(error, Refused) and error.status == CONFLICT):
                    return
                if time.monotonic() > deadline:
                    return
                time.sleep(_AGAIN)


def _pack(context: Path, dockerfile: str, into: IO[bytes]) -> None:
    """Write the folder as a plain tar, without what its .dockerignore names. Symbolic links stay links.

    The folder is a stranger's: nothing outside it is read, whatever its links and names say.
    """
    from docker.utils.build import exclude_paths

    if PurePosixPath(dockerfile).is_absolute() or ".." in PurePosixPath(dockerfile).parts:
        raise ImageRejected(f"the Dockerfile '{dockerfile}' lies outside the folder that is built")
    with tarfile.open(fileobj=into, mode="w") as tar:
        for name in sorted(exclude_paths(str(context), _ignored(context), dockerfile=dockerfile)):
            path = context / name
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                continue
            member = tar.gettarinfo(path, arcname=name)
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            if member.isreg():
                with path.open("rb") as content:
                    tar.addfile(member, content)
            else:
                tar.addfile(member)


def _ignored(context: Path) -> list[str]:
    path = context / ".dockerignore"
    try:
        found = path.lstat()
    except FileNotFoundError:
        return []
    if not stat.S_ISREG(found.st_mode) or found.st_size > _IGNORE_LIMIT:
        raise ImageRejected(f".dockerignore has to be a plain file of at most {_IGNORE_LIMIT} bytes")
    lines = (line.strip() for line in path.read_text(errors="replace").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
