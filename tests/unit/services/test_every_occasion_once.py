"""Whatever is interleaved with whatever, and whoever is killed: each occasion makes one run."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.adapters.timetable import CronTimetable
from orchestrator.domain.change import Cause
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.pipeline import Schedule
from orchestrator.domain.run import Run, RunState
from orchestrator.services.detect import Detector
from orchestrator.services.occasions import OccasionServer, schedule_key
from tests.unit.services.test_occasions import end, upstream_run
from tests.unit.services.worlds import World, pipeline

PIPELINE = pipeline(schedules=(Schedule("0 * * * *"), Schedule("*/20 * * * *")), after=("prep",))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.sampled_from(["pass", "fail"]), st.integers(0, 3)),
        st.tuples(st.sampled_from(["times", "follow"]), st.integers(0, 1)),
        st.tuples(st.sampled_from(["kill before", "kill after"]), st.integers(0, 1)),
        st.tuples(st.just("wait"), st.sampled_from([60, 1200, 3600, 20_000])),
        st.tuples(st.just("repository"), st.integers(0, 1)),
    ),
    max_size=25,
)


class Killed(BaseException):
    """The process is gone."""


class Story:
    """Two servers on one database, and what happens to them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.going: list[Run] = []
        self.passed: list[Run] = []
        self.servers = [self.server(), self.server()]
        self.servers[0].serve_times(PIPELINE)
        self.servers[0].follow(PIPELINE)

    def server(self) -> OccasionServer:
        world = self.world
        detector = Detector(world.store, world.sources, world.data, world.clock)
        return OccasionServer(world.store, CronTimetable(), detector, world.clock)

    def step(self, what: str, which: int) -> None:
        match what:
            case "begin":
                self.going.append(upstream_run(self.world, RunState.QUEUED))
            case "pass" | "fail" if self.going:
                run = self.going.pop(which % len(self.going))
                end(self.world, run, RunState.PASSED if what == "pass" else RunState.FAILED)
                self.passed += [run] if what == "pass" else []
            case "times":
                self.quietly(lambda: self.servers[which].serve_times(PIPELINE))
            case "follow":
                self.quietly(lambda: self.servers[which].follow(PIPELINE))
            case "kill before" | "kill after":
                self.kill(which, after=what == "kill after")
            case "wait":
                self.world.clock.advance(which)
            case "repository":
                self.world.sources.down = bool(which)

    def quietly(self, look: Callable[[], object]) -> None:
        try:
            look()
        except OrchestratorError:
            assert self.world.sources.down

    def kill(self, which: int, after: bool) -> None:
        """End a server right before or right after its next run is written down, and start another."""
        enqueue = self.world.store.runs.enqueue

        def killed(*args: object, **options: object) -> None:
            if after:
                enqueue(*args, **options)  # type: ignore[arg-type]
            raise Killed

        with patch.object(self.world.store.runs, "enqueue", killed):
            for look in (self.servers[which].serve_times, self.servers[which].follow):
                try:
                    self.quietly(lambda look=look: look(PIPELINE))  # type: ignore[misc]
                except Killed:
                    break
        self.servers[which] = self.server()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_each_time_and_each_upstream_run_makes_one_run(template: Path, steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder:
        shutil.copy(template, Path(folder) / "db.sqlite")
        world = World(Path(folder))
        try:
            story = Story(world)
            for what, which in steps:
                story.step(what, which)
            world.sources.down = False
            for server in (*story.servers, story.server()):
                server.serve_times(PIPELINE)
                server.follow(PIPELINE)
            runs = world.store.runs.listing("wine", limit=1000)
            followed = Counter(run.change.note for run in runs if run.change.cause is Cause.UPSTREAM)
            assert followed == Counter(f"after prep#{run.number} passed" for run in story.passed)
            now = world.clock.now()
            for schedule in PIPELINE.schedules:
                last = world.store.occasions.served("wine")[schedule_key(schedule)]
                assert next(CronTimetable().times(schedule, last)) > now, "nothing is left to serve"
            keys = [run.change.note for run in runs if run.change.cause is Cause.SCHEDULE]
            assert all(count <= len(PIPELINE.schedules) for count in Counter(keys).values())
        finally:
            world.close()
