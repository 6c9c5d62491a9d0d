"""Choosing hosts: what is known of queue and hosts, put before the rules of ``domain/placement``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.gpu import HostGpus
from orchestrator.domain.host import HostRecord, HostState
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
from orchestrator.ports.queue import Taken, WaitingAttempt
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock

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
class _Facts:
    """What of a run never changes while it waits."""

    runner: RunnerSpec
    limit: int | None
    fingerprints: tuple[str, ...]


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
        self._facts: Mapping[int, _Facts] = {}
        """Of runs that waited at the last look, so that none is read again and again."""

    def free_slots(self, taken: Sequence[Taken]) -> int:
        """How many slots nobody has, on all hosts together."""
        counts = Counter(slot.host for slot in taken)
        return sum(max(0, host.slots - counts[host.name]) for host in self._hosts)

    def decide(
        self, waiting: Sequence[WaitingAttempt], taken: Sequence[Taken], extra: Sequence[Queued] = ()
    ) -> Iterator[Decision]:
        """What becomes of each attempt that waits, in the order in which they go. Claims nothing."""
        facts = {w.run_id: self._facts.get(w.run_id) or self._learn(w.run_id) for w in waiting}
        self._facts = facts
        queue = [*self._queue(waiting, facts), *extra]
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
        """By attempt, what each waiting one of a run waits for; empty where it can begin."""
        told = {}
        for decision in self.decide(self._store.queue.waiting(now), self._store.queue.taken()):
            if decision.attempt.run_id == run.id:
                told[decision.attempt.attempt_id] = _waits_for(decision)
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

    def _learn(self, run_id: int) -> _Facts:
        pipeline = self._store.runs.definition(run_id)
        fingerprints: tuple[str, ...] = ()
        if pipeline.datasets and len(self._hosts) > 1:
            change = self._store.runs.get(run_id).change
            fingerprints = tuple(version.fingerprint for version in change.datasets)
        return _Facts(pipeline.runner, pipeline.concurrency, fingerprints)

    def _queue(self, waiting: Sequence[WaitingAttempt], known: Mapping[int, _Facts]) -> Iterator[Queued]:
        wanted = {f for facts in known.values() for f in facts.fingerprints}
        holding = self._store.queue.holding(wanted) if wanted else {}
        images: dict[tuple[RunnerSpec, str | None], frozenset[str]] = {}
        for one in waiting:
            facts = known[one.run_id]
            place = (facts.runner, one.host_wish)
            if place not in images:
                images[place] = self._holding_image(*place)
            theirs = [holding.get(f, frozenset()) for f in facts.fingerprints]
            avoid: frozenset[str] = frozenset()
            if one.number > 1:
                avoid = failed_hosts(self._store.attempts.of_run(one.run_id), one.replicate)
            yield Queued(
                one.attempt_id,
                one.run_id,
                f"{one.pipeline}#{one.run_number}",
                one.pipeline,
                one.project,
                facts.runner,
                one.created_at,
                one.priority,
                one.begun,
                one.host_wish,
                avoid,
                frozenset.intersection(*theirs) if theirs else frozenset(),
                images[place],
                facts.limit,
            )

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
        return [
            self._host(spec, slots[spec.name], spec.name in used, wants_gpus, leased.get(spec.name, {}))
            for spec in self._hosts
        ]

    def _host(
        self,
        spec: HostSpec,
        taken: Sequence[Taken],
        is_used: bool,
        wants_gpus: bool,
        leased: Mapping[str, int],
    ) -> HostNow:
        # A host that nobody waits for is asked nothing.
        closed, told = self._closed(spec) if is_used else (None, "")
        info = self._looks.info(spec.name)
        return HostNow(
            spec,
            slots=len(taken),
            cpus=sum(slot.cpus or 0.0 for slot in taken),
            memory=sum(slot.memory or 0 for slot in taken),
            cores=None if info is None else info.cpus,
            size=None if info is None else info.memory,
            load=self._looks.load(spec.name) if is_used else None,
            closed=closed,
            told=told,
            gpus=self._looks.gpus(spec.name, wants_gpus and is_used and closed is None),
            leased=leased,
        )

    def _closed(self, spec: HostSpec) -> tuple[Closed | None, str]:
        record = self._looks.record(spec.name)
        if record.state is not HostState.ACTIVE:
            return Closed.BY_PEOPLE, standing_of(record)
        if (why := self._looks.why_silent(spec.name)) is not None:
            return Closed.SILENT, f"does not answer: {why}"
        if (lack := self._looks.no_room(spec.name)) is not None:
            return Closed.NO_ROOM, lack
        return None, ""


def standing_of(record: HostRecord) -> str:
    """What people want of a host, and why, after its name: ``is being drained by ann: a new disk``."""
    what = "is being drained" if record.state is HostState.DRAINING else f"is {record.state.value}"
    who = f" by {record.changed_by}" if record.changed_by else ""
    return f"{what}{who}" + (f": {record.reason}" if record.reason else "")


def _waits_for(decision: Decision) -> str:
    match decision:
        case Waits():
            return decision.why
        case Refused():
            return f"a host: {decision.why}"
        case Placed():
            return ""
