"""Making runs: of what was seen or asked for, pinned, and with everything that they owe from the start."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.action import Trigger
from orchestrator.domain.change import Cause, PullRequest, Revision
from orchestrator.domain.errors import NotFound
from orchestrator.domain.looks import at_once
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.domain.run import Run
from orchestrator.domain.trigger import needs_approval
from orchestrator.ports.records import Move, NewAction, NewRun
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, SourceControl
from orchestrator.services.heads import branches_of, main_of
from orchestrator.services.pinning import Pinned

log = logging.getLogger(__name__)


def start_actions(pipeline: Pipeline) -> tuple[NewAction, ...]:
    """The actions that a run owes as soon as it is enqueued."""
    return tuple(
        NewAction(trigger, position, spec)
        for position, (trigger, spec) in enumerate(pipeline.actions)
        if trigger is Trigger.START
    )


@dataclass(frozen=True, slots=True)
class Declined:
    """What nothing runs for, and why: there is no use in trying again."""

    why: str


class Maker:
    """Enqueues runs. Thread-safe."""

    def __init__(self, store: Store, sources: SourceControl, clock: Clock) -> None:
        self._store = store
        self._sources = sources
        self._clock = clock

    def make(
        self,
        pipeline: Pipeline,
        source: SourceSpec,
        cause: Cause,
        revision: Revision,
        pinned: Pinned,
        moves: Sequence[Move],
        note: str = "",
        pull: PullRequest | None = None,
    ) -> Run | None:
        """A run because of what was seen, which ``moves`` record; None when somebody else was faster.

        Its data move along with it where the branch is the one that is trained when data change.
        """
        rules = source.pull_requests
        waits = pull is not None and needs_approval(pull, rules.trusted if rules else ())
        new = NewRun(
            pipeline,
            cause,
            revision,
            pinned.versions,
            note=note,
            start_actions=start_actions(pipeline),
            needs_approval=waits,
            # Where each commit is to have its run, the next one is no reason to end it.
            supersede=pipeline.cancel_in_progress and not source.every_commit,
        )
        # A run of another branch leaves the news of the data to the branch that is trained because of them.
        mine = cause is Cause.FIRST_SIGHT or self._is_trained(pipeline, source, revision.branch)
        data = pinned.moves if mine else ()
        if cause is Cause.DATA and all(move.old == move.new for move in data):
            return None
        run = self._store.runs.enqueue(new, [*moves, *data], pipeline.name, self._clock.now())
        if run is not None:
            log.info("%s enqueued: %s of %s at %s", run.title, cause.value, revision.branch, revision.short)
        return run

    def ask(self, new: NewRun) -> Run:
        """A run because somebody asked for it. Replicates that are asked for are trained at once."""
        if new.replicates is not None:
            new = replace(new, pipeline=at_once(new.pipeline))
        run = self._store.runs.enqueue(new, (), new.pipeline.name, self._clock.now())
        if run is None:
            raise NotFound(f"pipeline {new.pipeline.name}: the run could not be enqueued", "try again")
        return run

    def trained_branch(self, pipeline: Pipeline) -> tuple[SourceSpec, str, str] | None:
        """Where a data change trains: the first source's first deployed branch that was seen, else its main
        one.
        """
        for source in pipeline.sources:
            seen = branches_of(self._store.detection.heads(pipeline.name, source.name))
            for branch in pipeline.deploy_branches:
                if branch in seen:
                    return source, branch, seen[branch]
            if seen:
                branch = main_of(seen, self._sources.default_branch(source))
                return source, branch, seen[branch]
        return None

    def _is_trained(self, pipeline: Pipeline, source: SourceSpec, ref: str) -> bool:
        place = self.trained_branch(pipeline) if pipeline.datasets else None
        return place is not None and (place[0].name, place[1]) == (source.name, ref)

    def default_branch(self, pipeline: Pipeline, source: SourceSpec) -> str:
        """The branch that a run is of where nobody names one. NotFound when no branch is watched."""
        refs = self._sources.refs(source)
        branches = {b: c for b, c in refs.branches.items() if source.watches(b)}
        if not branches:
            raise NotFound(
                f"{source.location} has no branch that {pipeline.name} watches"
                f" ({', '.join(source.branches)})",
                f"its branches are: {', '.join(sorted(refs.branches)) or 'none'}",
            )
        for branch in pipeline.deploy_branches:
            if branch in branches:
                return branch
        return main_of(branches, refs.default)
