"""Planning: what would run now and why, and what it would be compared with. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from orchestrator.domain.baseline import Place, SelectorKind, choose, pooled, together
from orchestrator.domain.change import DatasetRole, Refs
from orchestrator.domain.check import Comparison
from orchestrator.domain.errors import RevisionGone
from orchestrator.domain.pipeline import DatasetSpec, Pipeline, SourceSpec
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, DatasetSource, SourceControl
from orchestrator.services.candidates import candidates, eligible_runs
from orchestrator.services.heads import Head, adopted, branches_of, is_branch, is_mark, watched
from orchestrator.services.moves import Moves
from orchestrator.services.pinning import waits_until
from orchestrator.services.unwatched import unwatched_refs


class News(StrEnum):
    """What a look at a branch or a dataset shows, compared with what was seen before."""

    NONE = "unchanged"
    FIRST = "not seen before"
    MOVED = "changed"
    SETTLING = "being written"
    GONE = "gone"
    THERE_BEFORE = "there before it was watched"
    """It makes no run."""


@dataclass(frozen=True, slots=True)
class BranchLook:
    """A watched branch, tag or pull request: the commit that was seen last and the one that is there now."""

    source: str
    branch: str
    seen: str | None
    now: str | None
    news: News
    why_not: str = ""
    """Why it makes no run although it is news."""


@dataclass(frozen=True, slots=True)
class DataLook:
    """A watched dataset: the last ``version`` stored (0: none), and what is there now."""

    dataset: str
    role: DatasetRole
    version: int
    files: int
    size: int
    news: News
    waits: str = ""
    """When it is taken for whole, where it is being written."""
    pinned: bool = True
    """Whether a run has had it; until then its changes make none by themselves."""


@dataclass(frozen=True, slots=True)
class BaselineLook:
    """What a check would be compared with: a run's title, or why there is nothing."""

    check: str
    baseline: str
    why_none: str = ""
    measurements: int = 0
    """How many there are of it on its evaluation data."""
    wanted: int = 0
    """How many are wanted; 0: whatever there are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``expected`` says in sentences which runs the next looks would enqueue; empty when none.

    ``waits`` says what these wait for: the next look alone makes none of them. ``unwatched`` are the refs
    that nobody watches.
    """

    branches: tuple[BranchLook, ...]
    data: tuple[DataLook, ...]
    baselines: tuple[BaselineLook, ...]
    expected: tuple[str, ...]
    waits: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()


