"""Choosing hosts: what is known of queue and hosts, put before the rules of ``domain/placement``."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.gpu import HostGpus
from orchestrator.domain.host import HostRecord, HostState, standing_of
from orchestrator.domain.pipeline import HostSpec, Pipeline, RunnerSpec, eligible_hosts
from orchestrator.domain.placement import (
    Closed,
    Decision,
    HostNow,
    Placed,
    Queued,
    Refused,
    Terms,
    Waits,
    decide,
)
from orchestrator.domain.run import Run, failed_hosts
from orchestrator.ports.engine import EngineInfo
from orchestrator.ports.queue import Taken, Waiting
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

_LAST = 1 << 62
"""The id of a run that is none yet: it comes after all others."""


def _no_gpus(host: str, ask: bool) -> HostGpus:
    return HostGpus()


@dataclass(frozen=True, slots=True)
class HostLooks:
    """How hosts are looked at. None of it may take long: one host that hangs holds up nobody else."""

    record: Callable[[str], HostRecord] = HostRecord
    why_silent: Callable[[str], str | None] = lambda host: None
    """Why a host does not answer, or None."""
    no_room: Callable[[str], str | None] = lambda host: None
    """Which disk lacks room for a run there, or None."""
    gpus: Callable[[str, bool], HostGpus] = _no_gpus
    """A host's GPUs; the second argument says whether somebody wants some."""
    info: Callable[[str], EngineInfo | None] = lambda host: None
    """What its engine last said of itself, or None."""
    load: Callable[[str], float | None] = lambda host: None
    """Its machine's load for each core, or None."""
    has_image: Callable[[RunnerSpec, Sequence[str]], Collection[str]] = lambda runner, hosts: ()
    """Which of the hosts have a runner's image."""


@dataclass(frozen=True, slots=True)
class _Known:
    """An attempt that waited at the last look, so that nothing of it is read again."""

    queued: Queued
    fingerprints: tuple[str, ...] = ()
    """Of the data that its run needs."""


