"""Deciding what goes and what stays, from facts alone.

A rule says when something has had its time: by age, by count, by how long nobody used it, or because the disk
is short of room. What is needed stays all the same, and the plan says why. Planning again after a plan was
carried out finds nothing to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from orchestrator.domain.report import format_size
from orchestrator.domain.retention import (
    ON_HOSTS,
    Going,
    HostThing,
    Kind,
    Limits,
    Plan,
    Policy,
    RunFacts,
    Staying,
    Unused,
    told,
)

_NO_ROOM: Final = "the disk is short of room"
_HELD: Final = "a container has it"
_STORED: Final = (Kind.ARTIFACTS, Kind.LOGS)


def plan_state(
    runs: Sequence[RunFacts],
    needed: Mapping[int, str],
    policy: Policy,
    now: datetime,
    kinds: AbstractSet[Kind] = frozenset(Kind),
) -> Plan:
    """What goes of runs, artifacts and logs.

    ``needed`` says of runs why they must stay with all they have. Beside them stay runs that have not ended,
    and, as rows alone, those that a kept run repeats or was compared with.
    """
    ranks = _ranked(runs)
    plan, gone = Plan(), set[int]()
    if Kind.RUNS in kinds:
        plan = _plan_runs(runs, needed, policy, now, ranks)
        gone = {int(thing.key) for thing in plan.going}
    for kind in _STORED:
        if kind in kinds:
            left = [run for run in runs if run.id not in gone and _there(run, kind)]
            plan += _sorted_out(left, kind, needed, policy, now, ranks)
    return plan


Contents = Mapping[int, Sequence[tuple[str, int]]]
"""By run: the contents of its artifacts by their hash, with their bytes. Runs share contents."""


def relieve(
    plan: Plan,
    runs: Sequence[RunFacts],
    needed: Mapping[int, str],
    policy: Policy,
    contents: Contents,
    lacking: int,
    settled: datetime,
) -> Plan:
    """Let artifacts and then logs go, the oldest first, until ``lacking`` bytes of room are made.

    What the plan lets go counts. Nothing goes that makes no room because what stays has the same content, and
    nothing of runs that ended after ``settled``: their files may not be all in the database yet.
    """
    ranks = _ranked(runs)
    gone = {kind: {int(t.key) for t in plan.going if t.kind in (kind, Kind.RUNS)} for kind in _STORED}
    free: dict[Kind, list[RunFacts]] = {}
    for kind in _STORED:
        free[kind] = [
            run
            for run in sorted(runs, key=lambda r: (r.at, r.id))
            if run.id not in gone[kind]
            and _there(run, kind)
            and run.at <= settled
            and not _why_kept(run, _limits(policy, run, kind), needed, ranks)
        ]
    shelf = _Shelf(contents, gone[Kind.ARTIFACTS], {run.id for run in free[Kind.ARTIFACTS]})
    lacking -= shelf.freed + sum(run.log_size for run in runs if run.id in gone[Kind.LOGS])
    more: list[Going] = []
    for run in free[Kind.ARTIFACTS]:
        if lacking <= 0:
            break
        if shelf.would_help(run.id):
            lacking -= shelf.take(run.id)
            more.append(_going(run, Kind.ARTIFACTS, _NO_ROOM))
    for run in free[Kind.LOGS]:
        if lacking <= 0:
            break
        lacking -= run.log_size
        more.append(_going(run, Kind.LOGS, _NO_ROOM))
    return replace(plan, going=(*plan.going, *more), lacking=max(lacking, 0))


class _Shelf:
    """Contents with the number of runs that have them; what is taken by its last run makes room."""

    def __init__(self, contents: Contents, gone: AbstractSet[int], free: AbstractSet[int]) -> None:
        self._contents = contents
        self._holders: Counter[str] = Counter()
        self._stays: set[str] = set()
        for run_id, files in contents.items():
            if run_id not in gone:
                self._holders.update({name for name, _ in files})
                if run_id not in free:
                    self._stays.update(name for name, _ in files)
        lost = {name: size for run_id in gone for name, size in contents.get(run_id, ())}
        self.freed = sum(size for name, size in lost.items() if name not in self._holders)

    def would_help(self, run_id: int) -> bool:
        """Whether taking a run's contents makes room, at once or once others are taken as well."""
        return any(name not in self._stays and size > 0 for name, size in self._contents.get(run_id, ()))

    def take(self, run_id: int) -> int:
        """The bytes of room that it makes at once."""
        made = 0
        for name, size in dict(self._contents.get(run_id, ())).items():
            self._holders[name] -= 1
            made += 0 if self._holders[name] else size
        return made


