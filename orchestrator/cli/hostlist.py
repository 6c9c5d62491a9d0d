"""``orchestrator hosts list``: how each host stands, which runs it is taken by, and which GPUs it has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from orchestrator.cli.settings import PASSED, global_options, this

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.domain.gpu import HostGpus
    from orchestrator.domain.host import HostRecord
    from orchestrator.domain.pipeline import HostSpec
    from orchestrator.ports.engine import EngineInfo
    from orchestrator.ports.queue import Taken

_AT_ONCE = 16
"""Hosts that are asked at the same time: one that does not answer takes seconds."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A host as it is now. ``info`` is None where it does not answer, and ``trouble`` says why."""

    spec: HostSpec
    record: HostRecord
    leased: frozenset[str]
    taken: tuple[Taken, ...]
    gpus: HostGpus
    info: EngineInfo | None = None
    trouble: str = ""
    lacks: str = ""
    """What room it lacks for runs."""

    @property
    def removed(self) -> bool:
        """Whether it is only there until it is forgotten, or taken back; it is not asked then."""
        return self.record.state.value == "removed"

    @property
    def takes(self) -> bool:
        """Whether it takes attempts, if it has a free slot."""
        return self.record.state.value == "active" and self.info is not None and not self.lacks

    @property
    def free(self) -> int:
        """How many attempts it would take now."""
        return max(0, self.spec.slots - len(self.taken)) if self.takes else 0


@click.command("list")
@global_options
def list_hosts() -> int:
    """Each host: whether it answers and takes runs, which runs are there, and its GPUs."""
    from orchestrator.cli.output import Column, print_json, print_table

    settings = this()
    with settings.application() as app:
        hosts = list(app.fleet.known)
        taken = app.store.queue.taken()
        leased = app.store.attempts.gpus_leased()
        silent = app.silent(host.name for host in hosts)
        app.room.patient = True
        with ThreadPoolExecutor(_AT_ONCE, "host") as threads:
            seen = list(threads.map(partial(_look, app, taken, leased, silent), hosts))
        now = app.clock.now()
        if settings.json:
            print_json([_as_json(host) for host in seen])
        else:
            columns = (
                *("host", Column("state", fold=True, least=30), "slots", Column("runs", fold=True)),
                *(Column("load", fold=True, least=12), Column("GPUs", fold=True, least=8)),
                Column("labels", fold=True, spare=True),
                Column("engine", elastic=True, spare=True, least=24),
            )
            print_table(columns, [_row(host, now) for host in seen], "there is no host")
        return PASSED


def _look(
    app: Application,
    taken: Sequence[Taken],
    leased: Mapping[str, Mapping[str, int]],
    silent: Mapping[str, str],
    spec: HostSpec,
) -> _Seen:
    from orchestrator.domain.errors import EngineError
    from orchestrator.domain.gpu import HostGpus

    name = spec.name
    seen = _Seen(
        spec,
        app.fleet.record(name),
        frozenset(leased.get(name, {})),
        tuple(slot for slot in taken if slot.host == name),
        HostGpus(known=False),
        trouble=silent.get(name, ""),
    )
    if seen.removed or seen.trouble:
        return seen
    try:
        info = app.engines[name].info()
        return replace(seen, info=info, gpus=app.gpus.on(name), lacks=app.room.host_lacks(name) or "")
    except EngineError as error:
        return replace(seen, trouble=error.message)


def _row(host: _Seen, now: datetime) -> tuple[str, ...]:
    slots = f"{host.free} of {host.spec.slots} free"
    if not host.takes:
        slots = f"{len(host.taken)} of {host.spec.slots} taken"
    runs = ", ".join(_runs(host))
    labels = ", ".join(f"{key}={value}" for key, value in host.spec.labels)
    state, load, gpus = _state(host, now), _load(host), _gpus(host)
    return host.spec.name, state, slots, runs, load, gpus, labels, host.spec.engine


def _runs(host: _Seen) -> list[str]:
    """The runs that are there; one whose replicates are is told once."""
    return list(dict.fromkeys(slot.run for slot in host.taken))


def _state(host: _Seen, now: datetime) -> str:
    from orchestrator.cli.output import count
    from orchestrator.domain.host import HostState, standing_of
    from orchestrator.domain.report import format_duration

    said = [] if host.record.state is HostState.ACTIVE else [standing_of(host.record)]
    if host.removed:
        return "; ".join((*said, *([f"{count(len(host.taken), 'attempt')} left"] if host.taken else ())))
    if host.info is None:
        since = host.record.unreachable_since
        how_long = f" for {format_duration((now - since).total_seconds())}" if since else ""
        return "; ".join((*said, f"unreachable{how_long}: {host.trouble}"))
    return "; ".join((*said, *filter(None, (f"reachable, Docker {host.info.version}", host.lacks))))


def _load(host: _Seen) -> str:
    """What runs take of it, of what they may take."""
    from orchestrator.domain.report import format_size

    cpus, memory = _shares(host)
    cores = host.spec.cpus or (host.info.cpus if host.info else None)
    size = host.spec.memory or (host.info.memory if host.info else None)
    said = f"{cpus:g} of {cores:g} cores" if cores else f"{cpus:g} cores"
    if memory:
        said += f", {format_size(memory)}" + (f" of {format_size(size)}" if size else "")
    return said


def _shares(host: _Seen) -> tuple[float, int]:
    return sum(slot.cpus or 0.0 for slot in host.taken), sum(slot.memory or 0 for slot in host.taken)


def _gpus(host: _Seen) -> str:
    if not host.gpus.known:
        return "unknown"
    if not host.gpus.gpus:
        return host.gpus.trouble or "none"
    free = len(host.gpus.free(dict.fromkeys(host.leased, 0)))
    models = dict.fromkeys(gpu.model for gpu in host.gpus.gpus)
    return f"{free} of {len(host.gpus.gpus)} free: {', '.join(models)}"


def _as_json(host: _Seen) -> dict[str, Json]:
    cpus, memory = _shares(host)
    since = host.record.unreachable_since
    info = host.info
    return {
        "host": host.spec.name,
        "engine": host.spec.engine,
        "slots": host.spec.slots,
        "free": host.free,
        "taken": len(host.taken),
        "runs": _runs(host),
        "labels": ", ".join(f"{key}={value}" for key, value in host.spec.labels),
        "standing": host.record.state.value,
        "reason": host.record.reason,
        "reachable": None if host.removed else info is not None,
        "unreachable_since": since.isoformat() if since and info is None else None,
        "state": f"Docker {info.version}" if info else host.trouble,
        "lacks": host.lacks,
        "cpus": info.cpus if info else None,
        "memory": info.memory if info else None,
        "cpus_taken": cpus,
        "memory_taken": memory,
        "gpus": [_gpu(host, n) for n in range(len(host.gpus.gpus))] if host.gpus.known else None,
    }


def _gpu(host: _Seen, number: int) -> dict[str, Json]:
    gpu = host.gpus.gpus[number]
    return {
        "uuid": gpu.uuid,
        "model": gpu.model,
        "memory": gpu.memory,
        "driver": gpu.driver,
        "leased": gpu.uuid in host.leased,
        "used_by": host.gpus.busy.get(gpu.uuid, ""),
    }
