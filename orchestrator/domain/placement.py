"""Choosing: which attempt goes next and to which host, or why it waits.

The greater priority goes first. Among equals the pipeline goes first of which the fewest attempts are at
work, so that one with a hundred changes does not hold up the others; within a pipeline, the oldest run. Of
the hosts that can take an attempt it gets the one that is wanted most.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto

from orchestrator.domain.gpu import Gpu, HostGpus, chosen, never_fits, why_taken
from orchestrator.domain.pipeline import HostSpec, RunnerSpec, eligible_hosts
from orchestrator.domain.report import format_size

HOLD_AFTER = timedelta(minutes=10)
"""After it waited so long for much of a host, nothing smaller goes there before it."""
_BUSY = 1.0
"""The load for each core from which on a host is wanted less."""


@dataclass(frozen=True, slots=True)
class Queued:
    """An attempt that waits, with what it needs."""

    attempt_id: int
    run_id: int
    title: str
    """Its run's, such as ``wine#12``."""
    pipeline: str
    project: str
    runner: RunnerSpec
    since: datetime
    priority: int = 0
    begun: bool = False
    """Its run has begun: it counts among those that go."""
    wish: str | None = None
    """The host that a person wants it on."""
    avoid: frozenset[str] = frozenset()
    """Hosts that were at fault when it was tried before."""
    holds_data: frozenset[str] = frozenset()
    """Hosts that have its data already."""
    holds_image: frozenset[str] = frozenset()
    limit: int | None = None
    """Most runs of its pipeline that go at the same time."""


class Closed(Enum):
    """Why a host takes no attempt, whatever it needs."""

    BY_PEOPLE = auto()
    SILENT = auto()
    NO_ROOM = auto()


@dataclass(frozen=True, slots=True)
class HostNow:
    """A host as it is now. ``cpus`` and ``memory`` are what its attempts may use together."""

    spec: HostSpec
    slots: int = 0
    """Taken ones."""
    cpus: float = 0.0
    memory: int = 0
    cores: int | None = None
    """Of the machine; None, as of ``size``: not known."""
    size: int | None = None
    """The machine's memory in bytes."""
    load: float | None = None
    """Of the machine, for each core; None: not known."""
    closed: Closed | None = None
    told: str = ""
    """Why it is closed: goes on from the host's name, and for want of room is a sentence of its own."""
    gpus: HostGpus = field(default_factory=HostGpus)
    leased: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Going:
    """A run that has begun and has not ended its attempts."""

    run_id: int
    title: str
    pipeline: str
    project: str


@dataclass(frozen=True, slots=True)
class Share:
    """What an attempt takes of a host that counts it; None: nobody counts."""

    cpus: float | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """It can begin there."""

    attempt: Queued
    host: HostSpec
    share: Share = Share()
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True, slots=True)
class Waits:
    """It has to wait; ``why`` goes on from ``it waits for``."""

    attempt: Queued
    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """No host can ever execute it, as they are now. ``known``: there are such as its runner names."""

    attempt: Queued
    why: str
    known: bool = False


Decision = Placed | Waits | Refused


@dataclass(frozen=True, slots=True)
class Terms:
    """What has to hold still when an attempt gets its slot, for another server may have been faster."""

    share: Share = Share()
    cpus: float | None = None
    """Most cores that the host's attempts may take together; None, as of ``memory``: no limit."""
    memory: int | None = None
    pipeline_limit: int | None = None
    """Most runs of the pipeline, and of the project, that may go at the same time."""
    project_limit: int | None = None

    def allow(self, cpus: float, memory: int) -> bool:
        """Whether there is room for its share beside what others have taken."""
        # Shares of a core add up to a little more than they should.
        return (self.cpus is None or cpus + (self.share.cpus or 0.0) <= self.cpus + 1e-6) and (
            self.memory is None or memory + (self.share.memory or 0) <= self.memory
        )


NO_TERMS = Terms()


def share_of(runner: RunnerSpec, host: HostSpec) -> Share:
    """What a runner's attempt takes of a host. One without a limit takes as much as a slot has."""
    wish = runner.resources
    cpus = None if host.cpus is None else wish.cpus or host.cpus / host.slots
    memory = None if host.memory is None else wish.memory or host.memory // host.slots
    return Share(cpus, memory)


def decide(
    queue: Sequence[Queued],
    hosts: Sequence[HostNow],
    at_work: Mapping[str, int],
    going: Iterable[Going],
    project_limits: Mapping[str, int],
    now: datetime,
) -> Iterator[Decision]:
    """What becomes of each attempt, in the order in which they go.

    ``at_work`` are the attempts of each pipeline that have a slot.
    """
    turn = _Turn(hosts, going, project_limits, now)
    counts = Counter(at_work)
    for attempt in _ordered(queue, counts):
        decision = turn.decide(attempt)
        if isinstance(decision, Placed):
            counts[attempt.pipeline] += 1
        yield decision


