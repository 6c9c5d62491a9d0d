"""``orchestrator hosts list``: how each host stands, what it is taken by, and which GPUs it has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    info: EngineInfo | None
    trouble: str
    gpus: HostGpus
    leased: frozenset[str]
    taken: tuple[Taken, ...]


@click.command("list")
@global_options
def list_hosts() -> int:
    """Each host: whether it answers and takes runs, what runs take of it, and its GPUs."""
    from orchestrator.cli.output import Column, print_json, print_table

    settings = this()
    with settings.application() as app:
        hosts = list(app.hosts)
        taken = app.store.queue.taken()
        leased = app.store.attempts.gpus_leased()
        with ThreadPoolExecutor(_AT_ONCE, "host") as threads:
            seen = list(threads.map(partial(_look, app, taken, leased), hosts))
        now = app.clock.now()
        if settings.json:
            print_json([_as_json(host) for host in seen])
        else:
            columns = (
                *("host", Column("state", fold=True, least=30), "slots", Column("load", fold=True, least=12)),
                *(Column("GPUs", fold=True, least=8), Column("labels", fold=True)),
                Column("engine", elastic=True, spare=True, least=24),
            )
            print_table(columns, [_row(host, now) for host in seen], "there is no host")
        return PASSED


def _look(
    app: Application, taken: Sequence[Taken], leased: Mapping[str, Mapping[str, int]], spec: HostSpec
) -> _Seen:
    from orchestrator.domain.errors import EngineError
    from orchestrator.domain.gpu import HostGpus

    info, trouble, gpus = None, "", HostGpus(known=False)
    try:
        info = app.engines[spec.name].info()
        gpus = app.gpus.on(spec.name)
    except EngineError as error:
        trouble = error.message
    return _Seen(
        spec,
        app.fleet.record(spec.name),
        info,
        trouble,
        gpus,
        frozenset(leased.get(spec.name, {})),
        tuple(slot for slot in taken if slot.host == spec.name),
    )


def _row(host: _Seen, now: datetime) -> tuple[str, ...]:
    slots = f"{max(0, host.spec.slots - len(host.taken))} of {host.spec.slots} free"
    labels = ", ".join(f"{key}={value}" for key, value in host.spec.labels)
    return host.spec.name, _state(host, now), slots, _load(host), _gpus(host), labels, host.spec.engine


def _state(host: _Seen, now: datetime) -> str:
    from orchestrator.domain.host import HostState
    from orchestrator.domain.report import format_duration
    from orchestrator.services.choose import standing_of

    said = [] if host.record.state is HostState.ACTIVE else [standing_of(host.record)]
    if host.info is None:
        since = host.record.unreachable_since
        how_long = f" for {format_duration((now - since).total_seconds())}" if since else ""
        return "; ".join((*said, f"unreachable{how_long}: {host.trouble}"))
    return "; ".join((*said, f"reachable, Docker {host.info.version}"))


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
        "free": max(0, host.spec.slots - len(host.taken)),
        "labels": ", ".join(f"{key}={value}" for key, value in host.spec.labels),
        "standing": host.record.state.value,
        "reason": host.record.reason,
        "reachable": info is not None,
        "unreachable_since": since.isoformat() if since and info is None else None,
        "state": f"Docker {info.version}" if info else host.trouble,
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