def plan_unused(things: Iterable[HostThing], rule: Unused, now: datetime) -> Plan:
    """What goes of the images, or of the volumes, of one host."""
    going: list[Going] = []
    staying: list[Staying] = []
    left: list[HostThing] = []
    for thing in sorted(things, key=lambda t: (t.used_at, -t.depth, t.name)):
        why = f"unused for {told(now - thing.used_at)}"
        if rule.age is None or now - thing.used_at <= rule.age:
            left.append(thing)
        elif thing.needed:
            left.append(thing)
            staying.append(_staying_there(thing, why))
        else:
            going.append(_going_there(thing, why))
    over = sum(thing.size or 0 for thing in left) - (rule.budget or 0)
    if rule.budget is None:
        over = 0
    for thing in left:
        if over <= 0:
            break
        why = f"the {thing.kind.value} of {thing.host} take more than {format_size(rule.budget or 0)}"
        if not thing.size:
            continue
        if thing.needed:
            staying.append(_staying_there(thing, why))
            continue
        going.append(_going_there(thing, why))
        over -= thing.size
    return Plan(tuple(going), tuple(dict.fromkeys(staying)))


def plan_hosts(
    things: Sequence[HostThing],
    policy: Policy,
    now: datetime,
    lacking: int = 0,
    kinds: AbstractSet[Kind] = frozenset(ON_HOSTS),
) -> Plan:
    """What goes, of these kinds, of all that is ours on one host.

    What had its time, and then, while that leaves ``lacking`` bytes of room, whatever nothing needs, the
    least recently used first. What the engine tells no size of makes no room as far as is known.
    """
    plan, held = Plan(), set[str]()
    for kind in ON_HOSTS:
        of_kind = [
            replace(thing, needed=_HELD) if thing.name in held and not thing.needed else thing
            for thing in things
            if thing.kind is kind
        ]
        rules = ((True, Unused(age=policy.leftovers)), (False, _rule(policy, kind)))
        for leftover, rule in rules if kind in kinds else ():
            plan += plan_unused([thing for thing in of_kind if thing.leftover is leftover], rule, now)
        gone = {thing.key for thing in plan.going}
        held |= {name for thing in of_kind if _key(thing) not in gone for name in thing.holds}
    lacking -= sum(thing.size for thing in plan.going)
    going = {(thing.kind, thing.key) for thing in plan.going}
    more: list[Going] = []
    left = [thing for thing in things if thing.kind in kinds and not thing.needed and thing.name not in held]
    for thing in sorted(left, key=lambda t: (not t.leftover, t.used_at, -t.depth, t.name)):
        if lacking <= 0:
            break
        if (thing.kind, _key(thing)) in going or not thing.size:
            continue
        more.append(_going_there(thing, _NO_ROOM))
        lacking -= thing.size
    # In the order in which the engine lets them go.
    everything = sorted((*plan.going, *more), key=lambda thing: ON_HOSTS.index(thing.kind))
    return replace(plan, going=tuple(everything))


def _rule(policy: Policy, kind: Kind) -> Unused:
    match kind:
        case Kind.IMAGES:
            return policy.images
        case Kind.VOLUMES:
            return policy.volumes
        case _:
            return Unused(age=policy.leftovers)


def plan_releases(
    server: str,
    releases: Iterable[str],
    current: str | None,
    live: AbstractSet[str],
    age: timedelta | None,
    now: datetime,
) -> Plan:
    """What goes of a server's releases: by age alone, because how many stay is the server's ``keep``.

    ``current`` never goes, nor what the database holds for ``live``.
    """
    going: list[Going] = []
    staying: list[Staying] = []
    for name in sorted(releases):
        made = made_at(name)
        if age is None or made is None or now - made <= age:
            continue
        why = f"older than {told(age)}"
        if name == current or name in live:
            kept = "it is current" if name == current else "it is live"
            staying.append(Staying(Kind.RELEASES, name, name, kept, why, place=server))
        else:
            going.append(Going(Kind.RELEASES, name, name, why, place=server))
    return Plan(tuple(going), tuple(staying))


