"""What an installation leaves on an engine, and may be removed because no unfinished run needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from orchestrator.domain.run import Run
from orchestrator.ports.engine import Engine
from orchestrator.ports.store import Store
from orchestrator.services import naming


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing on a host: ``kind`` is container, network, volume or image. ``remove`` raises EngineError."""

    kind: str
    name: str
    remove: Callable[[], None]


def leftovers(store: Store, engine: Engine) -> tuple[Leftover, ...]:
    """Everything of this installation that no unfinished run needs, in the order in which it can be removed.

    Only what carries this database's label is looked at. For callers on whose database no server works: one
    that prepares an attempt meanwhile would lose what it makes. Raises EngineError.
    """
    unfinished = store.runs.unfinished()
    return tuple(_unneeded(store, engine, unfinished))


def _unneeded(store: Store, engine: Engine, unfinished: Sequence[Run]) -> Iterator[Leftover]:
    owned = engine.owned()
    containers, networks, volumes = _needed(store, unfinished)
    for container in owned.containers:
        if container.name not in containers:
            yield Leftover("container", container.name, partial(engine.remove, container.id))
    for network in owned.networks:
        if network not in networks:
            yield Leftover("network", network, partial(engine.remove_network, network))
    for volume in owned.volumes:
        if volume not in volumes:
            yield Leftover("volume", volume, partial(engine.remove_volume, volume))
    # What a queued attempt will execute in is known once it is prepared: until then any image may be it.
    for image in () if unfinished else owned.images:
        yield Leftover("image", image, partial(engine.remove_image, image))


def _needed(store: Store, unfinished: Sequence[Run]) -> tuple[set[str], set[str], set[str]]:
    """The names of the containers, networks and volumes that unfinished runs have, or will have."""
    # A slot's network and the container that holds it have one name.
    taken = store.attempts.taken().values()
    networks = {naming.slot_name(store.instance, host, slot) for host, slot in taken}
    containers, volumes = set(networks), set()
    for run in unfinished:
        for attempt in store.attempts.of_run(run.id):
            if not attempt.state.final:
                containers.add(naming.container_name(store.instance, attempt.id))
            volumes.add(naming.checkpoint_volume(store.instance, run.id, attempt.replicate))
        volumes |= {naming.data_volume(store.instance, v.fingerprint) for v in run.change.datasets}
    return containers, networks, volumes
