"""Retention on hosts: containers, networks, volumes, images. Nothing but what is ours is looked at.

What an unfinished run has, or will have, stays. An engine that does not answer is left for the next pass, and
told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orchestrator.domain.errors import EngineError
from orchestrator.domain.retention import Going, HostThing, Kind, Plan, Policy, Unused, told_of
from orchestrator.domain.retention_plan import plan_hosts
from orchestrator.ports.engine import Engine, ImageUsage, Interrupt, Usage
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services import naming
from orchestrator.services.clean import Needs

_NEWEST: Final = 20
"""So many runs of a pipeline are looked at for one that knows its image."""
_AT_ONCE: Final = Unused(age=timedelta.min)
EVERYTHING: Final = Policy(images=_AT_ONCE, volumes=_AT_ONCE, leftovers=timedelta.min)
"""The rules by which everything goes that nothing needs."""


@dataclass(frozen=True, slots=True)
class HostSpace:
    """How hosts stand with room: whether one lacks any, from what is known already, and how many bytes are to
    be freed there, measured now. The second raises EngineError.
    """

    is_short: Callable[[str], bool]
    lacking: Callable[[str], int]


@dataclass(frozen=True, slots=True)
class _Uses:
    """When images and data were used last, by host, and what is needed there."""

    images: Mapping[tuple[str, str], datetime]
    data: Mapping[tuple[str, str], datetime]
    staged: Mapping[tuple[str, str], datetime]
    wanted: Mapping[str, str]
    digests: Mapping[str, str]
    volumes: Mapping[str, str]
    all_images: str
    """Why every image is needed, or nothing."""


class HostKeeper:
    """All that is ours on hosts. ``wanted`` tells the tags that runners have, with why; ``served`` whether a
    server lives.

    Images and copies of data are made again when they are needed, which takes time and, for images, the
    network. ``to_the_last``: what runners and pipelines use goes as well, and stays for unfinished runs only.
    """

    def __init__(
        self,
        store: Store,
        engines: Mapping[str, Engine],
        pipelines: Collection[str],
        wanted: Callable[[], Mapping[str, str]],
        policy: Policy,
        clock: Clock,
        served: Callable[[], bool] = lambda: False,
        space: HostSpace | None = None,
        *,
        to_the_last: bool = False,
    ) -> None:
        self._store = store
        self._engines = engines
        self._pipelines = pipelines
        self._wanted = wanted
        self._policy = policy
        self._clock = clock
        self._served = served
        self._space = space
        self._to_the_last = to_the_last

    def short(self) -> bool:
        """Whether a host lacks room, as far as is known."""
        return self._space is not None and any(self._space.is_short(host) for host in self._engines)

    def plan(
        self, kinds: AbstractSet[Kind], progress: ProgressSink, only: Collection[str] | None = None
    ) -> tuple[Plan, list[str]]:
        """What would go on every host, or on these only, and which could not be asked."""
        hosts = [host for host in self._engines if only is None or host in only]
        whole, problems = Plan(), list[str]()
        if not self._ruled(kinds, hosts):
            return whole, problems
        for done, host in enumerate(hosts, 1):
            try:
                # What is there first, who needs it after: whatever began meanwhile is not in the list.
                usage, lacking = self._engines[host].usage(), self._lacking(host)
                things = list(self._things(host, usage))
                whole += plan_hosts(things, self._policy, self._clock.now(), lacking, kinds)
            except EngineError as error:
                problems.append(f"{host}: {str(error).removeprefix(f'host {host}: ')}")
            progress(ProgressEvent("looking at hosts", done, len(hosts), "hosts"))
        return whole, problems

    def apply(
        self,
        kinds: AbstractSet[Kind],
        who: str,
        progress: ProgressSink,
        interrupt: Interrupt,
        only: Collection[str] | None = None,
    ) -> tuple[Plan, list[Going], list[str]]:
        """Remove what has had its time: the plan, what went of it, and what could not be removed or asked."""
        plan, problems = self.plan(kinds, progress, only)
        went, gone = self.carry_out(plan, who, progress, interrupt), list[Going]()
        for thing, problem in went:
            if problem is None:
                gone.append(thing)
            elif problem:
                problems.append(problem)
        return plan, gone, problems

    def carry_out(
        self, plan: Plan, who: str, progress: ProgressSink, interrupt: Interrupt
    ) -> Iterator[tuple[Going, str | None]]:
        """Remove what a plan says, one after the other: each with why it stays, None when it went, and
        nothing where somebody has begun to need it.
        """
        for done, thing in enumerate(plan.going, 1):
            interrupt()
            yield thing, self._removed(thing, who)
            progress(ProgressEvent("removing what nothing needs", done, len(plan.going), "things"))

    def _removed(self, thing: Going, who: str) -> str | None:
        needs = self._needs()
        if thing.kind in (Kind.IMAGES, Kind.VOLUMES) and (why := needs.preparing(thing.place)):
            return f"{thing.place}: {thing.title} stays: {why}"
        if thing.kind in (Kind.CONTAINERS, Kind.NETWORKS) and needs.network(thing.title):
            return ""
        try:
            if not self._remove(thing):
                return ""
        except EngineError as error:
            return f"{thing.place}: {thing.title} stays: {error}"
        self._store.journal.note(who, f"host {thing.place}", told_of(thing), self._clock.now())
        return None

    def _remove(self, thing: Going) -> bool:
        engine, name = self._engines[thing.place], str(thing.key)
        match thing.kind:
            case Kind.CONTAINERS:
                engine.remove(name)
            case Kind.NETWORKS:
                engine.remove_network(name)
            case Kind.IMAGES:
                engine.remove_image(name)
            case _:
                # Forgotten first: whoever finds the volume after this fills it again. Looked once more then:
                # a run that found it before is in the database by now.
                self._store.attempts.forget_staged(thing.place, name)
                if name in self._needs().volumes:
                    return False
                engine.remove_volume(name)
        return True

    def _needs(self) -> Needs:
        return Needs(self._store, served=self._served())

    def _ruled(self, kinds: AbstractSet[Kind], hosts: Collection[str]) -> bool:
        """Whether anything can go at all; else no engine is asked."""
        rules = self._policy
        ruled = {
            Kind.IMAGES: rules.images != Unused(),
            Kind.VOLUMES: rules.volumes != Unused() or rules.leftovers is not None,
            Kind.CONTAINERS: rules.leftovers is not None,
            Kind.NETWORKS: rules.leftovers is not None,
        }
        short = self._space is not None and any(self._space.is_short(host) for host in hosts)
        return any((short or ruled[kind]) for kind in kinds & ruled.keys())

    def _lacking(self, host: str) -> int:
        return self._space.lacking(host) if self._space is not None else 0

    def _things(self, host: str, usage: Usage) -> Iterator[HostThing]:
        needs = self._needs()
        uses = self._uses(needs)
        images = {image.id: image.name for image in usage.images}
        for container in usage.containers:
            name, at = container.name, container.created_at
            needed = needs.container(host, name, container.labels)
            image = images.get(container.image, "")
            holds = tuple(filter(None, (image, *container.volumes)))
            yield HostThing(
                Kind.CONTAINERS, host, name, at, None, needed, leftover=True, id=container.id, holds=holds
            )
        for network in usage.networks:
            name, at = network.name, network.created_at
            yield HostThing(Kind.NETWORKS, host, name, at, None, needs.network(name), leftover=True)
        yield from self._volumes(host, usage, uses, needs)
        yield from _images(host, usage, uses)

    def _volumes(self, host: str, usage: Usage, uses: _Uses, needs: Needs) -> Iterator[HostThing]:
        by_volume: dict[str, datetime] = {}
        for (where, fingerprint), at in uses.data.items():
            if where == host:
                by_volume[naming.data_volume(self._store.instance, fingerprint)] = at
        for volume in usage.volumes:
            moments = (
                volume.created_at,
                by_volume.get(volume.name),
                uses.staged.get((host, volume.name)),
            )
            used = max(at for at in moments if at is not None)
            checkpoint = needs.checkpoint(volume.name)
            needed = uses.volumes.get(volume.name, "") if checkpoint is None else checkpoint
            needed = "another's container has it" if volume.held else needed
            yield HostThing(
                *(Kind.VOLUMES, host, volume.name, used, volume.size, needed),
                leftover=checkpoint is not None,
            )

    def _uses(self, needs: Needs) -> _Uses:
        if self._to_the_last:
            # What a queued attempt will execute in is known once it is prepared: any image may be it.
            return self._uses_with({}, {}, needs.volumes, needs.unfinished)
        digests: dict[str, str] = {}
        for name in self._pipelines:
            for run in self._store.runs.listing(name, limit=_NEWEST):
                found = {a.image_digest for a in self._store.attempts.of_run(run.id) if a.image_digest}
                if found:
                    digests |= dict.fromkeys(found, f"the newest run of {name} was in it")
                    break
        volumes = {
            naming.data_volume(self._store.instance, fingerprint): f"the current version of {dataset}"
            for fingerprint, dataset in self._store.retention.current_data().items()
        }
        return self._uses_with(self._wanted(), digests | needs.images, volumes | needs.volumes, "")

    def _uses_with(
        self,
        wanted: Mapping[str, str],
        digests: Mapping[str, str],
        volumes: Mapping[str, str],
        all_images: str,
    ) -> _Uses:
        found = self._store.retention
        return _Uses(
            *(found.image_uses(), found.data_uses(), found.staged()), wanted, digests, volumes, all_images
        )


def _images(host: str, usage: Usage, uses: _Uses) -> Iterator[HostThing]:
    needed = {image.id: _why_needed(image, uses) for image in usage.images}
    used = {
        image.id: max(image.created_at, uses.images.get((host, image.id), image.created_at))
        for image in usage.images
    }
    for image in usage.images:
        above = [other.id for other in usage.images if _is_built_on(other, image)]
        moment = max([used[image.id], *(used[other] for other in above)])
        reason = needed[image.id]
        if not reason and any(needed[other] for other in above):
            reason = "an image that is needed is built on it"
        depth = len(image.layers)
        yield HostThing(Kind.IMAGES, host, image.name, moment, image.size, reason, depth)


def _why_needed(image: ImageUsage, uses: _Uses) -> str:
    if image.held:
        return "there is another's container of it"
    return uses.all_images or uses.wanted.get(image.name) or uses.digests.get(image.id, "")


def _is_built_on(upper: ImageUsage, lower: ImageUsage) -> bool:
    depth = len(lower.layers)
    return depth < len(upper.layers) and upper.layers[:depth] == lower.layers