class Chooser:
    """Tells which attempt goes where, and why the others wait. Thread-safe."""

    def __init__(
        self,
        store: Store,
        hosts: Sequence[HostSpec],
        clock: Clock,
        looks: HostLooks = HostLooks(),
        project_limits: Mapping[str, int] | None = None,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._clock = clock
        self._looks = looks
        self._project_limits = project_limits or {}
        self._known: Mapping[int, _Known] = {}
        self._defects: dict[str, str] = {}
        """What looks at hosts failed with, so that it is said once."""
        self._twins: set[tuple[str, str]] = set()
        """Hosts of which it was said that they are the engine of another."""

    def free_slots(self, taken: Sequence[Taken]) -> int:
        """How many slots nobody has, on all hosts together."""
        counts = Counter(slot.host for slot in taken)
        return sum(max(0, host.slots - counts[host.name]) for host in self._hosts)

    def decide(
        self, waiting: Sequence[Waiting], taken: Sequence[Taken], extra: Sequence[Queued] = ()
    ) -> Iterator[Decision]:
        """What becomes of each attempt that waits, in the order in which they go. Claims nothing."""
        queue = [*self._queue(waiting), *extra]
        limited = any(q.limit is not None or q.project in self._project_limits for q in queue)
        return decide(
            queue,
            self._now(queue, taken),
            Counter(slot.pipeline for slot in taken),
            self._store.queue.going() if limited else (),
            self._project_limits,
            self._clock.now(),
        )

    def terms(self, placed: Placed) -> Terms:
        """What has to hold still when a placed attempt is claimed."""
        attempt = placed.attempt
        return Terms(
            placed.share,
            placed.host.cpus,
            placed.host.memory,
            None if attempt.begun else attempt.limit,
            None if attempt.begun else self._project_limits.get(attempt.project),
        )

    def why_waits(self, run: Run, now: datetime) -> Mapping[int, str]:
        """By attempt, what keeps each waiting one of a run, such as ``waits for …``; empty: nothing."""
        told = {}
        for decision in self.decide(self._store.queue.waiting(now), self._store.queue.taken()):
            if decision.attempt.run_id == run.id:
                told[decision.attempt.attempt_id] = _kept_by(decision)
        return told

    def try_out(self, pipeline: Pipeline, now: datetime, wish: str | None = None) -> Decision:
        """What would become of a run that was enqueued now."""
        queue = self._store.queue
        runner = pipeline.runner
        new = Queued(
            attempt_id=_LAST,
            run_id=_LAST,
            title=f"a run of {pipeline.name}",
            pipeline=pipeline.name,
            project=pipeline.project,
            runner=runner,
            since=now,
            priority=pipeline.priority,
            wish=wish,
            holds_image=self._holding_image(runner, wish),
            limit=pipeline.concurrency,
        )
        decisions = self.decide(queue.waiting(now), queue.taken(), (new,))
        return next(decision for decision in decisions if decision.attempt is new)

    def _queue(self, waiting: Sequence[Waiting]) -> list[Queued]:
        new = [one.attempt_id for one in waiting if one.attempt_id not in self._known]
        learnt = {**self._known, **self._learn(new)} if new else self._known
        known: dict[int, _Known] = {}
        for attempt_id, _, begun in waiting:
            one = learnt.get(attempt_id)
            if one is not None and one.queued.begun != begun:
                one = replace(one, queued=replace(one.queued, begun=begun))
            if one is not None:
                known[attempt_id] = one
        # Other threads that ask meanwhile at most learn the same once more.
        self._known = known
        if len(self._hosts) < 2:
            return [one.queued for one in known.values()]
        return self._with_holdings(known.values())

    def _learn(self, attempt_ids: Sequence[int]) -> Mapping[int, _Known]:
        pipelines: dict[int, Pipeline] = {}
        fingerprints: dict[int, tuple[str, ...]] = {}
        learnt = {}
        for one in self._store.queue.describe(attempt_ids):
            if one.run_id not in pipelines:
                pipeline = pipelines[one.run_id] = self._store.runs.definition(one.run_id)
                if pipeline.datasets and len(self._hosts) > 1:
                    versions = self._store.runs.get(one.run_id).change.datasets
                    fingerprints[one.run_id] = tuple(version.fingerprint for version in versions)
            pipeline = pipelines[one.run_id]
            avoid: frozenset[str] = frozenset()
            if one.number > 1:
                avoid = failed_hosts(self._store.attempts.of_run(one.run_id), one.replicate)
            queued = Queued(
                one.attempt_id,
                one.run_id,
                f"{one.pipeline}#{one.run_number}",
                one.pipeline,
                one.project,
                pipeline.runner,
                one.created_at,
                one.priority,
                wish=one.host_wish,
                avoid=avoid,
                limit=pipeline.concurrency,
            )
            learnt[one.attempt_id] = _Known(queued, fingerprints.get(one.run_id, ()))
        return learnt

    def _with_holdings(self, known: Collection[_Known]) -> list[Queued]:
        """The attempts with which hosts have their data and images, which changes."""
        wanted = {fingerprint for one in known for fingerprint in one.fingerprints}
        holding = self._store.queue.holding(wanted) if wanted else {}
        images: dict[tuple[RunnerSpec, str | None], frozenset[str]] = {}
        queue = []
        for one in known:
            queued = one.queued
            place = (queued.runner, queued.wish)
            if place not in images:
                images[place] = self._holding_image(*place)
            theirs = [holding.get(f, frozenset()) for f in one.fingerprints]
            data = frozenset.intersection(*theirs) if theirs else frozenset()
            queue.append(replace(queued, holds_data=data, holds_image=images[place]))
        return queue

    def _holding_image(self, runner: RunnerSpec, wish: str | None) -> frozenset[str]:
        """Where an image is matters only where there is a choice."""
        eligible = eligible_hosts(runner, self._hosts, wish)
        if len(eligible) < 2:
            return frozenset()
        return frozenset(self._looks.has_image(runner, [host.name for host in eligible]))

    def _now(self, queue: Sequence[Queued], taken: Sequence[Taken]) -> list[HostNow]:
        slots: defaultdict[str, list[Taken]] = defaultdict(list)
        for slot in taken:
            slots[slot.host].append(slot)
        wants_gpus = any(one.runner.resources.gpus for one in queue)
        leased = self._store.attempts.gpus_leased() if wants_gpus else {}
        used = {h.name for one in queue for h in eligible_hosts(one.runner, self._hosts, one.wish)}
        return self._one_name_each(
            self._host(spec, slots[spec.name], spec.name in used, wants_gpus, leased.get(spec.name, {}))
            for spec in self._hosts
        )

    def _one_name_each(self, hosts: Iterable[HostNow]) -> list[HostNow]:
        """Let only the first of the hosts that are one engine give its GPUs: leases are by a host's name."""
        first: dict[tuple[str, str, str], str] = {}
        told = []
        for now in hosts:
            name, info = now.spec.name, self._looks.info(now.spec.name)
            if info is not None and info.id:
                # Machines made from one picture may have an id in common, though hardly a name as well.
                other = first.setdefault((info.id, info.name, info.data_root), name)
                if other != name:
                    why = f"it is the same engine as {other}, which alone gives GPUs: take one of them out"
                    if (name, other) not in self._twins:
                        log.warning("host %s: %s", name, why)
                    self._twins.add((name, other))
                    now = replace(now, gpus=HostGpus(trouble=why))
            told.append(now)
        return told

    def _host(
        self,
        spec: HostSpec,
        taken: Sequence[Taken],
        is_used: bool,
        wants_gpus: bool,
        leased: Mapping[str, int],
    ) -> HostNow:
        now = HostNow(
            spec,
            slots=len(taken),
            cpus=sum(slot.cpus or 0.0 for slot in taken),
            memory=sum(slot.memory or 0 for slot in taken),
            leased=leased,
        )
        try:
            return self._looked_at(now, is_used, wants_gpus)
        except StoreUnavailable:
            raise
        except Exception as error:
            # One host, by whatever its answers make of us, must not keep the runs from all the others.
            why = f"cannot be looked at: {error!r}"
            if self._defects.get(spec.name) != why:
                log.exception("host %s: defect", spec.name)
            self._defects[spec.name] = why
            return replace(now, closed=Closed.SILENT, told=why)

    def _looked_at(self, now: HostNow, is_used: bool, wants_gpus: bool) -> HostNow:
        # A host that nobody waits for is asked nothing.
        spec = now.spec
        closed, told = self._closed(spec) if is_used else (None, "")
        info = self._looks.info(spec.name)
        return replace(
            now,
            cores=None if info is None else info.cpus,
            size=None if info is None else info.memory,
            load=self._looks.load(spec.name) if is_used else None,
            closed=closed,
            told=told,
            gpus=self._looks.gpus(spec.name, wants_gpus and is_used and closed is None),
        )

    def _closed(self, spec: HostSpec) -> tuple[Closed | None, str]:
        record = self._looks.record(spec.name)
        if record.state is not HostState.ACTIVE:
            return Closed.BY_PEOPLE, standing_of(record)
        if (why := self._looks.why_silent(spec.name)) is not None:
            return Closed.SILENT, f"does not answer: {why.removeprefix(f'host {spec.name}: ')}"
        if (lack := self._looks.no_room(spec.name)) is not None:
            return Closed.NO_ROOM, lack
        return None, ""


def _kept_by(decision: Decision) -> str:
    match decision:
        case Waits():
            return f"waits for {decision.why}"
        case Refused():
            return f"cannot start: {decision.why}"
        case Placed():
            return ""