def _ordered(queue: Sequence[Queued], counts: Mapping[str, int]) -> Iterator[Queued]:
    """By priority, then by turns of pipelines. ``counts`` may change meanwhile."""
    groups: defaultdict[tuple[int, str], deque[Queued]] = defaultdict(deque)
    for attempt in sorted(queue, key=lambda a: (a.run_id, a.attempt_id)):
        groups[-attempt.priority, attempt.pipeline].append(attempt)

    def key(rank: int, pipeline: str) -> tuple[int, int, int, str]:
        return (rank, counts[pipeline], groups[rank, pipeline][0].run_id, pipeline)

    heap = [key(*group) for group in groups]
    heapq.heapify(heap)
    while heap:
        rank, count, _, pipeline = heapq.heappop(heap)
        if count == counts[pipeline]:
            yield groups[rank, pipeline].popleft()
        if groups[rank, pipeline]:
            heapq.heappush(heap, key(rank, pipeline))


class _Lack(Enum):
    SLOT = auto()
    ROOM = auto()
    RESOURCE = auto()
    OTHER = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True)
class _Obstacle:
    lack: _Lack
    told: str


@dataclass(slots=True)
class _Seats:
    """What is left of a host while a turn goes on."""

    host: HostNow
    order: int
    slots: int
    cpus: float
    memory: int
    leased: dict[str, int]
    kept_for: Queued | None = None

    @property
    def share(self) -> float:
        return self.slots / self.host.spec.slots

    def obstacle(self, attempt: Queued) -> _Obstacle | None:
        """Why an attempt cannot begin here now, or None."""
        host, spec = self.host, self.host.spec
        if (never := _never(attempt, host)) is not None:
            return _Obstacle(_Lack.NEVER, never)
        if host.closed is not None:
            return _Obstacle(_Lack.ROOM if host.closed is Closed.NO_ROOM else _Lack.OTHER, host.told)
        if self.slots >= spec.slots:
            return _Obstacle(_Lack.SLOT, f"has {self.slots} of {spec.slots} slots taken")
        share = share_of(attempt.runner, spec)
        # Shares of a core add up to a little more than they should.
        if share.cpus is not None and spec.cpus is not None and self.cpus + share.cpus > spec.cpus + 1e-6:
            told = f"has {self.cpus:g} of {spec.cpus:g} cores taken, {share.cpus:g} wanted"
            return _Obstacle(_Lack.RESOURCE, told)
        if share.memory is not None and spec.memory is not None and self.memory + share.memory > spec.memory:
            told = (
                f"has {format_size(self.memory)} of {format_size(spec.memory)} memory taken,"
                f" {format_size(share.memory)} wanted"
            )
            return _Obstacle(_Lack.RESOURCE, told)
        if attempt.runner.resources.gpus and self.pick(attempt) is None:
            if not host.gpus.known:
                why = f": {host.gpus.trouble}" if host.gpus.trouble else ""
                return _Obstacle(_Lack.OTHER, f"is being asked for its GPUs{why}")
            return _Obstacle(_Lack.RESOURCE, why_taken(host.gpus, self.leased, attempt.runner.resources))
        if self.kept_for is not None:
            return _Obstacle(_Lack.OTHER, f"is kept for {self.kept_for.title}, which waits for long")
        return None

    def pick(self, attempt: Queued) -> tuple[Gpu, ...] | None:
        return chosen(self.host.gpus.free(self.leased), attempt.runner.resources)

    def take(self, attempt: Queued) -> Placed:
        share, gpus = share_of(attempt.runner, self.host.spec), self.pick(attempt) or ()
        self.slots += 1
        self.cpus += share.cpus or 0.0
        self.memory += share.memory or 0
        self.leased.update({gpu.uuid: attempt.attempt_id for gpu in gpus})
        return Placed(attempt, self.host.spec, share, gpus)


def _never(attempt: Queued, host: HostNow) -> str | None:
    """Why a host can never execute an attempt, however empty it is; None when it can, or nobody knows."""
    wish, spec = attempt.runner.resources, host.spec
    cores = min((c for c in (spec.cpus, host.cores) if c is not None), default=None)
    if wish.cpus is not None and cores is not None and wish.cpus > cores:
        return f"has {cores:g} cores, {wish.cpus:g} wanted"
    if wish.memory is not None and spec.memory is not None and wish.memory > spec.memory:
        return f"has {format_size(spec.memory)} memory for runs, {format_size(wish.memory)} wanted"
    lacks = never_fits(host.gpus, wish)
    return None if lacks is None else f"cannot give GPUs: {lacks}"


