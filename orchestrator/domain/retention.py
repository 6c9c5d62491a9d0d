"""Retention in words: its rules, the facts that they are about, and a plan of what goes and what stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from orchestrator.domain.report import format_size
from orchestrator.domain.space import Reserve

NOT_IN_BACKUP: Final = "not in the backup"
"""Why a restored run lacks an artifact that retention never removed."""


class Kind(StrEnum):
    """What retention is about."""

    RUNS = "runs"
    """With all that belongs to them."""
    ARTIFACTS = "artifacts"
    """The contents of a run's files; its list of them stays."""
    LOGS = "logs"
    FILES = "files"
    """What nothing in the database refers to."""
    JOURNAL = "journal"
    """Entries about runs that are gone, and about no run."""
    CONTAINERS = "containers"
    """Of hosts, as are the next three: with the workspaces in them."""
    NETWORKS = "networks"
    VOLUMES = "volumes"
    """Copies of data, and checkpoints."""
    IMAGES = "images"
    RELEASES = "releases"
    VERSIONS = "versions"
    """Of data, with the lists of their files."""
    MIRRORS = "mirrors"
    """Copies of repositories."""
    COMMITS = "commits"
    """In mirrors."""
    PIPELINES = "pipelines"
    """What is remembered of those that nobody defines any more and that no run is left of."""


ON_HOSTS: Final = (Kind.CONTAINERS, Kind.NETWORKS, Kind.VOLUMES, Kind.IMAGES)
"""What is ours on hosts, in the order in which it can be removed: each may hold the next."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When runs, artifacts or logs have had their time: when they exceed any of the limits that are set.

    ``count`` and ``per_branch`` are of the newest runs of a pipeline, and of one branch of it. The newest
    ``keep_last`` of a pipeline stay whatever the limits say, and with ``keep_passed`` all that passed. With
    ``keep_all`` all stay, even when the disk is short of room.
    """

    age: timedelta | None = None
    count: int | None = None
    per_branch: int | None = None
    keep_last: int = 5
    keep_passed: bool = False
    keep_all: bool = False

    @property
    def limited(self) -> bool:
        """Whether any limit is set."""
        return any(limit is not None for limit in (self.age, self.count, self.per_branch))


@dataclass(frozen=True, slots=True)
class Unused:
    """When images or volumes have had their time: unused for longer than ``age``, or beyond ``budget`` bytes
    on one host, those that were used least recently first.
    """

    age: timedelta | None = None
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class StateRules:
    """The limits of what lies in the state folder and the database."""

    runs: Limits = Limits()
    artifacts: Limits = Limits()
    logs: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules. ``pipelines`` holds the state's rules of those that have their own."""

    state: StateRules = StateRules()
    pipelines: Mapping[str, StateRules] = field(default_factory=dict)
    images: Unused = Unused()
    volumes: Unused = Unused()
    leftovers: timedelta | None = None
    """The age at which containers, networks and checkpoints that nothing needs have had their time."""
    releases: timedelta | None = None
    """The age at which releases on servers have had their time."""
    journal: timedelta | None = None
    versions: timedelta | None = None
    """The age at which versions of data that no run has had have had their time."""
    mirrors: timedelta | None = None
    """How long mirrors stay that nobody uses, and commits in them that no run has."""
    gone: timedelta | None = None
    """How long it is remembered what was seen for pipelines that nobody defines any more."""
    min_free: Reserve = field(default_factory=Reserve)
    """Room to be kept free on the disk of the state folder."""
    host_free: Reserve = field(default_factory=Reserve)
    """Room to be kept free where hosts keep their data."""
    every: timedelta = timedelta(hours=1)
    """How often the service looks."""

    def rules_of(self, pipeline: str) -> StateRules:
        """The state's rules for a pipeline's runs."""
        return self.pipelines.get(pipeline, self.state)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What retention has to know of a run. ``at`` is when it ended, or began to exist; sizes in bytes.

    ``compared_with`` are the runs that its verdict names; ``files`` and ``logs`` count what is still there.
    """

    id: int
    number: int
    pipeline: str
    branch: str
    at: datetime
    ended: bool
    passed: bool = False
    rerun_of: int | None = None
    compared_with: tuple[int, ...] = ()
    files: int = 0
    size: int = 0
    logs: int = 0
    log_size: int = 0

    @property
    def title(self) -> str:
        """How people name it."""
        return f"{self.pipeline}#{self.number}"


@dataclass(frozen=True, slots=True)
class HostThing:
    """Something of ours on a host. ``size`` in bytes, None where the engine does not tell it.

    ``needed`` says why it must stay, and is empty when it need not. ``depth`` orders what is built upon each
    other: the upper one, of greater depth, goes first. A ``leftover`` is of no use to anybody any more, while
    other things may save a later run the time to make them.
    """

    kind: Kind
    host: str
    name: str
    used_at: datetime
    size: int | None = None
    needed: str = ""
    depth: int = 0
    leftover: bool = False
    id: str = ""
    """What it is called when its name may be another's by now."""
    holds: tuple[str, ...] = ()
    """Names of what cannot go before it has."""