class Planner:
    """Looks without remembering what it saw."""

    def __init__(self, store: Store, sources: SourceControl, datasets: DatasetSource, clock: Clock) -> None:
        self._store = store
        self._sources = sources
        self._datasets = datasets
        self._clock = clock
        self._moves = Moves(sources)

    def plan(self, pipeline: Pipeline) -> Plan:
        """Look at everything that the pipeline watches. Raises SourceError or DatasetError."""
        branches: list[BranchLook] = []
        unwatched: list[str] = []
        for source in pipeline.sources:
            refs = self._sources.refs(source)
            branches += self._branches(pipeline, source, refs)
            unwatched += sorted(unwatched_refs(source, refs))
        data = tuple(self._data(pipeline, dataset) for dataset in pipeline.datasets)
        return Plan(
            tuple(branches),
            data,
            self.baselines(pipeline, data),
            _expected(pipeline, branches, data),
            tuple(f"dataset {look.dataset}: {look.waits}" for look in data if look.news is News.SETTLING),
            tuple(unwatched),
        )

    def _branches(self, pipeline: Pipeline, source: SourceSpec, refs: Refs) -> list[BranchLook]:
        seen = dict(self._store.detection.heads(pipeline.name, source.name))
        heads = watched(source, refs)
        first = not branches_of(seen)
        there_before = {move.branch for move in adopted(source, seen, heads)}
        looks = []
        for ref in sorted(heads.keys() | seen.keys()):
            if is_mark(ref):
                continue
            if ref in there_before:
                looks.append(BranchLook(source.name, ref, None, heads[ref].commit, News.THERE_BEFORE))
                continue
            before, now = seen.get(ref), heads.get(ref)
            why_not = ""
            if now is None:
                news = News.GONE
            elif before is None:
                news = News.FIRST
            else:
                news = News.NONE if before == now.commit else News.MOVED
            if now is not None and news in (News.FIRST, News.MOVED) and not first:
                why_not = self._why_not(source, refs, now, before)
            looks.append(BranchLook(source.name, ref, before, now.commit if now else None, news, why_not))
        return looks

    def _why_not(self, source: SourceSpec, refs: Refs, head: Head, before: str | None) -> str:
        """Why a head that moved will make no run; empty when it will."""
        try:
            steps = self._moves.steps(source, refs, head, before)
        except RevisionGone:
            return "it has moved on already"
        return "" if any(step.revision is not None for step in steps) else steps[-1].why_not

    def _data(self, pipeline: Pipeline, dataset: DatasetSpec) -> DataLook:
        listing = self._datasets.look(dataset)
        watch = self._store.detection.dataset_watch(dataset)
        known = None
        if watch is not None and watch.fingerprint is not None:
            known = self._store.detection.version(dataset, watch.fingerprint)
        pinned = self._store.detection.data_heads(pipeline.name).get(dataset.name)
        same_listing = watch is not None and known is not None and watch.signature == listing.signature
        settle = timedelta(seconds=0 if dataset.marker else dataset.settle)
        quiet = listing.newest is None or self._clock.now() - listing.newest >= settle
        still = listing.whole and quiet
        if same_listing and known is not None and known.fingerprint == pinned:
            news = News.NONE
        elif not still and not same_listing:
            news = News.SETTLING
        else:
            news = News.FIRST if known is None else News.MOVED
        return DataLook(
            dataset.name,
            dataset.role,
            known.number if known else 0,
            listing.files,
            listing.size,
            news,
            waits_until(dataset),
            pinned is not None,
        )

    def baselines(self, pipeline: Pipeline, data: tuple[DataLook, ...] = ()) -> tuple[BaselineLook, ...]:
        """What each comparing check would be compared with now; ``data`` tells what changed since."""
        comparisons = [check for check in pipeline.gate.checks if isinstance(check, Comparison)]
        if not comparisons:
            return ()
        metrics = {check.metric for check in comparisons}
        past = candidates(self._store, pipeline, eligible_runs(self._store, pipeline, metrics))
        pins = self._store.runs.pins(pipeline.name)
        rebased = self._store.baselines.rebased(pipeline.name)
        since = rebased.run_id if rebased else 0
        place = Place(past[-1].evaluation_digest if past else "")
        fresh = any(look.role is DatasetRole.EVALUATION and look.news is not News.NONE for look in data)
        looks = []
        for check in comparisons:
            direction = pipeline.direction_of(check.metric)
            if direction is None:
                looks.append(BaselineLook(str(check), "", f"the direction of {check.metric} is not known"))
                continue
            spec = pipeline.baseline_of(check.baseline)
            if spec.select.kind is SelectorKind.MERGE_BASE:
                why = "it is chosen for each change, by the commit at which its branch left"
                looks.append(BaselineLook(str(check), "", why))
                continue
            chosen = choose(spec, past, check.metric, direction, pins, place, since)
            if chosen.candidate is None:
                looks.append(BaselineLook(str(check), "", chosen.why_none))
                continue
            members = together(chosen.candidate, past, spec)
            values = pooled(members, chosen.candidate.measured).values.get(check.metric, ())
            again = ", measured again on the new evaluation data" if fresh else ""
            title = chosen.candidate.measured.title + again
            wanted = spec.confirm if spec.select.kind is SelectorKind.BEST else 0
            looks.append(BaselineLook(str(check), title, "", len(values), max(wanted, spec.replicates)))
        return tuple(looks)


def _expected(
    pipeline: Pipeline, branches: Sequence[BranchLook], data: Sequence[DataLook]
) -> tuple[str, ...]:
    found: list[str] = []
    for source in dict.fromkeys(look.source for look in branches):
        mine = [look for look in branches if look.source == source]
        branches_seen = [look.seen for look in mine if is_branch(look.branch)]
        if branches_seen and not any(branches_seen):
            if pipeline.after:
                found.append(
                    f"no run of {source} at first sight: it runs after {' and '.join(pipeline.after)}"
                )
            else:
                found.append(f"one run of {source}, because it was not seen before")
            continue
        found += [
            f"no run of {look.branch}: {look.why_not}"
            if look.why_not
            else f"a run of {look.branch} at {(look.now or '')[:8]}, because {source} was pushed to"
            for look in mine
            if look.news in (News.FIRST, News.MOVED)
        ]
    changed = [look.dataset for look in data if look.pinned and look.news in (News.MOVED, News.SETTLING)]
    if changed and not found:
        found.append(f"a run of the deployed branch, because the data {', '.join(changed)} changed")
    return tuple(found)
