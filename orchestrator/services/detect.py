"""Detecting: every change of code or data, once.

What was seen moves forward in the same transaction that enqueues the run, guarded by what was seen before, so
that one observation makes one run whoever makes it. A push waits while a dataset is still being written: a
run is pinned to a commit and to dataset versions, and both must exist.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeAlias

from orchestrator.domain.change import Cause, DatasetVersion, PullRequest, Refs, Revision
from orchestrator.domain.errors import DatasetError, InvalidInput, NotFound, RevisionGone, SourceError
from orchestrator.domain.pipeline import DatasetSpec, Pipeline, SourceSpec
from orchestrator.domain.run import Purpose, Run, RunState
from orchestrator.domain.trigger import cause_of, pipeline_for, untrusted
from orchestrator.ports.records import HeadMove, Move, NewRun, Told
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, DatasetSource, SourceControl
from orchestrator.services.heads import (
    Bursts,
    Doubts,
    Head,
    Seen,
    adopted,
    branches_of,
    gone,
    main_of,
    nothing_new,
    told_adopted,
    told_gone,
    watched,
)
from orchestrator.services.making import Declined, Maker, start_actions
from orchestrator.services.moves import Moves, Step
from orchestrator.services.named import Names
from orchestrator.services.pinning import Pinned, Pins, Unsettled
from orchestrator.services.unwatched import Unwatched

log = logging.getLogger(__name__)

Define: TypeAlias = Callable[[Pipeline, Revision], Pipeline | str]
"""What a pipeline is at a commit, or why there is none there."""

WATCHER: Final = "watcher"
"""Who tells what was decided of what was seen."""
_SOON = 1.0
_ASKED_FOR = frozenset({Cause.MANUAL, Cause.RERUN, Cause.TRIGGER})


class Detector:
    """Watches sources and datasets. Thread-safe.

    ``define`` says what a pipeline is at the commit that is to be run: with a file of the repository's own it
    depends on that.
    """

    def __init__(
        self,
        store: Store,
        sources: SourceControl,
        datasets: DatasetSource,
        clock: Clock,
        define: Define = lambda pipeline, revision: pipeline,
    ) -> None:
        self._define = define
        self._store = store
        self._sources = sources
        self._pins = Pins(store, datasets, clock)
        self._maker = Maker(store, sources, clock)
        self._names = Names(store, sources, self._maker)
        self._moves = Moves(sources)
        self._bursts = Bursts()
        self._doubts = Doubts()
        self._unwatched = Unwatched()
        self._clock = clock
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._again: dict[str, float] = {}
        self._held: dict[str, str] = {}
        """Why pushes wait for data that cannot be looked at, by pipeline."""

    def poll_source(
        self,
        pipeline: Pipeline,
        source: SourceSpec,
        refs: Refs | None = None,
    ) -> list[Run]:
        """Look at a source's refs and enqueue a run for each that moved and counts.

        The first sight of a repository makes one run, of its default branch if that is watched. ``refs`` is
        what somebody saw a moment ago: where it shows nothing new, nobody is asked again. What
        has to wait for data is seen again by the next poll. Raises SourceError when it could not be found
        out; nothing is lost then.
        """
        name = _name(pipeline, source)
        with self._locks[name]:
            self._again.pop(name, None)
            # What was seen is read before the look: else what another server sees meanwhile would seem to
            # have gone back to what is looked at here.
            seen = Seen(source.name, self._store.detection.head_counts(pipeline.name, source.name))
            if refs is not None:
                self._tell_unwatched(name, source, refs)
            if refs is not None and nothing_new(source, seen.commits, refs):
                self._bursts.keep(pipeline.name, source, ())
                return []
            look = self._sources.refs(source)
            self._doubts.look(name, source, seen, look)
            self._tell_unwatched(name, source, look)
            heads = watched(source, look)
            if moves := adopted(source, seen.commits, heads):
                self._record(pipeline, source, seen.counted(moves), told_adopted(moves))
                seen.follow(moves)
            runs: list[Run] = []
            branches_seen = branches_of(seen.commits)
            if not branches_seen:
                runs += self._first_sight(pipeline, source, heads, look.default, seen)
            moved = [
                head
                for ref, head in sorted(heads.items())
                if head.commit != seen.commits.get(ref) and (branches_seen or not head.is_branch)
            ]
            runs += self._all_moved(pipeline, source, look, moved, seen)
            if left := gone(source, seen.commits, heads):
                lines = [told_gone(move.branch, look) for move in left]
                self._record(pipeline, source, seen.counted(left), lines)
            return runs

    def again(self, pipeline: Pipeline, source: SourceSpec) -> float | None:
        """In how many seconds what the last poll left waiting may be ripe; None: nothing waits."""
        return self._again.get(_name(pipeline, source))

    def scan_dataset(self, pipeline: Pipeline, dataset: DatasetSpec) -> list[Run]:
        """Look at a dataset and enqueue a run when it became a new version. Raises DatasetError."""
        runs = self._scan(pipeline, dataset)
        # Only now: whoever waits for a version or a run need not wait for that.
        self._pins.look_into(dataset)
        return runs

    def _scan(self, pipeline: Pipeline, dataset: DatasetSpec) -> list[Run]:
        version = self.refresh(dataset)
        if isinstance(version, Unsettled):
            return []
        known = self._store.detection.data_heads(pipeline.name)
        if dataset.name not in known or known[dataset.name] == version.fingerprint:
            # A pipeline that has not made its first run pins its data with that run.
            return []
        place = self._maker.trained_branch(pipeline)
        if place is None:
            return []
        source, branch, commit = place
        revision = self._sources.fetch(source, commit, branch)
        defined = self._define(pipeline, revision)
        pinned = Unsettled(dataset.name) if isinstance(defined, str) else self._pins.now(defined)
        if isinstance(defined, str) or isinstance(pinned, Unsettled):
            return []
        here = HeadMove(source.name, branch, commit, commit)
        if self._was_run(pipeline, revision, pinned.versions, 1):
            # Somebody ran these data by hand before they were seen: once more tells nothing new. Data that
            # come back after others have their newest run of those.
            told = f"{branch}: no run of the data that are new: a run of them was asked for already"
            self._record(pipeline, source, [here, *pinned.moves], [told])
            return []
        run = self._maker.make(defined, source, Cause.DATA, revision, pinned, [here])
        return [run] if run else []

    def refresh(self, dataset: DatasetSpec) -> DatasetVersion | Unsettled:
        """The dataset's version now; a new one is stored once nothing has changed for the settle time."""
        return self._pins.refresh(dataset)

    def look_into(self, dataset: DatasetSpec) -> None:
        """Find out what the tables of a dataset's newest version look like."""
        self._pins.look_into(dataset)

    def run_now(
        self,
        pipeline: Pipeline,
        ref: str | None,
        who: str,
        host: str | None = None,
        replicates: int | None = None,
        rerun_of: Run | None = None,
        priority: int | None = None,
        cause: Cause | None = None,
        note: str = "",
    ) -> Run:
        """Enqueue a run because a person or a program wants one, of a ref or of the branch that is deployed.

        Raises SourceError, DatasetError, NotFound when there is no such ref, or InvalidInput when a program
        asks for what strangers may have written.
        """
        if rerun_of is not None:
            named = self._names.of_run(pipeline, rerun_of)
        else:
            named = self._names.of_ref(pipeline, ref)
        revision = named.revision
        if named.strangers and cause is Cause.TRIGGER:
            raise InvalidInput(
                f"no branch and no watched tag of {named.source.name} has {revision.short}",
                "a program may ask for a branch, a tag, or a commit on one",
            )
        defined = self._define(pipeline, named.defined_by)
        if isinstance(defined, str):
            raise NotFound(f"{pipeline.name} does not run {revision.short}: {defined}", "name another ref")
        pipeline = untrusted(defined) if named.strangers else pipeline_for(defined, revision.pull)
        run = self._maker.ask(
            NewRun(
                pipeline,
                cause or (Cause.RERUN if rerun_of else Cause.MANUAL),
                revision,
                # Who asks wants a run of what is there; waiting for the settle time would be a surprise.
                self._pins.anyhow(pipeline),
                rerun_of=rerun_of.id if rerun_of else None,
                note="; ".join(each for each in (note, named.note) if each),
                requested_by=who,
                host_wish=host,
                priority=priority,
                replicates=replicates,
                start_actions=start_actions(pipeline),
                rank=named.rank,
            )
        )
        for dataset in pipeline.datasets if cause is None else ():
            # Where a person asks there may be no server that would do it. A program need not wait for it.
            self._pins.look_into(dataset)
        return run

    def run_pull(
        self,
        pipeline: Pipeline,
        source: SourceSpec,
        pull: PullRequest,
        who: str,
        note: str = "",
        moves: Sequence[Move] = (),
    ) -> Run | None:
        """Enqueue a run of a pull request because somebody who may approve it wants one.

        A run of it that waits for approval ends with that. None when somebody else was faster with what
        ``moves`` record. Raises SourceError or DatasetError.
        """
        asked = replace(source, strangers=pull.fork)
        revision = replace(self._sources.fetch(asked, pull.commit, pull.ref), pull=pull)
        pipeline = pipeline_for(pipeline, pull)
        new = NewRun(
            pipeline,
            Cause.MANUAL,
            revision,
            self._pins.anyhow(pipeline),
            note=note,
            requested_by=who,
            start_actions=start_actions(pipeline),
        )
        return self._store.runs.enqueue(new, moves, pipeline.name, self._clock.now())

    def run_due(
        self, pipeline: Pipeline, cause: Cause, moves: Sequence[Move], note: str, ref: str | None = None
    ) -> Run | Declined | None:
        """Enqueue a run because an occasion has come, which ``moves`` record: of a ref, or of the branch that
        is deployed.

        Declined when there is no such pipeline at that commit: the occasion passes without a run. None when a
        dataset is being written, so that the occasion has to wait, and when somebody else was faster. Raises
        SourceError or DatasetError.
        """
        source = pipeline.sources[0]
        revision = self._sources.resolve(source, ref or self._maker.default_branch(pipeline, source))
        defined = self._define(pipeline, revision)
        if isinstance(defined, str):
            told = f"{revision.branch}: no run of {revision.short} ({cause.value}): {defined}"
            self._record(pipeline, source, moves, [told])
            return Declined(defined)
        pinned = self._pins.now(defined)
        if isinstance(pinned, Unsettled):
            return None
        return self._maker.make(defined, source, cause, revision, pinned, moves, note)

    def _first_sight(
        self,
        pipeline: Pipeline,
        source: SourceSpec,
        heads: Mapping[str, Head],
        default: str | None,
        seen: Seen,
    ) -> list[Run]:
        branches = {ref: head for ref, head in heads.items() if head.is_branch}
        if not branches:
            return []
        main = main_of(branches, default)
        moves: list[Move] = [seen.move(b, branches[b].commit) for b in sorted(branches)]
        why_not = ""
        # Where the main branch has no such pipeline, the push was to another one that brings it.
        for branch in sorted(branches, key=lambda each: (each != main, each)):
            revision = self._sources.fetch(source, branches[branch].commit, branch)
            defined = self._define(pipeline, revision)
            if not isinstance(defined, str):
                break
            why_not = why_not or f"{branch}: no run of {revision.short}: {defined}"
        else:
            self._record(pipeline, source, moves, [why_not])
            return []
        pinned = self._pinned(defined)
        if isinstance(pinned, Unsettled):
            self._wait(pipeline, source, _for_data(source, pinned))
            return []
        if defined.after:
            # Its run comes with the first one that it follows: one before tells nothing of that.
            told = f"{branch}: no run at first sight: it runs after {' and '.join(defined.after)}"
            self._record(pipeline, source, [*moves, *pinned.moves], [told])
            return []
        if self._was_run(pipeline, revision, pinned.versions):
            # Somebody tried the pipeline by hand before it was watched: once more tells nothing new.
            self._record(pipeline, source, [*moves, *pinned.moves], [])
            return []
        run = self._maker.make(defined, source, Cause.FIRST_SIGHT, revision, pinned, moves)
        return [run] if run else []

    def _pinned(self, pipeline: Pipeline) -> Pinned | Unsettled:
        """The data for a run of what was pushed, which waits for them also where they cannot be looked at.

        That is the trouble of the dataset, whose own looks tell it: nothing is wrong with the repository.
        """
        try:
            pinned = self._pins.now(pipeline)
        except DatasetError as error:
            if self._held.get(pipeline.name) != str(error):
                self._held[pipeline.name] = str(error)
                log.info("%s: what was pushed waits for its data: %s", pipeline.name, error)
            return Unsettled("")
        self._held.pop(pipeline.name, None)
        return pinned

    def _was_run(
        self, pipeline: Pipeline, revision: Revision, pinned: Sequence[DatasetVersion], newest: int = 20
    ) -> bool:
        wanted = {version.dataset: version.fingerprint for version in pinned}
        place = (revision.source, revision.commit)
        return any(
            run.purpose is Purpose.TRAIN
            and run.state not in (RunState.ERRORED, RunState.CANCELLED)
            and (run.change.revision.source, run.change.revision.commit) == place
            and {v.dataset: v.fingerprint for v in run.change.datasets} == wanted
            for run in self._store.runs.listing(pipeline.name, branch=revision.branch, limit=newest)
        )

    def _all_moved(
        self,
        pipeline: Pipeline,
        source: SourceSpec,
        refs: Refs,
        heads: Sequence[Head],
        seen: Seen,
    ) -> list[Run]:
        """What becomes of the heads that moved, each apart: what one of them lacks keeps up no other."""
        runs: list[Run] = []
        waiting: set[str] = set()
        trouble: SourceError | None = None
        for head in heads:
            wait = self._bursts.wait(pipeline.name, source, head, self._clock.monotonic())
            wait = wait or self._too_soon(pipeline, source, head)
            try:
                if wait > 0 or (wait := self._moved(pipeline, source, refs, head, seen, runs)) > 0:
                    waiting.add(head.ref)
                    self._wait(pipeline, source, wait)
            except RevisionGone:
                log.info("%s: %s moved on while it was fetched", _name(pipeline, source), head.ref)
            except SourceError as error:
                waiting.add(head.ref)
                trouble = trouble or error
        self._bursts.keep(pipeline.name, source, waiting)
        if trouble is not None:
            raise trouble
        return runs

    def _moved(
        self,
        pipeline: Pipeline,
        source: SourceSpec,
        refs: Refs,
        head: Head,
        seen: Seen,
        runs: list[Run],
    ) -> float:
        """Take the steps of a head, and add the runs that come of them; seconds to wait before the rest."""
        for step in self._moves.steps(source, refs, head, seen.commits.get(head.ref)):
            move = seen.move(head.ref, step.commit)
            made = self._defined(pipeline, step, head)
            if isinstance(made, str):
                self._record(pipeline, source, [move], [f"{head.ref}: no run: {made}"])
            else:
                of, revision = made
                pinned = self._pinned(of)
                if isinstance(pinned, Unsettled):
                    return _for_data(source, pinned)
                run = self._maker.make(
                    of, source, cause_of(head.ref), revision, pinned, [move], step.note, pull=head.pull
                )
                if run is None:
                    # Another server was faster, or something else moved meanwhile.
                    return _SOON
                runs.append(run)
            seen.follow([move])
        return 0.0

    def _defined(self, pipeline: Pipeline, step: Step, head: Head) -> tuple[Pipeline, Revision] | str:
        """The pipeline and the revision that a step runs, or why it runs none."""
        if step.revision is None:
            return step.why_not
        revision = replace(step.revision, pull=head.pull) if head.pull is not None else step.revision
        defined = self._define(pipeline, revision)
        return defined if isinstance(defined, str) else (pipeline_for(defined, head.pull), revision)

    def _too_soon(self, pipeline: Pipeline, source: SourceSpec, head: Head) -> float:
        """Seconds until a branch may have its next run."""
        if source.min_interval <= 0:
            return 0.0
        for run in self._store.runs.listing(pipeline.name, branch=head.ref, limit=20):
            mine = run.purpose is Purpose.TRAIN and run.change.revision.source == source.name
            if mine and run.change.cause not in _ASKED_FOR:
                next_one = run.created_at + timedelta(seconds=source.min_interval)
                return max((next_one - self._clock.now()).total_seconds(), 0.0)
        return 0.0

    def _tell_unwatched(self, name: str, source: SourceSpec, refs: Refs) -> None:
        if told := self._unwatched.look(name, source, refs, self._clock.monotonic()):
            subject = f"source {name}"
            self._store.journal.note(WATCHER, subject, told, self._clock.now())
            log.info("%s: %s", subject, told)

    def _wait(self, pipeline: Pipeline, source: SourceSpec, seconds: float) -> None:
        name = _name(pipeline, source)
        self._again[name] = min(seconds, self._again.get(name, seconds))

    def _record(
        self, pipeline: Pipeline, source: SourceSpec, moves: Sequence[Move], lines: Sequence[str]
    ) -> None:
        """Let heads move without a run, and tell why."""
        subject = f"source {_name(pipeline, source)}"
        told = [Told(subject, line) for line in lines]
        if moves:
            self._store.runs.enqueue(None, moves, pipeline.name, self._clock.now(), told)
        for line in lines:
            log.info("%s: %s", subject, line)


def _for_data(source: SourceSpec, waiting: Unsettled) -> float:
    # Data may be written for hours, in which their repository need not be asked much more often than usual.
    return max(waiting.again, source.poll / 4)


def _name(pipeline: Pipeline, source: SourceSpec) -> str:
    return f"{pipeline.name}/{source.name}"
