"""Room on disks: asked before work is given to a host, so that a disk that is nearly full makes runs wait."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.domain.errors import EngineError, EngineFull, EngineUnavailable, ImageNotFound
from orchestrator.domain.pipeline import HostSpec, Resources
from orchestrator.domain.report import format_size
from orchestrator.domain.space import NO_RESERVE, Reserve, Space
from orchestrator.ports.engine import ContainerSpec, ContainerState, Engine
from orchestrator.ports.world import Clock, Disk
from orchestrator.services import naming
from orchestrator.services.cleanup import cleaned_up
from orchestrator.services.fleet import ByName

log = logging.getLogger(__name__)

KNOWN = 30.0
"""Seconds for which it counts where an engine keeps its data, and what was measured by a container."""
_OLDEST = 2 * KNOWN
"""Seconds after which a figure of another machine is nothing to give work by: it is measured anew before."""
_AGAIN = 2.0
"""Seconds between two tries to measure on an engine that did not answer."""
_PATIENCE = 30.0
"""Seconds that the container which measures may take."""
_LOOK = 0.1
_NEARLY_NOTHING = (1 << 20, 16 << 20)
"""A disk is full when less than a thousandth of it is free, or rather less than something between these."""
_UNPRIVILEGED = "65534:65534"


@dataclass(frozen=True, slots=True)
class Measured:
    """Room somewhere. ``place`` says where, for people; without ``space``, ``why`` says why nobody knows."""

    place: str
    space: Space | None
    why: str = ""

    def __str__(self) -> str:
        if self.space is None:
            return f"free space at {self.place} is not known: {self.why}"
        whole = f" of {format_size(self.space.total)}" if self.space.total else ""
        return f"{format_size(self.space.free)}{whole} free at {self.place}"


@dataclass(slots=True)
class _Known:
    """What is known of a host: the folder when it is on this machine, else what a container measured.

    Times are monotonic seconds: when it was looked at, and when there was an outcome, which is a figure, or
    that there is none to be had.
    """

    at: float
    folder: Path | None
    measured: Measured
    outcome: float = -math.inf
    busy: bool = False


class Room:
    """Whether there is room for another run at the orchestrator and at an engine. Thread-safe.

    ``machine`` is this machine's name, as engines on it say it. Of an engine elsewhere a small container of
    the host's helper image finds out. ``patient`` waits for that; otherwise it is done in the background, and
    until it is done nobody knows. A machine reached over SSH gets no run before that. ``loud``: says once in
    the log when room lacks, and when it is back.
    """

    def __init__(
        self,
        disk: Disk,
        state: Path,
        keep: Reserve,
        hosts: Sequence[HostSpec],
        engines: Mapping[str, Engine],
        clock: Clock,
        machine: str,
        helper: Callable[[str], str],
        patient: bool = False,
        loud: bool = False,
    ) -> None:
        self._disk = disk
        self._state = state
        self._keep = keep
        self._hosts = ByName(hosts)
        self._engines = engines
        self._clock = clock
        self._machine = machine
        self._helper = helper
        self.patient = patient
        self.loud = loud
        self._known: dict[str, _Known] = {}
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def why_not(self, host: str) -> str | None:
        """Why no run may begin on a host for want of room, or None.

        Room that nobody can find out is no reason; that it is being found out is one, on a machine that is
        reached over SSH.

        Costs some microseconds, but for the first question about a host on this machine.
        """
        if (lack := self.state_lacks()) is not None or (known := self._asked(host)) is None:
            return lack
        return self._lacks(host, known) or self._unmeasured(host, known)

    def state_lacks(self) -> str | None:
        """What lacks where the orchestrator keeps logs and artifacts, or None."""
        if self._keep == NO_RESERVE:
            return None
        return self._judge("storage", self.state(), self._keep)

    def state(self) -> Measured:
        """The room where the orchestrator keeps its state, now."""
        place = str(self._state)
        return Measured(place, self._disk.space(self._state), "the folder is not there")

    def host(self, host: str) -> Measured:
        """The room where an engine keeps its data, measured now: it counts from now. Raises EngineError."""
        spec = self._hosts[host]
        try:
            folder, measured = self._measure(spec, self._engines[host])
        except EngineUnavailable:
            raise
        except EngineError as error:
            return Measured(_place(host), None, str(error))
        now = self._clock.monotonic()
        self._learn(host, now, folder, measured, now)
        return measured

    def where(self, host: str) -> str:
        """Where an engine keeps its data, and how much is free there now, for people."""
        try:
            return str(self.host(host))
        except EngineError as error:
            return f"the engine {host}, which does not say how much is free: {error}"

    def full(self, host: str) -> str | None:
        """What is full where an engine keeps its data, or None when it is not, or nobody knows."""
        try:
            measured = self.host(host)
        except EngineError:
            return None
        if measured.space is None:
            return None
        least, most = _NEARLY_NOTHING
        return (
            str(measured)
            if measured.space.free < min(max(least, measured.space.total // 1000), most)
            else None
        )

    def is_short(self, host: str, keep: Reserve) -> bool:
        """Whether a host lacks the room that it needs for runs, or ``keep``, as far as is known already."""
        spec = self._hosts.get(host)
        if spec is None or NO_RESERVE == keep == spec.min_free:
            return False
        known = self._look(host)
        space = known.measured.space if known is not None else None
        if known is not None and known.folder is not None:
            space = self._disk.space(known.folder)
        return space is not None and not (keep.holds(space) and spec.min_free.holds(space))

    def lacking(self, host: str, keep: Reserve) -> int:
        """The bytes to be freed on a host, measured now, until it has that room with a quarter to spare.

        Zero while it has it without that quarter, and where nobody knows. Raises EngineError.
        """
        spec = self._hosts.get(host)
        if spec is None or NO_RESERVE == keep == spec.min_free:
            return 0
        space = self.host(host).space
        if space is None or (keep.holds(space) and spec.min_free.holds(space)):
            return 0
        wanted = max(keep.of(space), spec.min_free.of(space))
        return wanted + wanted // 4 - space.free

    def host_lacks(self, host: str) -> str | None:
        """What lacks where an engine keeps its data, or None."""
        known = self._asked(host)
        return None if known is None else self._lacks(host, known)

    def _asked(self, host: str) -> _Known | None:
        """What is known of a host that is to keep some room free."""
        spec = self._hosts.get(host)
        return None if spec is None or spec.min_free == NO_RESERVE else self._look(host)

    def _lacks(self, host: str, known: _Known) -> str | None:
        measured = known.measured
        if known.folder is not None:
            measured = Measured(measured.place, self._disk.space(known.folder), measured.why)
        return self.lacks(host, measured)

    def lacks(self, host: str, measured: Measured) -> str | None:
        """What a host lacks when that was measured there, or None."""
        return self._judge(f"hosts.{host}", measured, self._hosts[host].min_free)

    def _judge(self, key: str, measured: Measured, keep: Reserve) -> str | None:
        lacks = measured.space is not None and not keep.holds(measured.space)
        if not lacks or measured.space is None:
            if key in self._told:
                self._told.discard(key)
                log.info("there is room again: %s", measured)
            return None
        said = f"{measured}, and {format_size(keep.of(measured.space))} are to stay free ({key}.min_free)"
        beyond = keep.is_beyond(measured.space)
        remedy = f"the whole disk is smaller: lower {key}.min_free" if beyond else "free some there"
        if self.loud and key not in self._told:
            self._told.add(key)
            log.error("runs wait for room: %s; %s", said, remedy)
        name = key.removeprefix("hosts.")
        how = f" (`orchestrator hosts prune {name}`)" if name != key and not beyond else ""
        return f"{said}; {remedy}{how}"

    def _unmeasured(self, host: str, known: _Known) -> str | None:
        """That nobody knows yet what room a machine reached over SSH has, or no longer; else None."""
        over_ssh = (spec := self._hosts.get(host)) is not None and spec.ssh is not None
        if not over_ssh or self._clock.monotonic() - known.outcome < _OLDEST:
            return None
        return str(Measured(known.measured.place, None, known.measured.why or "it is being measured anew"))

    def _look(self, host: str) -> _Known | None:
        """What is known, looked up now or, where that takes long and nobody waits, in the background."""
        now, spec = self._clock.monotonic(), self._hosts.get(host)
        with self._lock:
            known = self._known.get(host)
            if known is not None and (known.busy or now - known.at < KNOWN):
                return known
            if known is None and spec is not None and spec.ssh is not None and not self.patient:
                # Even the first question may take as long as the way there.
                known = self._known[host] = _Known(-math.inf, None, _being_measured(_place(host)))
            if known is not None and not self.patient:
                known.busy = True
                threading.Thread(target=self._renew, args=(host,), name=f"room-{host}", daemon=True).start()
                return known
        return self._find_out(host, wait=self.patient)

    def _renew(self, host: str) -> None:
        try:
            self._find_out(host, wait=True)
        finally:
            with self._lock:
                self._known[host].busy = False

    def _find_out(self, host: str, wait: bool) -> _Known | None:
        spec, engine = self._hosts.get(host), self._engines.get(host)
        if spec is None or engine is None:
            return None
        try:
            folder, measured = self._measure(spec, engine, wait)
        except EngineError as error:
            return self._go_by_former(host, error)
        now = self._clock.monotonic()
        # What is still to be measured is old from the beginning.
        known = folder is not None or wait
        return self._learn(host, now if known else -math.inf, folder, measured, now if known else -math.inf)

    def _go_by_former(self, host: str, error: EngineError) -> _Known:
        """No answer makes no room: a figure holds until there is another one, as far as it is not too old."""
        now = self._clock.monotonic()
        with self._lock:
            before = self._known.get(host)
        at, outcome = now, now
        if isinstance(error, EngineUnavailable):
            at = now - KNOWN + _AGAIN
            outcome = -math.inf if before is None else before.outcome
        if before is not None and (before.folder is not None or before.measured.space is not None):
            return self._learn(host, at, before.folder, before.measured, outcome)
        return self._learn(host, at, None, Measured(_place(host), None, str(error)), outcome)

    def _learn(self, host: str, at: float, folder: Path | None, measured: Measured, outcome: float) -> _Known:
        with self._lock:
            busy = host in self._known and self._known[host].busy
            known = self._known[host] = _Known(at, folder, measured, outcome, busy)
        return known

    def _measure(self, spec: HostSpec, engine: Engine, wait: bool = True) -> tuple[Path | None, Measured]:
        """The folder where an engine keeps its data, if that is here, and the room there. Raises EngineError.

        Without ``wait`` nothing is measured by a container.
        """
        info = engine.info()
        place = f"{info.data_root or 'the data root'} of the engine {spec.name}"
        # Another machine may have our name; its folders are not the ones here.
        folder = None if spec.ssh is not None else self._folder(info.name, info.data_root)
        if folder is not None:
            return folder, Measured(place, self._disk.space(folder), "the folder is not there")
        return None, self._by_container(engine, spec, place) if wait else _being_measured(place)

    def _folder(self, machine: str, data_root: str) -> Path | None:
        """An engine's data root where this process sees it, else None."""
        if machine != self._machine or not data_root.startswith("/"):
            return None
        return Path(data_root) if self._disk.space(Path(data_root)) is not None else None

    def _by_container(self, engine: Engine, host: HostSpec, place: str) -> Measured:
        """What df says in a container, whose files lie at the engine's data root. Raises EngineError."""
        name = self._helper(host.name)
        spec = ContainerSpec(
            name=name,
            image=host.helper_image,
            command=("df", "-P", "-k", "/"),
            labels={naming.ROLE_LABEL: naming.LOOK},
            env={},
            user=_UNPRIVILEGED,
            workdir="/",
            resources=Resources(memory=64 << 20, pids=32, shm_size=1 << 20),
        )
        try:
            engine.remove(name)
            with cleaned_up(partial(engine.remove, name)):
                engine.create(spec)
                engine.start(name)
                lines = self._said(engine, name)
        except EngineFull:
            return Measured(place, Space(0, 0))
        except ImageNotFound:
            return Measured(place, None, f"the image {host.helper_image} is not there to find out")
        fields = lines[-1].split() if lines else []
        if len(fields) < 4 or not fields[1].isdigit() or not fields[3].isdigit():
            return Measured(place, None, f"df said {' '.join(lines)!r}")
        return Measured(place, Space(int(fields[3]) << 10, int(fields[1]) << 10))

    def _said(self, engine: Engine, name: str) -> list[str]:
        deadline = self._clock.monotonic() + _PATIENCE
        while self._clock.monotonic() < deadline:
            container = engine.find(name)
            if container is None:
                raise EngineError("the container that measures was removed")
            if container.state is ContainerState.EXITED:
                with closing(engine.logs(name, None)) as stream:
                    return [line.text.decode(errors="replace") for line in stream]
            self._clock.sleep(_LOOK)
        raise EngineError(f"the container that measures took longer than {_PATIENCE:.0f} s")


def _place(host: str) -> str:
    """Where an engine's data are that has not said it."""
    return f"the engine {host}"


def _being_measured(place: str) -> Measured:
    return Measured(place, None, "it is being measured")
