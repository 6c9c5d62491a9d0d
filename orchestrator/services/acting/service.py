"""Serving: a container that keeps running with the results in it, replaced by a newer run's.

The old container goes only once the new one is well. Where ports of the host are published only one of them
can have these: the old one is stopped before, and started again when the new one does not get well.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import ContainerAction
from orchestrator.domain.deployment import why_not_deploy
from orchestrator.domain.errors import (
    ActionError,
    ActionUnavailable,
    EngineError,
    EngineUnavailable,
    NotFound,
)
from orchestrator.domain.run import Run
from orchestrator.domain.service import ServiceSpec
from orchestrator.observe import Masker
from orchestrator.ports.engine import Container, ContainerSpec, ContainerState, Engine, Health, Port
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services import naming
from orchestrator.services.acting.act import Acted, Waits
from orchestrator.services.acting.engines import engine_errors, said
from orchestrator.services.acting.packing import packed
from orchestrator.services.acting.results import Results
from orchestrator.services.images import Images

log = logging.getLogger(__name__)

_POLL: Final = 0.2
_GRACE: Final = 10.0
"""Seconds for an old container to end by itself."""
_BUSY: Final = 5.0
"""Seconds until a service is looked at again that another run is being put into."""
_HEALTHY: Final = "healthy"
_UNHEALTHY: Final = "unhealthy"


@dataclass(frozen=True, slots=True)
class ServicePorts:
    """What services need of the rest."""

    store: Store
    results: Results
    services: Mapping[str, ServiceSpec]
    engines: Mapping[str, Engine]
    images: Images
    masker: Masker
    clock: Clock
    scratch: Path
    progress: ProgressSink


class Servicer:
    """Carries out container actions: an Act."""

    def __init__(self, ports: ServicePorts) -> None:
        self._ports = ports
        self._locks: dict[str, threading.Lock] = {}

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted | Waits:
        """Have the run's container in place of the one before; one run at a time for each service."""
        spec = action.spec
        if not isinstance(spec, ContainerAction):
            raise TypeError(f"{action.key} is no service")
        refusal = why_not_deploy(run, self._ports.store.runs.definition(run.id))
        if refusal is not None:
            return Acted(ActionState.SKIPPED, refusal)
        lock = self._locks.setdefault(spec.service, threading.Lock())
        if not lock.acquire(blocking=False):
            return Waits(f"another run is being put into service {spec.service}", _BUSY)
        try:
            return self._served(run, action, spec)
        finally:
            lock.release()

    def _served(self, run: Run, action: Action, spec: ContainerAction) -> Acted:
        service = self._service(spec.service)
        engine = self._engine(service)
        name = naming.service_name(self._ports.store.instance, service.name, action.id)
        rank = run.change.rank
        with engine_errors(f"service {service.name} on host {service.host}"):
            if (newer := self._newer(engine, service, name, rank)) is not None:
                return _overtaken(newer)
            found = engine.find(name)
            if found is None or not _runs(found):
                # What an earlier try left half done says nothing.
                engine.remove(name)
                self._make(engine, service, name, run, action, spec)
            # Another orchestrator of this database may have been at it meanwhile.
            if (newer := self._newer(engine, service, name, rank)) is not None:
                engine.remove(name)
                return _overtaken(newer)
            failure = self._proven(engine, service, name, self._older(engine, service, name, rank))
            newer = self._newer(engine, service, name, rank)
            if newer is not None and _well(newer, service):
                engine.stop(name, _GRACE)
                engine.remove(name)
                return _overtaken(newer)
            if failure:
                told, output = self._put_back(engine, service, name, rank)
                return Acted(ActionState.FAILED, failure + told, output)
            for other in self._older(engine, service, name, rank):
                engine.stop(other.name, _GRACE)
                engine.remove(other.name)
        return Acted(ActionState.DONE, f"container {name} serves {service.name} on host {service.host}")

    def give_up(self, lease: Lease, error: str) -> None:
        """The one before serves again, where a try that was cut off had stopped it."""
        action = self._ports.store.actions.get(lease.id)
        if not isinstance(action.spec, ContainerAction):
            return
        try:
            service = self._service(action.spec.service)
            engine = self._engine(service)
            name = naming.service_name(self._ports.store.instance, service.name, action.id)
            rank = self._ports.store.runs.get(action.run_id).change.rank
            self._put_back(engine, service, name, rank)
        except (EngineError, ActionError, NotFound) as trouble:
            log.error("service %s: what served before could not be started: %s", action.spec.service, trouble)

    def _service(self, name: str) -> ServiceSpec:
        services = self._ports.services
        if name not in services:
            known = ", ".join(sorted(services)) or "none"
            raise NotFound(f'there is no service "{name}"', f"orchestrator.yaml has: {known}")
        return services[name]

    def _engine(self, service: ServiceSpec) -> Engine:
        if service.host not in self._ports.engines:
            raise ActionUnavailable(f"service {service.name}: there is no host {service.host} now")
        return self._ports.engines[service.host]

    def _newer(self, engine: Engine, service: ServiceSpec, name: str, rank: int) -> Container | None:
        """A container of a newer change that runs now."""
        others = self._others(engine, service, name)
        return next((c for c in others if _runs(c) and _rank(c) > rank), None)

    def _older(self, engine: Engine, service: ServiceSpec, name: str, rank: int) -> list[Container]:
        """The others that this one may replace, as they are now: none of a newer change."""
        return [c for c in self._others(engine, service, name) if _rank(c) <= rank]

    def _others(self, engine: Engine, service: ServiceSpec, name: str) -> list[Container]:
        """The service's other containers, the one that was made last at the end."""
        found = [
            container
            for container in engine.owned().containers
            if container.labels.get(naming.SERVICE_LABEL) == service.name and container.name != name
        ]
        return sorted(found, key=lambda c: (_runs(c), int(c.labels.get(naming.ACTION_LABEL, "0"))))

    def _make(
        self,
        engine: Engine,
        service: ServiceSpec,
        name: str,
        run: Run,
        action: Action,
        spec: ContainerAction,
    ) -> None:
        ports = self._ports
        image = ports.images.runner_image(engine, service.image, None, ports.progress)[1]
        network = naming.service_network(ports.store.instance, service.name)
        engine.ensure_network(network, {naming.ROLE_LABEL: naming.SERVICE})
        health = Health(service.health, service.interval, start=service.patience) if service.health else None
        engine.create(
            ContainerSpec(
                name=name,
                image=image,
                command=service.command,
                labels={
                    naming.ROLE_LABEL: naming.SERVICE,
                    naming.RUN_LABEL: str(run.id),
                    naming.ACTION_LABEL: str(action.id),
                    naming.SERVICE_LABEL: service.name,
                    naming.RANK_LABEL: str(run.change.rank),
                },
                env={
                    "MLCI_ARTIFACTS": service.folder,
                    "MLCI_RUN_ID": str(run.id),
                    "MLCI_COMMIT": run.change.revision.commit,
                    **dict(service.env),
                },
                user=service.user,
                workdir=service.folder,
                resources=service.resources,
                network=network,
                ports=tuple(Port(p.address, p.host, p.container) for p in service.ports),
                health=health,
                serves=True,
            )
        )
        uid, gid = (int(number) for number in service.user.split(":"))
        with (
            ports.results.of(run, action, spec.contents) as contents,
            packed(contents, service.folder, uid, gid, ports.scratch) as tar,
        ):
            engine.put(name, "/", tar)

    def _proven(self, engine: Engine, service: ServiceSpec, name: str, others: list[Container]) -> str:
        """Start it and see that it is well; why not, else nothing."""
        self._ports.progress(ProgressEvent(f"starting {name}"))
        if service.ports:
            for other in others:
                engine.stop(other.name, _GRACE)
        clock = self._ports.clock
        try:
            engine.start(name)
        except EngineUnavailable:
            raise
        except EngineError as error:
            return f"container {name} could not be started: {error.message}"
        began = clock.monotonic()
        while True:
            found = engine.find(name)
            if found is None:
                return f"container {name} was removed while it started"
            passed = clock.monotonic() - began
            if not _runs(found) or found.restarts:
                how = f"with exit code {found.exit.code}" if found.exit else "at once"
                return f"container {name} ended {how}"
            if found.health == _UNHEALTHY or (service.health and passed > service.patience):
                return f"container {name} was not well within {service.patience:.0f} s"
            if found.health == _HEALTHY or (not service.health and passed > service.settle):
                return ""
            clock.sleep(_POLL)

    def _put_back(self, engine: Engine, service: ServiceSpec, name: str, rank: int) -> tuple[str, str]:
        """Take the new one away and have the one before serve; what to say, and the new one's output."""
        output = ""
        if engine.find(name) is not None:
            engine.stop(name, 0)
            output = said(engine, name, self._ports.masker)
            engine.remove(name)
        if (newer := self._newer(engine, service, name, rank)) is not None:
            return f"; {newer.name}, of a newer change, is there", output
        others = self._older(engine, service, name, rank)
        if not others:
            return "; nothing serves: there was none before", output
        before = others[-1].name
        engine.start(before)
        for other in others[:-1]:
            engine.remove(other.name)
        return f"; {before} serves again", output


def _overtaken(newer: Container) -> Acted:
    return Acted(ActionState.SKIPPED, f"container {newer.name}, of a newer change, serves already")


def _well(container: Container, service: ServiceSpec) -> bool:
    return container.health == _HEALTHY or not service.health


def _runs(container: Container) -> bool:
    return container.state is ContainerState.RUNNING


def _rank(container: Container) -> int:
    rank = container.labels.get(naming.RANK_LABEL, "")
    return int(rank) if rank.isdigit() else 0
