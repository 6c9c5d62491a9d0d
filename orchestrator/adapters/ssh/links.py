"""All links of this process, the folder that their sockets lie in, and what is asked of hosts over SSH."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from orchestrator.adapters.ssh import settings
from orchestrator.adapters.ssh.keys import KnownHosts, fingerprint, read_keys, trusted_by
from orchestrator.adapters.ssh.link import Files, Link, again_beside
from orchestrator.adapters.ssh.process import leashed
from orchestrator.adapters.ssh.trouble import Trouble, trouble_of
from orchestrator.domain.errors import EngineUnavailable, InvalidInput
from orchestrator.domain.pipeline import HostSpec, SshSpec
from orchestrator.ports.links import Answer, HostKey, LinkStatus
from orchestrator.ports.world import Clock

_PREFIX: Final = "mlci-ssh-"
_YOUNG: Final = 60.0
"""Seconds for which a folder without a lock may be one that is just being made."""
_SSH_FAILED: Final = 255
_QUESTION: Final = 20.0
_LOOKING: Final = 10.0


class SshLinks:
    """The port :class:`orchestrator.ports.links.Links` over OpenSSH; trusted keys are in ``known_hosts``."""

    def __init__(self, known_hosts: Path, clock: Clock) -> None:
        self.trusted = KnownHosts(known_hosts)
        self._clock = clock
        self._lock = threading.Lock()
        self._links: dict[str, Link] = {}
        self._former: dict[str, list[Link]] = {}
        self._numbers = itertools.count(1)
        self._folder: Path | None = None
        self._held: int | None = None

    def link(self, host: HostSpec) -> Link:
        """A host's link, not connected yet when it is new. A host with another way has a new one."""
        spec = _ssh(host)
        with self._lock:
            made = self._links.get(host.name)
            if made is not None and made.spec == spec:
                return made
            if made is not None:
                # Attempts may still be followed over it.
                self._former.setdefault(host.name, []).append(made)
            files = self._files()
            link = Link(
                host.name, spec, files, self._clock, lambda command: self.run(host, command, _LOOKING)
            )
            self._links[host.name] = link
            return link

    def status(self, host: str) -> LinkStatus | None:
        """How it stands with a host's link."""
        with self._lock:
            link = self._links.get(host)
        return None if link is None else link.status

    def run(self, host: HostSpec, command: Sequence[str], timeout: float = 30.0) -> Answer:
        """Run a command on a host over a login of its own."""
        spec = _ssh(host)
        with self._configured(spec) as config:
            answer = self._asked(host.name, settings.remote(spec, config, command), timeout)
        if answer.code == _SSH_FAILED:
            raise self._trouble(host.name, spec, answer)
        return answer

    def keys(self, host: HostSpec) -> Iterator[HostKey]:
        """The keys of the machines on the way to a host, itself last."""
        spec = _ssh(host)
        for hop in self._hops(host.name, spec):
            yield self._key(host.name, hop)

    def trust(self, host: HostSpec, key: HostKey) -> None:
        """Trust a key from now on."""
        if (own := _ssh(host).known_hosts) is not None:
            raise InvalidInput(
                f"the keys of host {host.name} are kept in {own}",
                f"add the line there: {key.name} {key.kind} {key.blob}",
            )
        self.trusted.trust(key)

    def again(self) -> None:
        """Have this and all other processes of the installation try at once what they do not reach."""
        file = again_beside(self.trusted.path)
        # They try again in any case, only later.
        with contextlib.suppress(OSError):
            file.parent.mkdir(mode=0o700, exist_ok=True)
            file.touch()

    def forget(self, host: str) -> None:
        """End the connections to a host, those by former ways too."""
        self.detach(host)()

    def detach(self, host: str) -> Callable[[], None]:
        """Have a new connection for whoever asks from now on; what is returned ends those that there are."""
        with self._lock:
            link = self._links.pop(host, None)
            links = [*self._former.pop(host, ()), *([] if link is None else [link])]
        return partial(_close, links)

    def part(self, host: str) -> Callable[[], None]:
        """As ``detach``, for the connections by former ways alone."""
        with self._lock:
            return partial(_close, self._former.pop(host, ()))

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            links = [*itertools.chain.from_iterable(self._former.values()), *self._links.values()]
            self._former.clear()
            self._links.clear()
            folder, self._folder = self._folder, None
            held, self._held = self._held, None
        _close(links)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)

    def _hops(self, name: str, spec: SshSpec) -> list[SshSpec]:
        """The machines on the way, each with those before it as its own way."""
        with self._configured(spec) as config:
            answer = self._asked(name, settings.question(spec, config), _QUESTION)
        if answer.code != 0:
            raise self._trouble(name, spec, answer)
        told = dict(line.partition(" ")[::2] for line in answer.out.splitlines())
        jumps = told.get("proxyjump", "none")
        names = [] if jumps == "none" else jumps.split(",")
        hops = []
        for number, jump in enumerate(names):
            user, _, place = jump.rpartition("@")
            hostname, port = _place(place)
            before = ",".join(names[:number]) or "none"
            hops.append(
                SshSpec(
                    hostname, user or None, port, spec.identity_file, before, spec.known_hosts, spec.config
                )
            )
        return [*hops, spec]

    def _key(self, name: str, hop: SshSpec) -> HostKey:
        """The key that a machine shows, taken without a login."""
        with self._configured(hop) as config, tempfile.TemporaryDirectory(prefix="mlci-key-") as folder:
            shown = Path(folder) / "shown"
            answer = self._asked(name, settings.greeting(hop, config, shown), _QUESTION)
            found = next(read_keys(shown), None)
        if found is None:
            raise self._trouble(name, hop, answer)
        kind, blob = found[1], found[2]
        known = trusted_by(hop, self.trusted.path).fingerprints(found[0])
        return HostKey(found[0], kind, blob, fingerprint(blob), known)

    def _trouble(self, name: str, spec: SshSpec, answer: Answer) -> EngineUnavailable:
        known = trusted_by(spec, self.trusted.path)
        return trouble_of(name, spec, answer.err, known.fingerprints).error(name)

    def _asked(self, name: str, command: Sequence[str], timeout: float) -> Answer:
        try:
            done = subprocess.run(
                leashed(command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                env=settings.environment(os.environ),
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Trouble(f"no answer within {timeout:.0f} s").error(name) from None
        except OSError as error:
            raise EngineUnavailable(f"host {name}: ssh cannot be started: {error}") from error
        return Answer(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    @contextlib.contextmanager
    def _configured(self, spec: SshSpec) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile("w", prefix="mlci-ssh-", suffix=".conf") as file:
            file.write(settings.configuration(spec, self.trusted.path))
            file.flush()
            yield Path(file.name)

    def _files(self) -> Files:
        if self._folder is None:
            self._folder, self._held = _runtime_folder()
        number = next(self._numbers)
        return Files(self._folder / f"{number}.conf", self._folder / f"{number}.sock", self.trusted.path)


def _close(links: Sequence[Link]) -> None:
    for link in links:
        link.close()


def _ssh(host: HostSpec) -> SshSpec:
    if host.ssh is None:
        raise InvalidInput(f"host {host.name} is not reached over SSH")
    return host.ssh


def _place(text: str) -> tuple[str, int | None]:
    """``name``, ``name:22`` or ``[::1]:22`` as name and port."""
    if text.startswith("["):
        name, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        name, _, port = text.partition(":")
    return name, int(port) if port.isdecimal() else None


def _runtime_folder() -> tuple[Path, int]:
    """A folder for sockets, for this user alone, and its descriptor, locked to say that it is in use.

    Not in the state folder: the path of a socket may have a hundred letters. What killed processes left is
    removed. The lock is on the folder itself: that is what cleaners of temporary files respect.
    """
    parent = Path(tempfile.gettempdir())
    for other in parent.glob(f"{_PREFIX}*"):
        _remove_forgotten(other)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)
    return folder, held


def _remove_forgotten(folder: Path) -> None:
    with contextlib.suppress(OSError):
        seen = folder.lstat()
        young = time.time() - seen.st_mtime < _YOUNG
        if seen.st_uid != os.getuid() or not stat.S_ISDIR(seen.st_mode) or young:
            return
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)