def made_at(release: str) -> datetime | None:
    """When a release was made, by its name; None for a name that is none of ours."""
    try:
        return datetime.strptime(release.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _Rank:
    """How many runs are newer: of the pipeline, and of the branch."""

    overall: int
    branch: int


def _ranked(runs: Sequence[RunFacts]) -> dict[int, _Rank]:
    overall: dict[str, int] = {}
    branches: dict[tuple[str, str], int] = {}
    found: dict[int, _Rank] = {}
    for run in sorted(runs, key=lambda r: (r.at, r.id), reverse=True):
        branch = (run.pipeline, run.branch)
        found[run.id] = _Rank(overall.get(run.pipeline, 0), branches.get(branch, 0))
        overall[run.pipeline] = found[run.id].overall + 1
        branches[branch] = found[run.id].branch + 1
    return found


def _limits(policy: Policy, run: RunFacts, kind: Kind) -> Limits:
    rules = policy.rules_of(run.pipeline)
    match kind:
        case Kind.RUNS:
            return rules.runs
        case Kind.ARTIFACTS:
            return rules.artifacts
        case _:
            return rules.logs


def _there(run: RunFacts, kind: Kind) -> bool:
    return (run.files if kind is Kind.ARTIFACTS else run.logs) > 0


def _exceeded(run: RunFacts, limits: Limits, rank: _Rank, now: datetime) -> str:
    """The limit that a run exceeds; empty when it exceeds none."""
    if limits.age is not None and now - run.at > limits.age:
        return f"older than {told(limits.age)}"
    if limits.count is not None and rank.overall >= limits.count:
        return f"not among the newest {limits.count} of {run.pipeline}"
    if limits.per_branch is not None and rank.branch >= limits.per_branch:
        return f"not among the newest {limits.per_branch} of {run.pipeline} on {run.branch}"
    return ""


def _why_kept(run: RunFacts, limits: Limits, needed: Mapping[int, str], ranks: Mapping[int, _Rank]) -> str:
    """Why a run's things stay whatever limit they exceed; empty when they do not."""
    if not run.ended:
        return "it has not ended"
    if run.id in needed:
        return needed[run.id]
    if ranks[run.id].overall < limits.keep_last:
        return f"among the newest {limits.keep_last} of {run.pipeline}"
    if limits.keep_all:
        return f"the rule of {run.pipeline} keeps all"
    return "it passed" if limits.keep_passed and run.passed else ""


def _sorted_out(
    runs: Iterable[RunFacts],
    kind: Kind,
    needed: Mapping[int, str],
    policy: Policy,
    now: datetime,
    ranks: Mapping[int, _Rank],
) -> Plan:
    going: list[Going] = []
    staying: list[Staying] = []
    for run in runs:
        limits = _limits(policy, run, kind)
        because = _exceeded(run, limits, ranks[run.id], now)
        if not because:
            continue
        kept = _why_kept(run, limits, needed, ranks)
        if kept:
            staying.append(Staying(kind, run.id, run.title, kept, because, _size(run, kind)))
        else:
            going.append(_going(run, kind, because))
    return Plan(tuple(going), tuple(staying))


def _plan_runs(
    runs: Sequence[RunFacts],
    needed: Mapping[int, str],
    policy: Policy,
    now: datetime,
    ranks: Mapping[int, _Rank],
) -> Plan:
    first = _sorted_out(runs, Kind.RUNS, needed, policy, now, ranks)
    going = {int(thing.key): thing for thing in first.going}
    by_id = {run.id: run for run in runs}
    spared: list[Staying] = []

    def spare(run_id: int, why: str, by: RunFacts) -> None:
        thing = going.pop(run_id)
        spared.append(Staying(Kind.RUNS, run_id, thing.title, why, thing.why, thing.size, by=by.title))

    kept = [run for run in runs if run.id not in going]
    for run in kept:
        for other in run.compared_with:
            if other in going:
                spare(other, "a run that stays was compared with it", run)
    for run in [*kept, *(by_id[int(stays.key)] for stays in spared)]:
        for older, newer in _chain(run, by_id):
            if older.id in going:
                spare(older.id, "a run that stays repeats it", newer)
    return Plan(tuple(going.values()), (*first.staying, *spared))


def _chain(run: RunFacts, by_id: Mapping[int, RunFacts]) -> Iterator[tuple[RunFacts, RunFacts]]:
    """What a run repeats, what that repeats, and so on, each with what repeats it."""
    while run.rerun_of is not None and run.rerun_of in by_id:
        older = by_id[run.rerun_of]
        yield older, run
        run = older


def _size(run: RunFacts, kind: Kind) -> int:
    match kind:
        case Kind.RUNS:
            return run.size + run.log_size
        case Kind.ARTIFACTS:
            return run.size
        case _:
            return run.log_size


def _going(run: RunFacts, kind: Kind, why: str) -> Going:
    count = {Kind.ARTIFACTS: run.files, Kind.LOGS: run.logs}.get(kind, 1)
    return Going(kind, run.id, run.title, why, _size(run, kind), count)


def _going_there(thing: HostThing, why: str) -> Going:
    return Going(thing.kind, _key(thing), thing.name, why, thing.size or 0, place=thing.host)


def _key(thing: HostThing) -> str:
    return thing.id or thing.name


def _staying_there(thing: HostThing, because: str) -> Staying:
    return Staying(thing.kind, _key(thing), thing.name, thing.needed, because, thing.size or 0, thing.host)
