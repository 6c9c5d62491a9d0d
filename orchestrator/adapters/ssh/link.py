"""One host's link: a thread that keeps an ssh process alive, and whoever waits for it."""

from __future__ import annotations

import logging
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.adapters.ssh import settings
from orchestrator.adapters.ssh.keys import trusted_by
from orchestrator.adapters.ssh.process import SshProcess
from orchestrator.adapters.ssh.trouble import LOOK, Trouble, engine_trouble, trouble_of
from orchestrator.domain.errors import EngineUnavailable, InvalidInput
from orchestrator.domain.pipeline import SshSpec
from orchestrator.ports.links import Answer, LinkState, LinkStatus
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

_PATIENCE: Final = 25.0
"""Seconds for a connection, login and the engine's first answer included."""
_ANSWER: Final = 10.0
"""Seconds for the engine's first answer alone."""
_LOOK: Final = 0.01
"""Seconds between two looks whether ssh listens; they grow."""
_SLOWEST_LOOK: Final = 0.2
_WATCH: Final = 1.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 60.0
_REFUSED_PAUSE: Final = 300.0
_SETTLED: Final = 30.0
"""Seconds up after which a broken link is no failure that follows on others."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where ssh is told what to do, where it listens, and the keys that count."""

    config: Path
    socket: Path
    known_hosts: Path

    @property
    def again(self) -> Path:
        """What is touched when hosts may be worth another try."""
        return again_beside(self.known_hosts)


def again_beside(known_hosts: Path) -> Path:
    """The file whose change makes all processes of an installation try once more, at once."""
    return known_hosts.with_name("again")


