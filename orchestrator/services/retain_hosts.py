"""Retention on hosts and servers: images, volumes of data, releases. Nothing but what is ours is looked at.

What an unfinished run has, or will have, stays. An engine or a server that does not answer is left for the
next pass, and told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orchestrator.domain.errors import DeploymentError, EngineError, NotFound
from orchestrator.domain.retention import Going, HostThing, Kind, Plan, Policy, told_of
from orchestrator.domain.retention_plan import plan_releases, plan_unused
from orchestrator.domain.run import AttemptState
from orchestrator.ports.engine import Engine, ImageUsage, Interrupt, Usage
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, Servers
from orchestrator.services import naming

_NEWEST: Final = 20
"""So many runs of a pipeline are looked at for one that knows its image."""


@dataclass(frozen=True, slots=True)
class _Uses:
    """When images and data were used last, by host, and what is needed there."""

    images: Mapping[tuple[str, str], datetime]
    data: Mapping[tuple[str, str], datetime]
    staged: Mapping[tuple[str, str], datetime]
    wanted: Mapping[str, str]
    digests: Mapping[str, str]
    volumes: Mapping[str, str]


class HostKeeper:
    """Images and volumes of data on hosts. ``wanted`` tells the tags that runners have, with why.

    Both are made again when they are needed, which takes time and, for images, the network.
    """

    def __init__(
        self,
        store: Store,
        engines: Mapping[str, Engine],
        pipelines: Collection[str],
        wanted: Callable[[], Mapping[str, str]],
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._store = store
        self._engines = engines
        self._pipelines = pipelines
        self._wanted = wanted
        self._policy = policy
        self._clock = clock

    def plan(self, kinds: AbstractSet[Kind], progress: ProgressSink) -> tuple[Plan, list[str]]:
        """What would go on every host, and which hosts could not be asked."""
        kinds = kinds & self._ruled()
        whole, problems = Plan(), list[str]()
        if not kinds:
            return whole, problems
        uses = self._uses()
        for done, (host, engine) in enumerate(self._engines.items(), 1):
            try:
                whole += self._plan_host(host, engine.usage(), uses, kinds)
            except EngineError as error:
                problems.append(f"{host}: {error}")
            progress(ProgressEvent("looking at hosts", done, len(self._engines), "hosts"))
        return whole, problems

    def apply(
        self, kinds: AbstractSet[Kind], who: str, progress: ProgressSink, interrupt: Interrupt
    ) -> tuple[Plan, list[Going], list[str]]:
        """Remove what has had its time: the plan, what went of it, and what could not be removed or asked."""
        plan, problems = self.plan(kinds, progress)
        went: list[Going] = []
        for done, thing in enumerate(plan.going, 1):
            interrupt()
            if self._busy(thing.place):
                problems.append(f"{thing.place}: {thing.title} stays while an attempt is prepared there")
                continue
            try:
                gone = self._remove(thing)
            except EngineError as error:
                problems.append(f"{thing.place}: {thing.title} stays: {error}")
                continue
            if gone:
                went.append(thing)
                self._store.journal.note(who, f"host {thing.place}", told_of(thing), self._clock.now())
            progress(ProgressEvent("removing images and volumes", done, len(plan.going), "things"))
        return plan, went, problems

    def _ruled(self) -> set[Kind]:
        rules = {Kind.IMAGES: self._policy.images, Kind.VOLUMES: self._policy.volumes}
        return {kind for kind, rule in rules.items() if rule.age is not None or rule.budget is not None}

    def _remove(self, thing: Going) -> bool:
        engine = self._engines[thing.place]
        name = str(thing.key)
        if thing.kind is Kind.IMAGES:
            engine.remove_image(name)
            return True
        # Forgotten first: whoever finds the volume after this fills it again. Looked once more then: a run
        # that found it before is in the database by now.
        self._store.attempts.forget_staged(thing.place, name)
        if name in self._data_of_unfinished():
            return False
        engine.remove_volume(name)
        return True

    def _plan_host(self, host: str, usage: Usage, uses: _Uses, kinds: AbstractSet[Kind]) -> Plan:
        now, plan = self._clock.now(), Plan()
        if Kind.IMAGES in kinds:
            plan += plan_unused(_images(host, usage, uses), self._policy.images, now)
        if Kind.VOLUMES in kinds:
            plan += plan_unused(self._volumes(host, usage, uses), self._policy.volumes, now)
        return plan

    def _volumes(self, host: str, usage: Usage, uses: _Uses) -> Iterator[HostThing]:
        prefix = naming.data_volume(self._store.instance, "")
        by_volume: dict[str, datetime] = {}
        for (where, fingerprint), at in uses.data.items():
            if where == host:
                by_volume[naming.data_volume(self._store.instance, fingerprint)] = at
        for volume in usage.volumes:
            if not volume.name.startswith(prefix):
                continue
            moments = (
                volume.created_at,
                by_volume.get(volume.name),
                uses.staged.get((host, volume.name)),
            )
            used = max(at for at in moments if at is not None)
            needed = "a container has it" if volume.in_use else uses.volumes.get(volume.name, "")
            yield HostThing(Kind.VOLUMES, host, volume.name, used, volume.size, needed)

    def _uses(self) -> _Uses:
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
        for run in self._store.runs.unfinished():
            for attempt in self._store.attempts.of_run(run.id):
                if attempt.image_digest:
                    digests[attempt.image_digest] = f"{run.title} has not ended"
        return _Uses(
            self._store.retention.image_uses(),
            self._store.retention.data_uses(),
            self._store.retention.staged(),
            self._wanted(),
            digests,
            volumes | self._data_of_unfinished(),
        )

    def _data_of_unfinished(self) -> dict[str, str]:
        return {
            naming.data_volume(self._store.instance, version.fingerprint): f"{run.title} has not ended"
            for run in self._store.runs.unfinished()
            for version in run.change.datasets
        }

    def _busy(self, host: str) -> bool:
        """Whether an attempt is being prepared there: what it will have is not known yet."""
        return any(
            attempt.state is AttemptState.PREPARING and attempt.host == host
            for run in self._store.runs.unfinished()
            for attempt in self._store.attempts.of_run(run.id)
        )


class ReleaseKeeper:
    """Releases on deployment servers, by their age. How many stay is each server's ``keep``."""

    def __init__(
        self, store: Store, servers: Servers, names: Collection[str], policy: Policy, clock: Clock
    ) -> None:
        self._store = store
        self._servers = servers
        self._names = names
        self._policy = policy
        self._clock = clock

    def plan(self, kinds: AbstractSet[Kind], progress: ProgressSink) -> tuple[Plan, list[str]]:
        """What would go on every server, and which servers could not be asked."""
        return self._each(kinds, None, progress, lambda: None)

    def apply(
        self, kinds: AbstractSet[Kind], who: str, progress: ProgressSink, interrupt: Interrupt
    ) -> tuple[Plan, list[str]]:
        """Remove what has had its time: the plan, and what could not be removed or asked."""
        return self._each(kinds, who, progress, interrupt)

    def _each(
        self, kinds: AbstractSet[Kind], who: str | None, progress: ProgressSink, interrupt: Interrupt
    ) -> tuple[Plan, list[str]]:
        whole, problems = Plan(), list[str]()
        if Kind.RELEASES not in kinds or self._policy.releases is None:
            return whole, problems
        live = self._store.retention.live_releases()
        for done, name in enumerate(self._names, 1):
            interrupt()
            try:
                whole += self._on(name, {release for server, release in live if server == name}, who)
            except (DeploymentError, NotFound) as error:
                problems.append(f"{name}: {error}")
            progress(ProgressEvent("looking at servers", done, len(self._names), "servers"))
        return whole, problems

    def _on(self, server: str, live: AbstractSet[str], who: str | None) -> Plan:
        now = self._clock.now()
        with self._servers.target(server) as target:
            current = target.current()
            plan = plan_releases(server, target.verified(), current, live, self._policy.releases, now)
            for thing in plan.going if who is not None else ():
                target.discard(str(thing.key))
                self._store.journal.note(who or "", f"server {server}", told_of(thing), now)
        return plan


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
    if image.in_use:
        return "there is a container of it"
    return uses.wanted.get(image.name) or uses.digests.get(image.id, "")


def _is_built_on(upper: ImageUsage, lower: ImageUsage) -> bool:
    depth = len(lower.layers)
    return depth < len(upper.layers) and upper.layers[:depth] == lower.layers
