"""The GPUs of hosts: found, looked at before an attempt gets them, and watched while it has them."""

from __future__ import annotations

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from orchestrator.domain.errors import EngineError, GpuUnavailable, ImageNotFound, StoreUnavailable
from orchestrator.domain.gpu import Gpu, GpuUse, HostGpus
from orchestrator.domain.pipeline import HostSpec, Resources
from orchestrator.domain.run import Attempt, Exit
from orchestrator.ports.engine import ContainerSpec, Engine
from orchestrator.ports.gpus import GpuAccess, GpuReport, GpuSeen
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services import naming
from orchestrator.services.fleet import ByName
from orchestrator.services.supply import ImageSupply

log = logging.getLogger(__name__)

_COUNTS = 20.0
"""Seconds for which a look at GPUs counts: others may begin to use them at any time."""
_NONE_COUNTS = 300.0
"""Seconds for which it counts that a host has none."""
_LOOKS = 3
"""A program that ended takes a moment to give its GPU's memory back."""
_BETWEEN = 1.0
_UNSEEN = 0.2
"""The share of its memory above which somebody computes on a GPU, although no process is told."""
# One answer at a time, each written at once: what is on the engine's disk survives whatever is killed.
_SAMPLE = """
while :; do
  nvidia-smi --query-gpu=uuid,utilization.gpu,memory.used --format=csv,noheader,nounits || exit $?
  sleep 2
done
"""
_MIB = 1 << 20
_SECONDS = len("2026-01-31T12:00:00")


@dataclass(slots=True)
class _Known:
    """What is known of a host's GPUs. Times are monotonic seconds."""

    gpus: HostGpus = field(default_factory=lambda: HostGpus(known=False))
    until: float = -math.inf
    asking: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


def _in_a_thread(act: Callable[[], None]) -> None:
    threading.Thread(target=act, name="gpus", daemon=True).start()


class Gpus:
    """Knows the GPUs of all hosts. Thread-safe.

    ``aside`` calls something without making the caller wait.
    """

    def __init__(
        self,
        hosts: Sequence[HostSpec],
        engines: Mapping[str, Engine],
        store: Store,
        clock: Clock,
        supply: ImageSupply,
        aside: Callable[[Callable[[], None]], None] = _in_a_thread,
    ) -> None:
        self._hosts = ByName(hosts)
        self._engines = engines
        self._store = store
        self._clock = clock
        self._supply = supply
        self.patient = True
        """Whether who asks waits for the answer, and nothing is made on hosts to find it out."""
        self._aside = aside
        self._known: defaultdict[str, _Known] = defaultdict(_Known)

    def on(self, host: str, ask: bool = True) -> HostGpus:
        """A host's GPUs as they were at the last look, which is made again when it is too old.

        Without ``ask``: what is known already.
        """
        spec = self._hosts.get(host)
        if spec is None or spec.gpus == ():
            return HostGpus()
        known = self._known[host]
        with known.lock:
            due = ask and not known.asking and self._clock.monotonic() >= known.until
            known.asking = known.asking or due
        if due and self.patient:
            self._ask(host, known)
        elif due:
            self._aside(partial(self._ask, host, known))
        return known.gpus

    def look(self, host: str) -> HostGpus:
        """Ask now. Raises EngineError."""
        spec = self._hosts[host]
        if spec.gpus == ():
            return HostGpus()
        return self._learn(spec, self._engines[host].gpus(spec.helper_image))

    def access(self, engine: Engine, host: str, attempt: Attempt, wish: Resources) -> GpuAccess | None:
        """How an attempt's container is given the GPUs that were leased to it, after a look at who uses them.

        None when it wants none. Raises GpuUnavailable when one is gone or in somebody else's use.
        """
        if not wish.gpus:
            return None
        if len(attempt.gpus) != wish.gpus:
            raise GpuUnavailable(f"attempt {attempt.id} was given {len(attempt.gpus)} of {wish.gpus} GPUs")
        return self.access_to(engine, host, attempt.gpus)

    def access_to(self, engine: Engine, host: str, gpus: Sequence[Gpu]) -> GpuAccess:
        """How a container is given these, after a look at who uses them. Raises GpuUnavailable."""
        spec = self._hosts[host]
        for last in (False,) * (_LOOKS - 1) + (True,):
            report = self._report(engine, spec)
            trouble = _unusable(report, gpus, host)
            if trouble is None:
                return report.access(gpu.uuid for gpu in gpus)
            if not last:
                self._clock.sleep(_BETWEEN)
        self._learn(spec, report, mine=frozenset(gpu.uuid for gpu in gpus))
        raise GpuUnavailable(trouble or "", "see who uses it: `orchestrator hosts check`")

    def watch(self, engine: Engine, host: str, attempt: Attempt, access: GpuAccess) -> None:
        """Begin to write down how an attempt's GPUs are used. Best effort: it never costs an attempt."""
        spec = ContainerSpec(
            name=naming.sampler_name(attempt.container),
            image=self._hosts[host].helper_image,
            command=("/bin/sh", "-c", _SAMPLE),
            labels=naming.labels_of(attempt, naming.SAMPLER),
            env={},
            user="65534:65534",
            workdir="/",
            resources=Resources(memory=256 << 20, shm_size=1 << 20, pids=32),
            gpus=access,
        )
        try:
            engine.create(spec)
            engine.start(spec.name)
        except EngineError as error:
            log.warning("attempt %d: how its GPUs are used is not written down: %s", attempt.id, error)

    def used(self, engine: Engine, attempt: Attempt, ended: Exit) -> tuple[GpuUse, ...]:
        """How an attempt's GPUs were used while its container ran. Ends the watch; best effort, as it."""
        if not attempt.gpus:
            return ()
        name = naming.sampler_name(attempt.container)
        tallies = {gpu.uuid: _Tally() for gpu in attempt.gpus}
        first, last = _second(ended.started_at, "0"), _second(ended.finished_at, "9")
        try:
            engine.stop(name, 0)
            stream = engine.logs(name, None)
            try:
                for line in stream:
                    # Both times are the host's.
                    if first <= line.timestamp[:_SECONDS] <= last:
                        _count(tallies, line.text)
            finally:
                stream.close()
        except EngineError as error:
            log.warning("attempt %d: how its GPUs were used is not known: %s", attempt.id, error)
        return tuple(tally.use(uuid) for uuid, tally in tallies.items() if tally.samples)

    def forget(self, engine: Engine, attempt: Attempt) -> None:
        """Remove what watched an attempt's GPUs. Raises EngineError."""
        if attempt.gpus:
            engine.remove(naming.sampler_name(attempt.container))

    def _ask(self, host: str, known: _Known) -> None:
        try:
            if self.patient:
                self.look(host)
            else:
                self._learn(self._hosts[host], self._report(self._engines[host], self._hosts[host]))
        except KeyError:
            # The host was removed meanwhile.
            return
        except (EngineError, StoreUnavailable) as error:
            log.info("the GPUs of %s are not known: %s", host, error)
            with known.lock:
                known.until = self._clock.monotonic() + _COUNTS
                if not known.gpus.known:
                    known.gpus = HostGpus(trouble=str(error), known=False)
        finally:
            with known.lock:
                known.asking = False

    def _report(self, engine: Engine, spec: HostSpec) -> GpuReport:
        try:
            return engine.gpus(spec.helper_image)
        except ImageNotFound:
            self._supply.have(engine, spec.helper_image, lambda event: None)
        return engine.gpus(spec.helper_image)

    def _learn(self, spec: HostSpec, report: GpuReport, mine: frozenset[str] = frozenset()) -> HostGpus:
        # The processes on a GPU that an attempt has are its own; one that ended since has none any more.
        leased = frozenset(self._store.attempts.gpus_leased().get(spec.name, {})) - mine
        wanted = [seen for seen in report.gpus if spec.gpus is None or seen.gpu.uuid in spec.gpus]
        whole = [seen for seen in wanted if not seen.partitioned]
        busy = {
            seen.gpu.uuid: who
            for seen in whole
            if seen.gpu.uuid not in leased and (who := _user_of(seen)) is not None
        }
        gpus = HostGpus(tuple(seen.gpu for seen in whole), busy, _trouble(spec, report, wanted, whole))
        known = self._known[spec.name]
        with known.lock:
            lasts = _COUNTS if gpus.gpus or gpus.trouble else _NONE_COUNTS
            known.gpus, known.until = gpus, self._clock.monotonic() + lasts
        return gpus