class Link:
    """The way to one host's engine. Thread-safe. It is made when first needed, and anew when it breaks.

    ``run`` runs a command on the host, to find out why its engine does not answer.
    While tries fail, those who need it are told so at once and nobody waits: that is the circuit breaker. The
    tries go on in the link's own thread, ever more rarely, up to once a minute; after a refusal every five
    minutes, or as soon as the trusted keys have changed; and at once when somebody asks for it.
    """

    def __init__(
        self,
        name: str,
        spec: SshSpec,
        files: Files,
        clock: Clock,
        run: Callable[[list[str]], Answer],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.spec = spec
        self.files = files
        self._clock = clock
        self._run = run
        self._chance = chance
        self._changed = threading.Condition()
        self._state = LinkState.IDLE
        self._since = clock.now()
        self._trouble: Trouble | None = None
        self._closed = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: SshProcess | None = None

    @property
    def address(self) -> str:
        """The engine's address on this machine."""
        return f"unix://{self.files.socket}"

    @property
    def status(self) -> LinkStatus:
        """How it stands."""
        with self._changed:
            told = self._trouble
            return LinkStatus(
                self._state, self._since, told.told if told else "", told.remedy if told else ""
            )

    @property
    def pid(self) -> int | None:
        """The process id of its ssh."""
        process = self._process
        return None if process is None else process.pid

    def ready(self) -> None:
        """Return once the engine can be reached.

        Waits while a connection is tried whose predecessor was good, or that is the first one; else raises
        EngineUnavailable or HostRefused at once.
        """
        if self._state is LinkState.UP:
            return
        with self._changed:
            if self._closed:
                raise EngineUnavailable(f"host {self.name}: the connection was closed")
            if self._thread is None:
                self._move(LinkState.CONNECTING, None)
                self._thread = threading.Thread(target=self._keep_up, name=f"link-{self.name}", daemon=True)
                self._thread.start()
            self._changed.wait_for(
                lambda: self._closed or self._state is not LinkState.CONNECTING, _PATIENCE * 2
            )
            if self.status.state is LinkState.UP:
                return
            trouble = self._trouble or Trouble(f"no connection to {self.spec}")
            raise trouble.error(self.name)

    def close(self) -> None:
        """End it for good. Repeating is fine."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._stop.set()
        process = self._process
        if process is not None:
            process.end()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)

    def _keep_up(self) -> None:
        failures = 0
        while not self._stop.is_set():
            began = self._clock.monotonic()
            asked, keys = _changed_at(self.files.again), self._keys_changed_at()
            try:
                trouble, was_up = self._connection()
            except EngineUnavailable as error:
                trouble, was_up = Trouble(error.message, error.remedy), False
            except (OSError, InvalidInput) as error:
                trouble, was_up = Trouble(f"ssh cannot be started: {error}"), False
            except Exception:
                log.exception("host %s: defect in its link", self.name)
                trouble, was_up = Trouble("its link has a defect, which the log shows"), False
            if self._stop.is_set():
                break
            if was_up and self._clock.monotonic() - began > _SETTLED:
                failures = 0
                self._move(LinkState.CONNECTING, trouble)
            elif was_up:
                failures += 1
                self._move(LinkState.CONNECTING if failures == 1 else LinkState.DOWN, trouble)
            else:
                failures += 1
                self._move(LinkState.REFUSED if trouble.refused else LinkState.DOWN, trouble)
            self._pause(failures, asked, keys if trouble.refused else None)
        self._move(LinkState.DOWN, Trouble("the connection was closed"), quiet=True)

    def _connection(self) -> tuple[Trouble, bool]:
        """Connect, and stay until the connection ends: why it did, and whether it was ever good."""
        self.files.config.write_text(settings.configuration(self.spec, self.files.known_hosts))
        self.files.socket.unlink(missing_ok=True)
        process = self._process = SshProcess(settings.tunnel(self.spec, self.files.config, self.files.socket))
        try:
            if (trouble := self._made(process)) is not None:
                return trouble, False
            self._move(LinkState.UP, None)
            while not process.ended(_WATCH):
                if self._stop.is_set():
                    break
                if not self.files.socket.exists():
                    return Trouble("its socket here was removed", "let nothing clean its folder away"), True
            return self._why(process), True
        finally:
            process.close()
            self._process = None

    def _made(self, process: SshProcess) -> Trouble | None:
        """None once the engine has answered over the connection, else what is in the way."""
        deadline = self._clock.monotonic() + _PATIENCE
        look = _LOOK
        while not self.files.socket.exists():
            if process.ended(look):
                return self._why(process)
            look = min(_SLOWEST_LOOK, look * 1.2)
            if self._stop.is_set() or self._clock.monotonic() > deadline:
                return Trouble(
                    f"{self.spec} did not let us in within {_PATIENCE:.0f} s", "see that it is not overloaded"
                )
        if _answers(self.files.socket):
            return None
        if process.ended(0):
            return self._why(process)
        try:
            looked = self._run(["sh", "-c", LOOK, "sh", self.spec.socket]).out
        except EngineUnavailable:
            looked = ""
        return engine_trouble(self.spec, looked)

    def _why(self, process: SshProcess) -> Trouble:
        known = trusted_by(self.spec, self.files.known_hosts)
        return trouble_of(self.name, self.spec, process.said, known.fingerprints)

    def _pause(self, failures: int, asked: int, refused_with: int | None) -> None:
        """Wait before the next try, until one is asked for since ``asked``; after a refusal also until the
        keys are other ones than at that time.
        """
        left = pause(failures, refused_with is not None, self._chance())
        while left > 0 and not self._stop.wait(min(_WATCH, left)):
            left -= _WATCH
            if _changed_at(self.files.again) != asked:
                return
            if refused_with is not None and self._keys_changed_at() != refused_with:
                return

    def _keys_changed_at(self) -> int:
        return _changed_at(trusted_by(self.spec, self.files.known_hosts).path)

    def _move(self, state: LinkState, trouble: Trouble | None, *, quiet: bool = False) -> None:
        with self._changed:
            before, told = self._state, self._trouble
            if state is not before:
                self._since = self._clock.now()
            self._state, self._trouble = state, trouble
            self._changed.notify_all()
        if quiet:
            return
        if state is LinkState.UP:
            log.info("host %s: connected to %s", self.name, self.spec)
        elif trouble is not None and (told is None or told.told != trouble.told):
            # Who needs the link is told by an error, and says so louder.
            log.info("host %s: %s; %s", self.name, trouble.told, trouble.remedy)


def pause(failures: int, refused: bool, chance: float) -> float:
    """Seconds to wait after so many failures in a row; ``chance`` is between 0 and 1.

    Half of it is left to chance, so that many do not come back to one machine at the same moment.
    """
    longest = _REFUSED_PAUSE if refused else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures, 10))
    return longest * (0.5 + chance / 2)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _answers(path: Path) -> bool:
    """Whether an engine answers there."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(_ANSWER)
            asking.connect(str(path))
            asking.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return asking.recv(5) == b"HTTP/"
    except OSError:
        return False
