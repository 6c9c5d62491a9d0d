"""Planning: what would run now and why, and what it would be compared with. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from orchestrator.domain.baseline import Candidate, SelectorKind, choose
from orchestrator.domain.change import DatasetRole, Refs
from orchestrator.domain.check import Comparison
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.errors import RevisionGone
from orchestrator.domain.pipeline import DatasetSpec, Pipeline, SourceSpec
from orchestrator.domain.run import Purpose
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, DatasetSource, SourceControl
from orchestrator.services.heads import Head, adopted, branches_of, is_branch, is_mark, watched
from orchestrator.services.measuring import evaluation_digest, measured
from orchestrator.services.moves import Moves


class News(StrEnum):
    """What a look at a branch or a dataset shows, compared with what was seen before."""

    NONE = "unchanged"
    FIRST = "not seen before"
    MOVED = "changed"
    SETTLING = "being written"
    GONE = "gone"


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


@dataclass(frozen=True, slots=True)
class BaselineLook:
    """What a check would be compared with: a run's title, or why there is nothing."""

    check: str
    baseline: str
    why_none: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """``expected`` says in sentences which runs the next looks would enqueue; empty when none."""

    branches: tuple[BranchLook, ...]
    data: tuple[DataLook, ...]
    baselines: tuple[BaselineLook, ...]
    expected: tuple[str, ...]


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
        branches = tuple(look for source in pipeline.sources for look in self._branches(pipeline, source))
        data = tuple(self._data(pipeline, dataset) for dataset in pipeline.datasets)
        return Plan(branches, data, self.baselines(pipeline, data), _expected(branches, data))

    def _branches(self, pipeline: Pipeline, source: SourceSpec) -> list[BranchLook]:
        seen = dict(self._store.detection.heads(pipeline.name, source.name))
        refs = self._sources.refs(source)
        heads = watched(source, refs)
        first = not branches_of(seen)
        seen |= {move.branch: move.new for move in adopted(source, seen, heads) if move.new is not None}
        looks = []
        for ref in sorted(heads.keys() | seen.keys()):
            if is_mark(ref):
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
        elif known is None:
            news = News.FIRST
        else:
            news = News.MOVED if still or same_listing else News.SETTLING
        number = known.number if known else 0
        return DataLook(dataset.name, dataset.role, number, listing.files, listing.size, news)

    def baselines(self, pipeline: Pipeline, data: tuple[DataLook, ...] = ()) -> tuple[BaselineLook, ...]:
        """What each comparing check would be compared with now; ``data`` tells what changed since."""
        comparisons = [check for check in pipeline.gate.checks if isinstance(check, Comparison)]
        runs = [
            r for r in self._store.runs.measured_runs(pipeline.name) if why_not_trusted(r, pipeline) is None
        ]
        if not comparisons:
            return ()
        deployed = set(self._store.runs.deployed_ids(pipeline.name))
        pins = self._store.runs.pins(pipeline.name)
        digest = evaluation_digest(runs[-1].change) if runs else ""
        fresh = any(look.role is DatasetRole.EVALUATION and look.news is not News.NONE for look in data)
        looks = []
        for check in comparisons:
            pool = [
                Candidate(
                    measured(run, self._store.runs.metrics(run.id)),
                    run.id,
                    evaluation_digest(run.change),
                    run.id in deployed,
                )
                for run in runs
                if run.purpose is Purpose.TRAIN or check.baseline.kind is SelectorKind.BEST
            ]
            direction = pipeline.direction_of(check.metric)
            if direction is None:
                looks.append(BaselineLook(str(check), "", f"the direction of {check.metric} is not known"))
                continue
            chosen = choose(check.baseline, pool, check.metric, direction, pins, digest)
            if chosen.candidate is None:
                looks.append(BaselineLook(str(check), "", chosen.why_none))
            else:
                again = ", measured again on the new evaluation data" if fresh else ""
                looks.append(BaselineLook(str(check), chosen.candidate.measured.title + again))
        return tuple(looks)


def _expected(branches: tuple[BranchLook, ...], data: tuple[DataLook, ...]) -> tuple[str, ...]:
    settling = [look.dataset for look in data if look.news is News.SETTLING]
    wait = f", once {' and '.join(settling)} has settled" if settling else ""
    found: list[str] = []
    for source in dict.fromkeys(look.source for look in branches):
        mine = [look for look in branches if look.source == source]
        branches_seen = [look.seen for look in mine if is_branch(look.branch)]
        if branches_seen and not any(branches_seen):
            found.append(f"one run of {source}, because it was not seen before{wait}")
            continue
        found += [
            f"no run of {look.branch}: {look.why_not}"
            if look.why_not
            else f"a run of {look.branch} at {(look.now or '')[:8]}, because {source} was pushed to{wait}"
            for look in mine
            if look.news in (News.FIRST, News.MOVED)
        ]
    changed = [look.dataset for look in data if look.news in (News.MOVED, News.SETTLING)]
    if changed and not found:
        found.append(f"a run of the deployed branch, because the data {', '.join(changed)} changed{wait}")
    return tuple(found)
