"""Retention in the database and the state folder: runs, artifacts, logs, files without an owner, the journal.

Rows change first, files go after: a kill in between leaves a file that nothing refers to, which the next pass
finds by itself. Contents are shared by runs, so no file is removed for a run: only because no run has it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.retention import Going, Kind, Plan, Policy, RunFacts, counted, told, told_of
from orchestrator.domain.retention_plan import plan_state, relieve
from orchestrator.domain.space import Space
from orchestrator.ports.engine import Interrupt
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.retention import BlobFiles, FileFacts, LogStorage
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.baselines_now import baselines_now

GRACE: Final = timedelta(hours=6)
"""How long a file may lie without an owner. A run's files are stored before its rows are written."""
_RUNS: Final = 50
_MARKS: Final = 200
"""So many runs change in one transaction: others who write wait for it."""
_ENTRIES: Final = 5000
_LOOKS: Final = 500
_ROUNDS: Final = 5
"""So often it is looked whether there is room now."""


@dataclass(frozen=True, slots=True)
class StatePorts:
    """What this works on. ``space`` is the room on the disk of the state folder, None where nobody knows."""

    store: Store
    blobs: BlobFiles
    logs: LogStorage
    clock: Clock
    space: Callable[[], Space | None]


@dataclass(frozen=True, slots=True)
class _Facts:
    runs: Sequence[RunFacts]
    needed: Mapping[int, str]
    logs: Mapping[int, Sequence[int]]
    """The attempts that have a log on file, by run."""