class _Turn:
    def __init__(
        self,
        hosts: Sequence[HostNow],
        going: Iterable[Going],
        project_limits: Mapping[str, int],
        now: datetime,
    ) -> None:
        self._seats = {
            host.spec.name: _Seats(host, order, host.slots, host.cpus, host.memory, dict(host.leased))
            for order, host in enumerate(hosts)
        }
        self._hosts = [host.spec for host in hosts]
        self._going = {run.run_id: run for run in going}
        self._project_limits = project_limits
        self._now = now
        self._before: dict[int, None] = {}
        """Runs that wait before the one that is looked at."""

    def decide(self, attempt: Queued) -> Decision:
        eligible = eligible_hosts(attempt.runner, self._hosts, attempt.wish)
        if not eligible:
            return Refused(attempt, self._no_host(attempt))
        decision = self._decide(attempt, [self._seats[host.name] for host in eligible])
        if isinstance(decision, Waits):
            self._before[attempt.run_id] = None
        return decision

    def _decide(self, attempt: Queued, eligible: Sequence[_Seats]) -> Decision:
        if not attempt.begun and attempt.run_id not in self._going and (turn := self._no_turn(attempt)):
            return Waits(attempt, turn)
        obstacles: list[tuple[_Seats, _Obstacle]] = []
        free: list[_Seats] = []
        for seats in eligible:
            found = seats.obstacle(attempt)
            if found is None:
                free.append(seats)
            else:
                obstacles.append((seats, found))
        if free:
            best = min(free, key=lambda seats: _rank(attempt, seats))
            if not attempt.begun:
                going = Going(attempt.run_id, attempt.title, attempt.pipeline, attempt.project)
                self._going[attempt.run_id] = going
            return best.take(attempt)
        if all(o.lack is _Lack.NEVER for _, o in obstacles):
            told = "; ".join(f"{seats.host.spec.name} {o.told}" for seats, o in obstacles)
            return Refused(
                attempt, f"no host can execute the runner {attempt.runner.name}: {told}", known=True
            )
        self._keep(attempt, obstacles)
        return Waits(
            attempt, self._told(attempt, [(s, o) for s, o in obstacles if o.lack is not _Lack.NEVER])
        )

    def _no_host(self, attempt: Queued) -> str:
        runner = attempt.runner
        wish = attempt.wish or ", ".join(runner.host_names) or dict(runner.host_labels)
        known = ", ".join(host.name for host in self._hosts) or "none"
        return f"no host of the configuration fits {wish}; its hosts are: {known}"

    def _no_turn(self, attempt: Queued) -> str:
        """Why a run may not begin although there is a host for it; empty when it may."""
        going = self._going.values()
        if attempt.limit is not None:
            theirs = [run.title for run in going if run.pipeline == attempt.pipeline]
            if len(theirs) >= attempt.limit:
                return _turn_of(attempt.pipeline, attempt.limit, theirs)
        limit = self._project_limits.get(attempt.project)
        if limit is not None:
            theirs = [run.title for run in going if run.project == attempt.project]
            if len(theirs) >= limit:
                return _turn_of(f"the project {attempt.project}", limit, theirs)
        return ""

    def _keep(self, attempt: Queued, obstacles: Sequence[tuple[_Seats, _Obstacle]]) -> None:
        """Keep the emptiest host for one that has waited long for more than others need."""
        if self._now - attempt.since < HOLD_AFTER:
            return
        lacking = [seats for seats, o in obstacles if o.lack is _Lack.RESOURCE and seats.kept_for is None]
        if lacking and not any(
            s.kept_for is not None and s.kept_for.run_id == attempt.run_id for s, _ in obstacles
        ):
            min(lacking, key=lambda seats: (seats.share, seats.order)).kept_for = attempt

    def _told(self, attempt: Queued, obstacles: Sequence[tuple[_Seats, _Obstacle]]) -> str:
        lacks = {o.lack for _, o in obstacles}
        if lacks == {_Lack.SLOT}:
            names = ", ".join(
                f"{s.host.spec.name} ({s.slots} of {s.host.spec.slots} taken)" for s, _ in obstacles
            )
            ahead = len([run for run in self._before if run != attempt.run_id])
            first = f"; {ahead} other run{'s' if ahead > 1 else ''} first" if ahead else ""
            return f"a free slot: {names}{first}"
        told = dict.fromkeys(
            o.told if o.lack is _Lack.ROOM else f"{s.host.spec.name} {o.told}" for s, o in obstacles
        )
        return f"{'room' if lacks == {_Lack.ROOM} else 'a host'}: {'; '.join(told)}"


def _turn_of(whose: str, limit: int, going: Sequence[str]) -> str:
    runs = "1 run goes" if limit == 1 else f"{limit} runs go"
    return f"its turn: {runs} at a time of {whose}, now {', '.join(going)}"


def _rank(attempt: Queued, seats: _Seats) -> tuple[object, ...]:
    """Orders hosts that can take an attempt: the least is wanted most."""
    host, wish = seats.host, attempt.runner.resources
    name, names = host.spec.name, attempt.runner.host_names
    return (
        name in attempt.avoid,
        names.index(name) if name in names else 0,
        # GPUs are for those who need them, and memory that is not there makes a machine slow for all.
        bool(host.gpus.gpus) and not wish.gpus,
        wish.memory is not None and host.size is not None and wish.memory > host.size,
        name not in attempt.holds_data,
        name not in attempt.holds_image,
        host.load is not None and host.load >= _BUSY,
        seats.share,
        seats.order,
    )
