"""Retention of what is remembered of what is watched: versions of data, mirrors, pipelines that are gone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from orchestrator.domain.errors import SourceError
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.domain.retention import Going, Kind, Plan, Policy, counted, told, told_of
from orchestrator.domain.upkeep import plan_gone, plan_mirrors, plan_versions
from orchestrator.ports.engine import Interrupt
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.store import Store
from orchestrator.ports.upkeep import Mirrors
from orchestrator.ports.world import Clock

_SOME: Final = 50
"""So many things change in one transaction: others who write wait for it."""
_PIPELINE: Final = "pipeline "
_DATASET: Final = "dataset "


class WatchedKeeper:
    """Plans and carries out. One thread at a time, and for removing one process.

    ``known`` are the pipelines that are defined now, and ``sources`` the repositories that are configured
    beside theirs.
    """

    def __init__(
        self,
        store: Store,
        mirrors: Mirrors,
        known: Callable[[], Mapping[str, Pipeline]],
        sources: Callable[[], Collection[SourceSpec]],
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._store = store
        self._mirrors = mirrors
        self._known = known
        self._sources = sources
        self._policy = policy
        self._clock = clock

    def plan(self, kinds: AbstractSet[Kind]) -> tuple[Plan, list[str]]:
        """What would go and what would stay now, and what could not be found out."""
        whole, problems, now = Plan(), list[str](), self._clock.now()
        if Kind.PIPELINES in kinds:
            whole += self._gone(now)
        if Kind.VERSIONS in kinds:
            whole += self._versions(now)
        if Kind.MIRRORS in kinds:
            found, untold = self._unused(now)
            whole, problems = whole + found, problems + untold
        if Kind.COMMITS in kinds:
            whole += Plan(tuple(thing for thing, _ in self._unnamed(now)))
        return whole, problems

    def apply(
        self, kinds: AbstractSet[Kind], who: str, progress: ProgressSink, interrupt: Interrupt
    ) -> tuple[Plan, dict[Kind, int], int, list[str]]:
        """Remove what has had its time: the plan, how many went of each kind, the bytes that were freed, and
        what could not be found out. What ``interrupt`` raises ends it between two steps.
        """
        whole, went, freed, problems = Plan(), dict[Kind, int](), 0, list[str]()
        now, upkeep = self._clock.now(), self._store.upkeep
        if Kind.PIPELINES in kinds:
            upkeep.note_gone(self._gone_names(), now)
            plan = self._gone(now)
            whole += plan
            for batch in _batches(plan.of(Kind.PIPELINES), progress, interrupt):
                _count(went, Kind.PIPELINES, upkeep.remove_pipelines(batch, who, now))
            self._forget_looks(now)
        if Kind.VERSIONS in kinds:
            change = upkeep.uses().change
            plan = self._versions(now)
            whole += plan
            for batch in _batches(plan.of(Kind.VERSIONS), progress, interrupt):
                _count(went, Kind.VERSIONS, upkeep.remove_versions(batch, change, who, now))
        if Kind.MIRRORS in kinds and self._policy.mirrors is not None:
            plan, untold = self._unused(now)
            whole, problems = whole + replace(plan, going=()), problems + untold
            for thing in plan.of(Kind.MIRRORS):
                interrupt()
                size = self._mirrors.drop(str(thing.key), now - self._policy.mirrors)
                if size is not None:
                    dropped = replace(thing, size=size)
                    whole += Plan((dropped,))
                    _count(went, Kind.MIRRORS, 1)
                    freed += size
                    self._store.journal.note(who, f"mirror {thing.title}", told_of(dropped), now)
        if Kind.COMMITS in kinds:
            for thing, commits in self._unnamed(now):
                interrupt()
                count = self._mirrors.unpin(str(thing.key), commits)
                whole += Plan((replace(thing, count=count),))
                _count(went, Kind.COMMITS, count)
                note = f"{counted(Kind.COMMITS, count)} let go by retention ({thing.why})"
                self._store.journal.note(who, f"mirror {thing.key}", note, now)
            for mirror in self._mirrors.all():
                interrupt()
                self._mirrors.tidy(mirror.name)
        return whole, went, freed, problems

    def _gone(self, now: datetime) -> Plan:
        since = self._store.upkeep.gone_since()
        times = {name.removeprefix(_PIPELINE): at for name, at in since.items() if name.startswith(_PIPELINE)}
        names = {name.removeprefix(_PIPELINE) for name in self._gone_names() if name.startswith(_PIPELINE)}
        return plan_gone(Kind.PIPELINES, names, times, self._policy.gone, now)

    def _gone_names(self) -> frozenset[str]:
        """What is remembered and is nobody's any more: pipelines without a run, and data."""
        pipelines, datasets = self._store.upkeep.remembered()
        known = self._known()
        gone = {f"{_PIPELINE}{name}" for name in pipelines - known.keys()}
        return frozenset(gone | {f"{_DATASET}{key}" for key in datasets - self._datasets(known).keys()})

    def _forget_looks(self, now: datetime) -> None:
        age = self._policy.gone
        if age is None:
            return
        since = self._store.upkeep.gone_since()
        keys = [
            name.removeprefix(_DATASET)
            for name in self._gone_names()
            if name.startswith(_DATASET) and name in since and now - since[name] > age
        ]
        self._store.upkeep.remove_watches(keys, now - age)

    def _datasets(self, known: Mapping[str, Pipeline]) -> dict[str, str]:
        return {d.key: d.name for pipeline in known.values() for d in pipeline.datasets}

    def _versions(self, now: datetime) -> Plan:
        if self._policy.versions is None:
            return Plan()
        upkeep, names = self._store.upkeep, self._datasets(self._known())
        # The versions first: what becomes used meanwhile is among what is used.
        versions = upkeep.versions()
        return plan_versions(versions, names, upkeep.uses().fingerprints, self._policy.versions, now)

    def _unused(self, now: datetime) -> tuple[Plan, list[str]]:
        """Mirrors that nobody has used; none where it cannot be told whose one is."""
        if self._policy.mirrors is None:
            return Plan(), []
        needed: dict[str, str] = {}
        for source in self._needed_sources():
            try:
                names = self._mirrors.names(source)
            except SourceError as error:
                return Plan(), [f"no mirror was removed: {error}"]
            needed |= dict.fromkeys(names, f"{source.name} is watched, or an unfinished run's")
        return plan_mirrors(self._mirrors.all(), needed, self._policy.mirrors, now), []

    def _needed_sources(self) -> Iterator[SourceSpec]:
        yield from self._sources()
        for pipeline in self._known().values():
            yield from pipeline.sources
        for run in self._store.runs.unfinished():
            yield from self._store.runs.definition(run.id).sources

    def _unnamed(self, now: datetime) -> Iterator[tuple[Going, Sequence[str]]]:
        """The commits that nothing in the database names, by mirror."""
        age = self._policy.mirrors
        if age is None:
            return
        pinned = [(m.name, self._mirrors.pins(m.name, now - age)) for m in self._mirrors.all()]
        if not any(commits for _, commits in pinned):
            return
        named = self._store.upkeep.uses().commits
        for name, commits in pinned:
            going = [commit for commit in commits if commit not in named]
            if going:
                yield Going(Kind.COMMITS, name, name, _unused_for(age), count=len(going)), going


def _count(went: dict[Kind, int], kind: Kind, number: int) -> None:
    went[kind] = went.get(kind, 0) + number


def _unused_for(age: timedelta) -> str:
    return f"no run has them, for {told(age)}"


def _batches(
    things: Sequence[Going], progress: ProgressSink, interrupt: Interrupt
) -> Iterator[Sequence[Going]]:
    for start in range(0, len(things), _SOME):
        interrupt()
        batch = things[start : start + _SOME]
        yield batch
        done = start + len(batch)
        progress(ProgressEvent("forgetting what nobody has any more", done, len(things), "things"))