class StateKeeper:
    """Plans and carries out. One thread at a time, and for removing one process."""

    def __init__(self, ports: StatePorts, policy: Policy, pipelines: Collection[Pipeline]) -> None:
        self._ports = ports
        self._store = ports.store
        self._policy = policy
        self._pipelines = pipelines

    def plan(self, kinds: AbstractSet[Kind]) -> Plan:
        """What would go and what would stay now."""
        return self._plan(self._facts(), kinds) + self._leftovers(kinds)

    def short(self) -> bool:
        """Whether the disk has less room than is to be kept free."""
        space = self._ports.space()
        return space is not None and not self._policy.min_free.holds(space)

    def apply(
        self,
        kinds: AbstractSet[Kind],
        who: str,
        progress: ProgressSink,
        interrupt: Interrupt,
        *,
        sweep: bool,
    ) -> tuple[Plan, dict[Kind, int], int]:
        """Remove what has had its time: the plan, how many went of each kind, and the bytes that were freed.

        Without ``sweep`` no file is removed, because it cannot be told here whose files they are.

        What ``interrupt`` raises ends it between two steps.
        """
        whole, went, freed = Plan(), dict[Kind, int](), 0
        for _ in range(_ROUNDS):
            facts = self._facts()
            plan = self._plan(facts, kinds)
            for kind, count in self._remove(plan, facts, who, progress, interrupt):
                went[kind] = went.get(kind, 0) + count
            if sweep and (Kind.FILES in kinds or plan.going):
                count, size = self._sweep(who, progress, interrupt)
                went[Kind.FILES] = went.get(Kind.FILES, 0) + count
                freed += size
            whole = replace(plan, going=whole.going + plan.going)
            if not plan.going or not self.short():
                break
        if Kind.JOURNAL in kinds and self._policy.journal is not None:
            went[Kind.JOURNAL] = self._forget(self._policy.journal, who, progress, interrupt)
        return whole, went, freed

    def _facts(self) -> _Facts:
        owners = self._store.retention.log_owners()
        sizes: dict[int, int] = {}
        attempts: dict[int, list[int]] = {}
        for file in self._ports.logs.files():
            run_id = owners.get(int(file.name))
            if run_id is not None:
                sizes[run_id] = sizes.get(run_id, 0) + file.size
                attempts.setdefault(run_id, []).append(int(file.name))
        runs = [
            replace(run, logs=len(attempts[run.id]), log_size=sizes[run.id]) if run.id in attempts else run
            for run in self._store.retention.runs()
        ]
        return _Facts(runs, self._needed(), attempts)

    def _needed(self) -> Mapping[int, str]:
        # A run that waits for its verdict is judged by the gate that was frozen into it.
        frozen = [self._store.runs.definition(run.id) for run in self._store.runs.unfinished()]
        distinct = {(p.name, p.gate): p for p in (*frozen, *self._pipelines)}
        return {**baselines_now(self._store, distinct.values()), **self._store.retention.needed()}

    def _plan(self, facts: _Facts, kinds: AbstractSet[Kind]) -> Plan:
        now = self._ports.clock.now()
        plan = plan_state(facts.runs, facts.needed, self._policy, now, kinds)
        space = self._ports.space()
        if space is None or self._policy.min_free.holds(space) or not {Kind.ARTIFACTS, Kind.LOGS} <= kinds:
            return plan
        lacking = self._policy.min_free.of(space) - space.free
        contents = self._store.retention.contents()
        return relieve(plan, facts.runs, facts.needed, self._policy, contents, lacking, now - GRACE)

    def _leftovers(self, kinds: AbstractSet[Kind]) -> Plan:
        going = []
        if Kind.FILES in kinds:
            files = [*(f for part in self._orphans() for f in part), *self._ownerless_logs()]
            if files:
                size = sum(file.size for file in files)
                why = "nothing refers to them"
                going.append(Going(Kind.FILES, "files", "files", why, size, len(files)))
        if Kind.JOURNAL in kinds and self._policy.journal is not None:
            count = self._store.retention.count_journal(self._ports.clock.now() - self._policy.journal)
            if count:
                why = "of runs that are gone, and of no run"
                going.append(Going(Kind.JOURNAL, "journal", "entries", why, 0, count))
        return Plan(tuple(going))

    def _remove(
        self, plan: Plan, facts: _Facts, who: str, progress: ProgressSink, interrupt: Interrupt
    ) -> Iterator[tuple[Kind, int]]:
        retention, now = self._store.retention, self._ports.clock.now

        # The newest first: a run goes before the one that it repeats.
        runs = sorted(plan.of(Kind.RUNS), key=lambda thing: int(thing.key), reverse=True)
        for batch in _told(runs, _RUNS, "removing runs", progress, interrupt):
            yield Kind.RUNS, retention.remove_runs(batch, who, now())
        for batch in _told(plan.of(Kind.ARTIFACTS), _MARKS, "giving up artifacts", progress, interrupt):
            yield Kind.ARTIFACTS, retention.remove_artifacts(batch, who, now())
        for batch in _told(plan.of(Kind.LOGS), _MARKS, "giving up logs", progress, interrupt):
            yield Kind.LOGS, retention.remove_logs(batch, facts.logs, who, now())

    def _orphans(self) -> Iterator[list[FileFacts]]:
        """The contents that no run has, a folder at a time; never those stored a short while ago."""
        before = self._ports.clock.now() - GRACE
        for first, last in self._ports.blobs.parts():
            files = [file for file in self._ports.blobs.files(first, last) if file.changed_at < before]
            # Read after the files were listed: what was stored and recorded meanwhile is among them.
            kept = self._store.retention.hashes(first, last) if files else ()
            yield [file for file in files if file.name not in kept]

    def _ownerless_logs(self) -> list[FileFacts]:
        before = self._ports.clock.now() - GRACE
        files = {int(f.name): f for f in self._ports.logs.files() if f.changed_at < before}
        found: list[FileFacts] = []
        ids = sorted(files)
        for start in range(0, len(ids), _LOOKS):
            some = self._store.retention.without_owner(ids[start : start + _LOOKS])
            found += [files[attempt] for attempt in some]
        return found

    def _sweep(self, who: str, progress: ProgressSink, interrupt: Interrupt) -> tuple[int, int]:
        before = self._ports.clock.now() - GRACE
        count = size = 0
        for done, part in enumerate(self._orphans(), 1):
            interrupt()
            for file in part:
                freed = self._ports.blobs.drop(file.name, before)
                count, size = count + (freed is not None), size + (freed or 0)
            progress(ProgressEvent("removing files", done, 256, "folders"))
        for file in self._ownerless_logs():
            freed = self._ports.logs.drop(int(file.name))
            count, size = count + (freed is not None), size + (freed or 0)
        if count:
            why = "nothing refers to them"
            thing = Going(Kind.FILES, "files", counted(Kind.FILES, count), why, size, count)
            self._store.journal.note(who, "files", told_of(thing), self._ports.clock.now())
        return count, size

    def _forget(self, age: timedelta, who: str, progress: ProgressSink, interrupt: Interrupt) -> int:
        now: datetime = self._ports.clock.now()
        count = 0
        while gone := self._store.retention.remove_journal(now - age, _ENTRIES):
            count += gone
            progress(ProgressEvent("removing entries of the journal", count, None, "entries"))
            interrupt()
        if count:
            title = counted(Kind.JOURNAL, count)
            thing = Going(Kind.JOURNAL, "journal", title, f"older than {told(age)}", 0, count)
            self._store.journal.note(who, "journal", told_of(thing), now)
        return count


def _told(
    things: Sequence[Going], size: int, what: str, progress: ProgressSink, interrupt: Interrupt
) -> Iterator[Sequence[Going]]:
    """The things in batches, with progress, each batch after a look whether to go on."""
    for start in range(0, len(things), size):
        interrupt()
        batch = things[start : start + size]
        yield batch
        progress(ProgressEvent(what, start + len(batch), len(things), "runs"))
