"""Retention: everything that has had its time goes, and what is needed stays."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from orchestrator.domain.retention import ON_HOSTS, Kind, Plan
from orchestrator.ports.engine import Interrupt
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.retention import StateFolder
from orchestrator.services.retain_hosts import HostKeeper
from orchestrator.services.retain_releases import ReleaseKeeper
from orchestrator.services.retain_state import StateKeeper
from orchestrator.services.retain_watched import WatchedKeeper

STATE: Final = frozenset({Kind.RUNS, Kind.ARTIFACTS, Kind.LOGS, Kind.FILES, Kind.JOURNAL})
"""What lies in the database and the state folder."""
WATCHED: Final = frozenset({Kind.VERSIONS, Kind.MIRRORS, Kind.COMMITS, Kind.PIPELINES})
"""What is remembered of what is watched."""
HOSTS: Final = frozenset(ON_HOSTS)
"""What lies on hosts."""


class Stopped(Exception):
    """Whoever removes was asked to end between two steps; the next pass goes on from there."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was planned and what came of it: how many went of each kind, the bytes that were freed here, and
    what could not be removed or found out, in sentences.
    """

    plan: Plan
    went: Mapping[Kind, int] = field(default_factory=dict)
    freed: int = 0
    problems: tuple[str, ...] = ()


class Retainer:
    """Plans and carries out. Thread-safe between processes: one removes at a time, and none while a backup
    is made.
    """

    def __init__(
        self,
        state: StateKeeper,
        hosts: HostKeeper,
        releases: ReleaseKeeper,
        watched: WatchedKeeper,
        folder: StateFolder,
        instance: str,
    ) -> None:
        self._state = state
        self._hosts = hosts
        self._releases = releases
        self._watched = watched
        self._folder = folder
        self._instance = instance

    def short(self) -> bool:
        """Whether the disk of the state folder has less room than is to be kept free."""
        return self._state.short()

    def hosts_short(self) -> bool:
        """Whether a host has less room than is to be kept free there, as far as is known."""
        return self._hosts.short()

    def plan(self, kinds: AbstractSet[Kind], progress: ProgressSink) -> tuple[Plan, tuple[str, ...]]:
        """What would go and what would stay, and what could not be found out. Changes nothing."""
        ours, problems = self._folder.belongs_to(self._instance, claim=False), list[str]()
        if not ours:
            problems.append(_FOREIGN)
        plan = self._state.plan(kinds if ours else kinds - {Kind.FILES})
        remembered, untold = self._watched.plan(kinds if ours else kinds - _FILES)
        plan, problems = plan + remembered, problems + untold
        for keeper in (self._hosts, self._releases):
            more, untold = keeper.plan(kinds, progress)
            plan, problems = plan + more, problems + untold
        return plan, tuple(problems)

    def apply(self, kinds: AbstractSet[Kind], who: str, progress: ProgressSink, interrupt: Interrupt) -> Done:
        """Remove what has had its time. What ``interrupt`` raises ends it between two small steps."""
        plan, went, freed, problems = Plan(), dict[Kind, int](), 0, list[str]()
        if kinds & (STATE | WATCHED):
            with self._folder.alone() as mine:
                if not mine:
                    problems.append(_BUSY)
                else:
                    ours = self._folder.belongs_to(self._instance, claim=True)
                    if not ours:
                        problems.append(_FOREIGN)
                    plan, went, freed = self._state.apply(kinds, who, progress, interrupt, sweep=ours)
                    safe = kinds if ours else kinds - _FILES
                    seen, forgotten, room, untold = self._watched.apply(safe, who, progress, interrupt)
                    plan, went, freed = plan + seen, went | forgotten, freed + room
                    problems += untold
        on_hosts, gone, untold = self._hosts.apply(kinds, who, progress, interrupt)
        for thing in gone:
            went[thing.kind] = went.get(thing.kind, 0) + 1
        on_servers, unsaid = self._releases.apply(kinds, who, progress, interrupt)
        if on_servers.going:
            went[Kind.RELEASES] = len(on_servers.going)
        return Done(plan + on_hosts + on_servers, went, freed, (*problems, *untold, *unsaid))


_FILES: Final = frozenset({Kind.FILES, Kind.MIRRORS, Kind.COMMITS})
"""What is not touched where the files are another database's."""
_BUSY: Final = (
    "nothing was removed from the state folder: a backup or another retention is at work; try again later"
)
_FOREIGN: Final = (
    "no files were removed: those in the state folder belong to another database; "
    "use a folder of its own, or remove its file `instance` if that database is gone for good"
)
