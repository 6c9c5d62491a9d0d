"""Detecting: every change of code or data, once.

What was seen moves forward in the same transaction that enqueues the run, guarded by what was seen before, so
that one observation makes one run whoever makes it. A push waits while a dataset is still being written: a
run is pinned to a commit and to dataset versions, and both must exist.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.domain.action import Trigger
from orchestrator.domain.change import Cause, DatasetVersion, Revision
from orchestrator.domain.errors import NotFound, RevisionGone
from orchestrator.domain.pipeline import DatasetSpec, Pipeline, SourceSpec
from orchestrator.domain.run import Purpose, Reason, Run, RunState
from orchestrator.ports.progress import ProgressEvent
from orchestrator.ports.records import DataMove, DatasetWatch, HeadMove, NewAction, NewRun
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, DatasetSource, SourceControl

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A dataset that is being written: it has no version to pin now."""

    dataset: str


def start_actions(pipeline: Pipeline) -> tuple[NewAction, ...]:
    """The actions that a run owes as soon as it is enqueued."""
    return tuple(
        NewAction(trigger, position, spec)
        for position, (trigger, spec) in enumerate(pipeline.actions)
        if trigger is Trigger.START
    )


class Detector:
    """Watches sources and datasets. Thread-safe."""

    def __init__(self, store: Store, sources: SourceControl, datasets: DatasetSource, clock: Clock) -> None:
        self._store = store
        self._sources = sources
        self._datasets = datasets
        self._clock = clock
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def poll_source(self, pipeline: Pipeline, source: SourceSpec) -> list[Run]:
        """Look at a source's branches and enqueue a run for each that moved.

        The first sight of a repository makes one run, of its default branch if that is watched. Raises
        SourceError or DatasetError when it could not be found out; nothing is lost then, the next poll sees
        the same.
        """
        with self._locks[f"{pipeline.name}/{source.name}"]:
            heads = {b: c for b, c in self._sources.heads(source).items() if source.watches(b)}
            seen = self._store.detection.heads(pipeline.name, source.name)
            if heads == seen:
                return []
            if not seen:
                return self._first_sight(pipeline, source, heads)
            runs = []
            for branch in sorted(heads):
                if heads[branch] != seen.get(branch):
                    run = self._pushed(pipeline, source, branch, seen.get(branch), heads[branch])
                    runs += [run] if run else []
            gone = [HeadMove(source.name, b, seen[b], None) for b in sorted(seen.keys() - heads.keys())]
            if gone:
                self._store.runs.enqueue(None, gone, pipeline.name, self._clock.now())
                log.info("%s: branches gone: %s", source.name, ", ".join(move.branch for move in gone))
            return runs

    def scan_dataset(self, pipeline: Pipeline, dataset: DatasetSpec) -> list[Run]:
        """Look at a dataset and enqueue a run when it became a new version. Raises DatasetError."""
        version = self.refresh(dataset)
        if isinstance(version, Unsettled):
            return []
        known = self._store.detection.data_heads(pipeline.name)
        if dataset.name not in known or known[dataset.name] == version.fingerprint:
            # A pipeline that has not made its first run pins its data with that run.
            return []
        place = self._trained_branch(pipeline)
        if place is None:
            return []
        source, branch, commit = place
        pinned = self._pin(pipeline)
        if isinstance(pinned, Unsettled):
            return []
        run = self._enqueue(pipeline, Cause.DATA, self._revision(source, branch, commit), pinned, [])
        return [run] if run else []

    def run_now(
        self,
        pipeline: Pipeline,
        ref: str | None,
        who: str,
        host: str | None = None,
        replicates: int | None = None,
        rerun_of: Run | None = None,
        priority: int | None = None,
    ) -> Run:
        """Enqueue a run because a person wants one, of a ref or of the branch that is deployed.

        Raises SourceError, DatasetError, or NotFound when there is no such ref.
        """
        source = pipeline.sources[0]
        if rerun_of is not None:
            source = pipeline.source_named(rerun_of.change.revision.source) or source
            revision = rerun_of.change.revision
        else:
            revision = self._sources.resolve(source, ref or self._default_branch(pipeline, source))
        pinned = self._pin(pipeline)
        if isinstance(pinned, Unsettled):
            # A person asked for a run of what is there; waiting for the settle time would be a surprise.
            pinned = tuple(self._version_now(dataset) for dataset in pipeline.datasets)
        run = self._store.runs.enqueue(
            NewRun(
                pipeline,
                Cause.RERUN if rerun_of else Cause.MANUAL,
                revision,
                pinned,
                rerun_of=rerun_of.id if rerun_of else None,
                requested_by=who,
                host_wish=host,
                priority=priority,
                replicates=replicates,
                start_actions=start_actions(pipeline),
            ),
            (),
            pipeline.name,
            self._clock.now(),
        )
        if run is None:
            raise NotFound(f"pipeline {pipeline.name}: the run could not be enqueued", "try again")
        return run

    def refresh(self, dataset: DatasetSpec) -> DatasetVersion | Unsettled:
        """The dataset's version now; a new one is stored once nothing has changed for the settle time.

        Contents are hashed only when the listing differs from the one that the last version was made from.
        """
        with self._locks[f"data/{dataset.key}"]:
            listing = self._datasets.look(dataset)
            watch = self._store.detection.dataset_watch(dataset)
            now = self._clock.now()
            if watch and watch.fingerprint and watch.signature == listing.signature:
                version = self._store.detection.version(dataset, watch.fingerprint)
                if version is not None:
                    return version
            settle = timedelta(seconds=dataset.settle)
            still = listing.newest is not None and timedelta(0) <= now - listing.newest >= settle
            if watch and watch.pending == listing.signature and watch.pending_since:
                still = still or now - watch.pending_since >= settle
            if not still and dataset.settle > 0:
                if not (watch and watch.pending == listing.signature):
                    signature, fingerprint = (watch.signature, watch.fingerprint) if watch else ("", None)
                    self._store.detection.save_dataset_watch(
                        dataset, DatasetWatch(signature, fingerprint, listing.signature, now)
                    )
                return Unsettled(dataset.name)
            return self._version_now(dataset)

    def _version_now(self, dataset: DatasetSpec) -> DatasetVersion:
        watch = self._store.detection.dataset_watch(dataset)
        known = (
            self._store.detection.manifest(dataset, watch.fingerprint) if watch and watch.fingerprint else ()
        )
        snapshot = self._datasets.snapshot(dataset, known, _ignore)
        version = self._store.detection.record_version(
            dataset, snapshot.fingerprint, snapshot.entries, self._clock.now()
        )
        self._store.detection.save_dataset_watch(
            dataset, DatasetWatch(snapshot.listing.signature, snapshot.fingerprint)
        )
        return version

    def _pin(self, pipeline: Pipeline) -> tuple[DatasetVersion, ...] | Unsettled:
        versions: list[DatasetVersion] = []
        for dataset in pipeline.datasets:
            version = self.refresh(dataset)
            if isinstance(version, Unsettled):
                log.info("%s: waiting for dataset %s to settle", pipeline.name, version.dataset)
                return version
            versions.append(version)
        return tuple(versions)

    def _first_sight(self, pipeline: Pipeline, source: SourceSpec, heads: Mapping[str, str]) -> list[Run]:
        if not heads:
            return []
        branch = _main_of(heads, self._sources.default_branch(source))
        pinned = self._pin(pipeline)
        if isinstance(pinned, Unsettled):
            return []
        moves = [HeadMove(source.name, b, None, heads[b]) for b in sorted(heads)]
        if self._was_run(pipeline, branch, heads[branch], pinned):
            # Somebody tried the pipeline by hand before it was watched: once more tells nothing new.
            self._store.runs.enqueue(
                None, [*moves, *self._data_moves(pipeline, pinned)], pipeline.name, self._clock.now()
            )
            return []
        revision = self._revision(source, branch, heads[branch])
        run = self._enqueue(pipeline, Cause.FIRST_SIGHT, revision, pinned, moves)
        return [run] if run else []

    def _was_run(
        self, pipeline: Pipeline, branch: str, commit: str, pinned: Sequence[DatasetVersion]
    ) -> bool:
        wanted = {version.dataset: version.fingerprint for version in pinned}
        return any(
            run.purpose is Purpose.TRAIN
            and run.state not in (RunState.ERRORED, RunState.CANCELLED)
            and run.change.revision.commit == commit
            and {v.dataset: v.fingerprint for v in run.change.datasets} == wanted
            for run in self._store.runs.listing(pipeline.name, branch=branch, limit=20)
        )

    def _data_moves(self, pipeline: Pipeline, pinned: Sequence[DatasetVersion]) -> list[DataMove]:
        known = self._store.detection.data_heads(pipeline.name)
        return [
            DataMove(version.dataset, known.get(version.dataset), version.fingerprint)
            for version in pinned
            if known.get(version.dataset) != version.fingerprint
        ]

    def _pushed(
        self, pipeline: Pipeline, source: SourceSpec, branch: str, old: str | None, new: str
    ) -> Run | None:
        pinned = self._pin(pipeline)
        if isinstance(pinned, Unsettled):
            return None
        try:
            revision = self._sources.fetch(source, new, branch)
        except RevisionGone:
            log.info(
                "%s: %s moved on while it was fetched; the next poll sees its new head", source.name, branch
            )
            return None
        rewritten = old is not None and not self._sources.is_ancestor(source, old, new)
        note = f"the history of {branch} was rewritten" if rewritten else ""
        moves = [HeadMove(source.name, branch, old, new)]
        return self._enqueue(pipeline, Cause.PUSH, revision, pinned, moves, note)

    def _enqueue(
        self,
        pipeline: Pipeline,
        cause: Cause,
        revision: Revision,
        pinned: Sequence[DatasetVersion],
        heads: Sequence[HeadMove],
        note: str = "",
    ) -> Run | None:
        data = self._data_moves(pipeline, pinned)
        if cause is Cause.DATA and not data:
            return None
        run = self._store.runs.enqueue(
            NewRun(
                pipeline, cause, revision, tuple(pinned), note=note, start_actions=start_actions(pipeline)
            ),
            [*heads, *data],
            pipeline.name,
            self._clock.now(),
        )
        if run is not None:
            log.info("%s enqueued: %s of %s at %s", run.title, cause.value, revision.branch, revision.short)
            if pipeline.cancel_in_progress:
                self._supersede(run)
        return run

    def _supersede(self, newer: Run) -> None:
        for run in self._store.runs.unfinished():
            if (
                run.id < newer.id
                and run.pipeline == newer.pipeline
                and run.purpose is Purpose.TRAIN
                and run.change.revision.branch == newer.change.revision.branch
            ):
                self._store.runs.request_cancel(run.id, newer.title, Reason.SUPERSEDED, self._clock.now())

    def _revision(self, source: SourceSpec, branch: str, commit: str) -> Revision:
        return self._sources.fetch(source, commit, branch)

    def _trained_branch(self, pipeline: Pipeline) -> tuple[SourceSpec, str, str] | None:
        """Where a data change trains: the first source's first deployed branch that was seen, else its main
        one.
        """
        for source in pipeline.sources:
            seen = self._store.detection.heads(pipeline.name, source.name)
            for branch in pipeline.deploy_branches:
                if branch in seen:
                    return source, branch, seen[branch]
            if seen:
                branch = _main_of(seen, self._sources.default_branch(source))
                return source, branch, seen[branch]
        return None

    def _default_branch(self, pipeline: Pipeline, source: SourceSpec) -> str:
        heads = self._sources.heads(source)
        watched = {b: c for b, c in heads.items() if source.watches(b)}
        if not watched:
            raise NotFound(
                f"{source.location} has no branch that {pipeline.name} watches"
                f" ({', '.join(source.branches)})",
                f"its branches are: {', '.join(sorted(heads)) or 'none'}",
            )
        for branch in pipeline.deploy_branches:
            if branch in watched:
                return branch
        return _main_of(watched, self._sources.default_branch(source))


def _main_of(heads: Mapping[str, str], default: str | None) -> str:
    for branch in (default, "main", "master"):
        if branch is not None and branch in heads:
            return branch
    return sorted(heads)[0]


def _ignore(_: ProgressEvent) -> None:
    return None