def _trouble(spec: HostSpec, report: GpuReport, wanted: Sequence[GpuSeen], whole: Sequence[GpuSeen]) -> str:
    if report.trouble:
        return report.trouble
    if spec.gpus is not None and (absent := set(spec.gpus) - {seen.gpu.uuid for seen in wanted}):
        return f"`gpus:` of the host names {', '.join(sorted(absent))}, which it does not have"
    if wanted and not whole:
        return "its GPUs are cut into parts (MIG), which cannot be given to runs; switch MIG off"
    return ""


def _user_of(seen: GpuSeen) -> str | None:
    """Who computes on a GPU, or None."""
    if seen.processes:
        return ", ".join(f"process {process.pid} ({process.program})" for process in seen.processes[:3])
    if seen.memory_used > max(_UNSEEN * seen.gpu.memory, 1):
        return f"somebody who has {seen.memory_used // _MIB} MiB of its memory"
    return None


def _unusable(report: GpuReport, gpus: Sequence[Gpu], host: str) -> str | None:
    """Why an attempt cannot use what it was given, or None."""
    there = {seen.gpu.uuid: seen for seen in report.gpus}
    for gpu in gpus:
        seen = there.get(gpu.uuid)
        if seen is None:
            why = f": {report.trouble}" if report.trouble else ""
            return f"{host} does not have the GPU {gpu.uuid} ({gpu.model}) any more{why}"
        if (who := _user_of(seen)) is not None:
            return f"the GPU {gpu.uuid} ({gpu.model}) of {host} is used by {who}"
    return None


def _second(at: datetime | None, unknown: str) -> str:
    """A time as the timestamps of log lines begin."""
    return unknown if at is None else at.strftime("%Y-%m-%dT%H:%M:%S")


@dataclass(slots=True)
class _Tally:
    samples: int = 0
    total: float = 0.0
    peak: float = 0.0
    memory: int = 0

    def use(self, uuid: str) -> GpuUse:
        return GpuUse(uuid, self.samples, self.total / self.samples, self.peak, self.memory)


def _count(tallies: Mapping[str, _Tally], line: bytes) -> None:
    """Count one line of a sampler: ``GPU-…, 98, 1485``."""
    cells = [cell.strip() for cell in line.decode(errors="replace").split(",")]
    tally = tallies.get(cells[0])
    if tally is None or len(cells) != 3 or not cells[1].isdecimal():
        return
    share = min(int(cells[1]), 100) / 100
    tally.samples += 1
    tally.total += share
    tally.peak = max(tally.peak, share)
    if cells[2].isdecimal():
        tally.memory = max(tally.memory, int(cells[2]) * _MIB)
