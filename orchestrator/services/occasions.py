"""Runs that no change asks for: at the times of a schedule, and after another pipeline has passed.

An occasion is written down as served in the transaction that enqueues its run, so that it makes one run
whoever sees it, and none is lost while nobody looks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final, Protocol

from orchestrator.domain.change import Cause
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.gate import OnInconclusive
from orchestrator.domain.pipeline import Pipeline, Schedule
from orchestrator.domain.run import Purpose, Run, RunState
from orchestrator.domain.schedule import due
from orchestrator.domain.trigger import may_be_strangers
from orchestrator.ports.records import Move, ScheduleMove, UpstreamMove, UpstreamRun
from orchestrator.ports.store import Store
from orchestrator.ports.timetable import Timetable
from orchestrator.ports.world import Clock
from orchestrator.services.making import Declined
from orchestrator.services.watches import HERE, Sight, Watch, server_of

log = logging.getLogger(__name__)

LONGEST_SLEEP: Final = 60.0
"""Seconds after which a schedule is looked at all the same: clocks are set, and machines suspended."""
FOLLOW: Final = 5.0
"""Seconds between two looks at the runs of upstream pipelines."""
RETRY: Final = 10.0
"""Seconds until a time that could not be served is tried again for the first time."""
UNSETTLED: Final = 5.0
"""Seconds until another look when data were being written."""


DECIDED_WITHIN: Final = 100
"""A run that a person may still decide is waited for until so many came after it."""


class Starter(Protocol):
    """Enqueues runs of a pipeline's main branch, pinned to the data as they are."""

    def run_due(
        self, pipeline: Pipeline, cause: Cause, moves: Sequence[Move], note: str
    ) -> Run | Declined | None:
        """The run; Declined when there will be none; None when its data are being written, or somebody else
        served these moves.

        Raises SourceError or DatasetError when it could not be found out what to run.
        """


class OccasionServer:
    """Serves schedules and upstream runs. Thread-safe."""

    def __init__(self, store: Store, timetable: Timetable, starter: Starter, clock: Clock) -> None:
        self._store = store
        self._timetable = timetable
        self._starter = starter
        self._clock = clock
        self._followed_at: dict[str, int] = {}

    def watches_of(self, pipeline: Pipeline) -> list[Watch]:
        """The looks at the occasions of a pipeline."""
        server = server_of(pipeline.sources[0].location) if pipeline.sources else HERE
        found = []
        if pipeline.schedules:
            name = schedule_watch(pipeline.name)
            look = partial(self.serve_times, pipeline)
            times = Watch(name, look, LONGEST_SLEEP, server, pipeline.name, retry=RETRY, occasion=True)
            found.append(times)
        if pipeline.after:
            look = partial(self.follow, pipeline)
            name = upstream_watch(pipeline.name)
            found.append(Watch(name, look, FOLLOW, server, pipeline.name, occasion=True))
        return found

    def serve_times(self, pipeline: Pipeline) -> Sight:
        """Enqueue a run for each schedule of which a time has come."""
        known = self._store.occasions.served(pipeline.name)
        found, waits = False, [LONGEST_SLEEP]
        for schedule in pipeline.schedules:
            now = self._clock.now()
            key = schedule_key(schedule)
            if key not in known:
                self._store.occasions.begin(pipeline.name, key, now)
            served = known.get(key, now)
            times = partial(self._timetable.times, schedule)
            if (time := due(times, served, now)) is not None:
                move = ScheduleMove(key, served, time.at)
                started = self._start(pipeline, Cause.SCHEDULE, move, time.note)
                if started is None:
                    waits.append(UNSETTLED)
                    continue
                found = found or isinstance(started, Run)
            if (upcoming := next(iter(times(now)), None)) is not None:
                waits.append((upcoming - now).total_seconds())
        return Sight(found, min(waits))

    def words(self, pipeline: Pipeline) -> list[str]:
        """Its schedules for people, such as ``At 03:00 on Monday``."""
        return [self._timetable.words(schedule) for schedule in pipeline.schedules]

    def next_time(self, pipeline: Pipeline) -> datetime | None:
        """When a schedule of it comes next; None: never."""
        now = self._clock.now()
        times = (next(iter(self._timetable.times(s, now)), None) for s in pipeline.schedules)
        return min((time for time in times if time is not None), default=None)

    def follow(self, pipeline: Pipeline) -> Sight:
        """Enqueue a run for each run of an upstream pipeline that has passed."""
        head = self._store.journal.head()
        if self._followed_at.get(pipeline.name) == head:
            # No run has come to another state since the last look.
            return Sight()
        found, left = False, False
        for upstream in pipeline.after:
            mark = self._store.occasions.mark(pipeline.name, upstream)
            runs = self._store.occasions.runs_above(upstream, mark)
            if not runs:
                continue
            followed = self._store.occasions.followed(pipeline.name, upstream, mark)
            dealt_with, contiguous = mark, True
            for place, run in enumerate(runs, 1):
                late = len(runs) - place >= DECIDED_WITHIN
                done = run.id in followed or not self._may_count(run, late=late)
                if not done and run.state is RunState.PASSED:
                    move = UpstreamMove(upstream, run.id)
                    note = f"after {upstream}#{run.number} passed"
                    started = self._start(pipeline, Cause.UPSTREAM, move, note)
                    done = started is not None
                    found, left = found or isinstance(started, Run), left or not done
                contiguous = contiguous and done
                dealt_with = run.id if contiguous else dealt_with
            if dealt_with > mark:
                self._store.occasions.move_mark(pipeline.name, upstream, dealt_with)
        if not left:
            self._followed_at[pipeline.name] = head
        return Sight(found)

    def _may_count(self, run: UpstreamRun, *, late: bool) -> bool:
        """Whether a run has passed or may yet, be it by a person's decision, for which it is ``late`` now;
        and is of what may be deployed and be a baseline.

        What follows is of the main branch, which concerns neither pull requests nor branches and tags that
        somebody only tries something on.
        """
        if run.purpose is not Purpose.TRAIN or may_be_strangers(run.branch):
            return False
        open_to_people = run.state is RunState.INCONCLUSIVE and not late
        if run.state is not RunState.PASSED and not open_to_people:
            return not run.state.final
        definition = self._store.runs.definition(run.id)
        if open_to_people and definition.gate.on_inconclusive is not OnInconclusive.MANUAL:
            return False
        return why_not_trusted(self._store.runs.get(run.id), definition) is None

    def _start(self, pipeline: Pipeline, cause: Cause, move: Move, note: str) -> Run | Declined | None:
        started = self._starter.run_due(pipeline, cause, (move,), note)
        if isinstance(started, Run):
            log.info("%s: %s", started.title, note)
        return started


def schedule_key(schedule: Schedule) -> str:
    """What a schedule is called in the database: another zone makes another schedule."""
    return f"{schedule.cron} {schedule.zone}"


def schedule_watch(pipeline: str) -> str:
    """What the looks at a pipeline's schedules are called."""
    return f"schedule {pipeline}"


def upstream_watch(pipeline: str) -> str:
    """What the looks at a pipeline's upstream runs are called."""
    return f"after {pipeline}"