@dataclass(frozen=True, slots=True)
class Going:
    """Something that goes, and why. ``key`` is a run's id, or what the thing is called; ``size`` in bytes."""

    kind: Kind
    key: int | str
    title: str
    why: str
    size: int = 0
    count: int = 1
    place: str = ""
    """The host or the server that it is on."""


@dataclass(frozen=True, slots=True)
class Staying:
    """Something that has had its time (``because``), and yet stays: ``why``."""

    kind: Kind
    key: int | str
    title: str
    why: str
    because: str
    size: int = 0
    place: str = ""
    by: str = ""
    """The run on whose account it stays, where that is another."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes, what stays although a rule would have it go, and how many bytes of room that leaves
    lacking.
    """

    going: tuple[Going, ...] = ()
    staying: tuple[Staying, ...] = ()
    lacking: int = 0

    def __add__(self, other: Plan) -> Plan:
        return Plan(self.going + other.going, self.staying + other.staying, max(self.lacking, other.lacking))

    def of(self, kind: Kind) -> tuple[Going, ...]:
        """What goes of one kind."""
        return tuple(thing for thing in self.going if thing.kind is kind)


def told(span: timedelta) -> str:
    """A span as people write it: ``90d``, ``36h``, ``10m``, ``5s``, rounded down."""
    seconds = int(span.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size or seconds == size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def removal(at: datetime | None, why: str | None) -> str:
    """What is said where something was: ``removed by retention on 2026-11-23 (older than 90d)``; empty when
    it is there.
    """
    if at is None:
        return ""
    by = "" if why == NOT_IN_BACKUP else " by retention"
    return f"removed{by} on {at:%Y-%m-%d} ({why or 'no reason was written'})"


def counted(kind: Kind, number: int) -> str:
    """``1 run``, ``2 runs``, ``3 journal entries``."""
    one, many = kind.value.removesuffix("s"), kind.value
    if kind is Kind.JOURNAL:
        one, many = "journal entry", "journal entries"
    return f"{number} {one if number == 1 else many}"


def told_of(thing: Going) -> str:
    """What the journal says of something that went."""
    if thing.kind in (Kind.RUNS, Kind.FILES, Kind.JOURNAL):
        what = f"{thing.title} removed"
    elif thing.kind is Kind.PIPELINES:
        what = f"what was seen for {thing.title} removed"
    elif thing.kind in (Kind.ARTIFACTS, Kind.LOGS):
        what = f"{counted(thing.kind, thing.count)} removed"
    else:
        what = f"{thing.kind.value.removesuffix('s')} {thing.title} removed"
    size = f", {format_size(thing.size)}" if thing.size else ""
    return f"{what} by retention ({thing.why}){size}"
