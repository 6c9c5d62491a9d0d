"""Runs at the times of a schedule, and after other pipelines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.adapters.timetable import CronTimetable
from orchestrator.domain.change import PULLS, Cause, Revision
from orchestrator.domain.check import parse_check
from orchestrator.domain.errors import SourceUnavailable
from orchestrator.domain.gate import Gate, OnInconclusive, Outcome, Verdict
from orchestrator.domain.pipeline import DatasetSpec, Pipeline, Schedule
from orchestrator.domain.run import Purpose, Reason, Run, RunState
from orchestrator.ports.records import NewRun, UpstreamMove
from orchestrator.services import occasions
from orchestrator.services.approve import Approver
from orchestrator.services.detect import Detector
from orchestrator.services.occasions import LONGEST_SLEEP, OccasionServer
from tests.unit.services.worlds import World, commit_id, pipeline

HOURLY = pipeline(schedules=(Schedule("0 * * * *"),))
"""Due first an hour after the world begins."""


def server_of(world: World) -> OccasionServer:
    detector = Detector(world.store, world.sources, world.data, world.clock)
    return OccasionServer(world.store, CronTimetable(), detector, world.clock)


def runs(world: World, name: str = "wine") -> list[Run]:
    return list(reversed(world.store.runs.listing(name)))


def upstream_run(
    world: World,
    state: RunState = RunState.PASSED,
    branch: str = "main",
    purpose: Purpose = Purpose.TRAIN,
    name: str = "prep",
    deploys: tuple[str, ...] = ("main",),
) -> Run:
    """A run of another pipeline, which ended so."""
    revision = world.sources.fetch(pipeline().sources[0], commit_id("first"), branch)
    new = NewRun(pipeline(name=name, deploy_branches=deploys), Cause.MANUAL, revision, (), purpose)
    run = world.store.runs.enqueue(new, (), name, world.clock.now())
    assert run is not None
    return end(world, run, state) if state is not RunState.QUEUED else run


def end(world: World, run: Run, state: RunState) -> Run:
    now, store = world.clock.now(), world.store
    attempt = store.attempts.of_run(run.id)[0]
    assert store.attempts.claim(attempt.id, "local", 99, f"c{attempt.id}", "me", now, 30.0) is not None
    if state is RunState.PASSED:
        store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, now)
        return store.runs.move(run.id, RunState.EVALUATING, state, now)
    return store.runs.move(run.id, RunState.RUNNING, state, now, reason=Reason.EXIT_CODE)


def test_a_schedule_that_is_new_makes_no_run_for_the_past(world: World) -> None:
    sight = server_of(world).serve_times(HOURLY)
    assert (sight.found, sight.again) == (False, LONGEST_SLEEP)
    assert runs(world) == []


def test_a_time_makes_one_run_of_the_main_branch_with_its_cause(world: World) -> None:
    server = server_of(world)
    server.serve_times(HOURLY)
    world.clock.advance(3600)
    assert server.serve_times(HOURLY).found
    assert not server.serve_times(HOURLY).found
    (run,) = runs(world)
    assert (run.change.cause, run.change.revision.branch) == (Cause.SCHEDULE, "main")
    assert run.change.note == "due at 2026-01-01 01:00 UTC by its schedule"


def test_two_servers_make_one_run_of_a_time(world: World) -> None:
    one, other = server_of(world), server_of(world)
    one.serve_times(HOURLY)
    other.serve_times(HOURLY)
    world.clock.advance(3600)
    assert [one.serve_times(HOURLY).found, other.serve_times(HOURLY).found] == [True, False]
    assert len(runs(world)) == 1


def test_times_that_passed_while_no_server_was_up_make_one_run(world: World) -> None:
    server_of(world).serve_times(HOURLY)
    world.clock.advance(5 * 3600 + 60)
    later = server_of(world)
    assert later.serve_times(HOURLY).found
    assert not later.serve_times(HOURLY).found
    (run,) = runs(world)
    assert run.change.note.endswith("it stands also for 4 before that nobody served")


def test_a_schedule_is_looked_at_again_right_when_it_comes(world: World) -> None:
    server = server_of(world)
    server.serve_times(HOURLY)
    world.clock.advance(3600 - 12.5)
    assert server.serve_times(HOURLY).again == 12.5
    assert server.next_time(HOURLY) == datetime(2026, 1, 1, 1, tzinfo=UTC)


def test_a_time_is_not_lost_while_the_repository_does_not_answer(world: World) -> None:
    server = server_of(world)
    server.serve_times(HOURLY)
    world.clock.advance(3600)
    world.sources.down = True
    with pytest.raises(SourceUnavailable):
        server.serve_times(HOURLY)
    world.sources.down = False
    assert server.serve_times(HOURLY).found


def test_a_time_waits_for_data_that_are_being_written(world: World) -> None:
    data = DatasetSpec("grapes", "/data", settle=10.0)
    made_of = pipeline(schedules=HOURLY.schedules, datasets=(data,))
    server = server_of(world)
    server.serve_times(made_of)
    world.clock.advance(3600)
    world.data.write("a.csv", b"1")
    sight = server.serve_times(made_of)
    assert (sight.found, runs(world)) == (False, [])
    assert sight.again is not None
    world.clock.advance(11)
    assert server.serve_times(made_of).found


def test_two_schedules_of_a_pipeline_are_served_apart(world: World) -> None:
    made_of = pipeline(schedules=(Schedule("0 * * * *"), Schedule("30 * * * *")))
    server = server_of(world)
    server.serve_times(made_of)
    for expected in (0, 1, 2):
        server.serve_times(made_of)
        assert len(runs(world)) == expected
        world.clock.advance(1800)


def test_a_server_that_was_killed_before_it_wrote_leaves_the_time_to_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_of(world).serve_times(HOURLY)
    world.clock.advance(3600)

    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.store.runs, "enqueue", killed)
        with pytest.raises(KeyboardInterrupt):
            server_of(world).serve_times(HOURLY)
    assert server_of(world).serve_times(HOURLY).found
    assert len(runs(world)) == 1


FOLLOWS = pipeline(after=("prep",))


def test_a_run_follows_each_run_of_the_other_pipeline_that_passed(world: World) -> None:
    server = server_of(world)
    server.follow(FOLLOWS)
    upstream_run(world)
    upstream_run(world, RunState.FAILED)
    upstream_run(world)
    assert server.follow(FOLLOWS).found
    assert not server.follow(FOLLOWS).found
    assert [(run.change.cause, run.change.note) for run in runs(world)] == [
        (Cause.UPSTREAM, "after prep#1 passed"),
        (Cause.UPSTREAM, "after prep#3 passed"),
    ]


def undecided(world: World, says: OnInconclusive) -> Run:
    gate = Gate((parse_check("accuracy >= 0"),), says)
    revision = world.sources.fetch(pipeline().sources[0], commit_id("first"), "main")
    new = NewRun(pipeline(name="prep", gate=gate), Cause.MANUAL, revision, ())
    run = world.store.runs.enqueue(new, (), "prep", world.clock.now())
    assert run is not None
    now, store = world.clock.now(), world.store
    attempt = store.attempts.of_run(run.id)[0]
    assert store.attempts.claim(attempt.id, "local", 99, f"c{attempt.id}", "me", now, 30.0) is not None
    store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, now)
    verdict = Verdict(Outcome.INCONCLUSIVE, "open")
    return store.runs.move(run.id, RunState.EVALUATING, RunState.INCONCLUSIVE, now, verdict=verdict)


def test_a_run_that_a_person_lets_pass_is_followed_then(world: World) -> None:
    server = server_of(world)
    server.follow(FOLLOWS)
    run = undecided(world, OnInconclusive.MANUAL)
    upstream_run(world)
    assert server.follow(FOLLOWS).found
    assert not server.follow(FOLLOWS).found
    Approver(world.store, world.clock).decide(run, True, "ana", "good enough")
    # Another server, which remembers nothing.
    assert server_of(world).follow(FOLLOWS).found
    assert not server.follow(FOLLOWS).found
    assert [run.change.note for run in runs(world)] == ["after prep#2 passed", "after prep#1 passed"]


def test_a_run_that_a_person_lets_fail_or_cannot_decide_is_not_waited_for(world: World) -> None:
    server = server_of(world)
    server.follow(FOLLOWS)
    run = undecided(world, OnInconclusive.MANUAL)
    held = undecided(world, OnInconclusive.HOLD)
    assert not server.follow(FOLLOWS).found
    assert world.store.occasions.mark("wine", "prep") < run.id
    Approver(world.store, world.clock).decide(run, False, "ana", "no")
    assert not server.follow(FOLLOWS).found
    assert world.store.occasions.mark("wine", "prep") == held.id


def test_a_decision_is_not_waited_for_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occasions, "DECIDED_WITHIN", 2)
    server = server_of(world)
    server.follow(FOLLOWS)
    undecided(world, OnInconclusive.MANUAL)
    for _ in range(2):
        last = upstream_run(world, RunState.FAILED)
    assert not server.follow(FOLLOWS).found
    assert world.store.occasions.mark("wine", "prep") == last.id


def test_runs_that_passed_before_are_not_followed(world: World) -> None:
    upstream_run(world)
    assert not server_of(world).follow(FOLLOWS).found
    assert runs(world) == []


def test_runs_that_pass_in_another_order_than_they_began_are_all_followed_once(world: World) -> None:
    server = server_of(world)
    server.follow(FOLLOWS)
    slow = upstream_run(world, RunState.QUEUED)
    upstream_run(world)
    assert server.follow(FOLLOWS).found
    end(world, slow, RunState.PASSED)
    assert server_of(world).follow(FOLLOWS).found
    assert not server_of(world).follow(FOLLOWS).found
    assert [run.change.note for run in runs(world)] == ["after prep#2 passed", "after prep#1 passed"]


def test_what_is_declined_while_an_earlier_run_goes_on_is_told_once(world: World) -> None:
    def gone(pipeline: Pipeline, revision: Revision) -> str:
        return "no such pipeline there"

    detector = Detector(world.store, world.sources, world.data, world.clock, gone)
    server = OccasionServer(world.store, CronTimetable(), detector, world.clock)
    server.follow(FOLLOWS)
    slow = upstream_run(world, RunState.QUEUED)
    upstream_run(world)
    for _ in range(3):
        # Another process knows no more than the database does.
        assert not server.follow(FOLLOWS).found
        server = OccasionServer(world.store, CronTimetable(), detector, world.clock)
    told = [entry.reason for entry in world.store.journal.latest() if "no such pipeline" in entry.reason]
    assert len(told) == 1
    end(world, slow, RunState.FAILED)
    server.follow(FOLLOWS)
    occasions = world.store.occasions
    assert occasions.runs_above("prep", occasions.mark("wine", "prep")) == []
    assert occasions.followed("wine", "prep", 0) == frozenset(), "what is below the mark needs no row"


def test_an_upstream_run_below_the_mark_is_not_followed_by_one_who_comes_late(world: World) -> None:
    server = server_of(world)
    server.follow(FOLLOWS)
    passed = upstream_run(world)
    server.follow(FOLLOWS)
    server.follow(FOLLOWS)
    revision = world.sources.fetch(pipeline().sources[0], commit_id("first"), "main")
    late = NewRun(FOLLOWS, Cause.UPSTREAM, revision, ())
    move = UpstreamMove("prep", passed.id)
    assert world.store.runs.enqueue(late, (move,), "wine", world.clock.now()) is None
    assert len(runs(world)) == 1


def test_two_servers_follow_a_run_once(world: World) -> None:
    one, other = server_of(world), server_of(world)
    one.follow(FOLLOWS)
    upstream_run(world)
    assert [one.follow(FOLLOWS).found, other.follow(FOLLOWS).found] == [True, False]


@pytest.mark.parametrize(
    ("branch", "purpose"),
    [
        (f"{PULLS}7/head", Purpose.TRAIN),
        ("", Purpose.TRAIN),
        ("main", Purpose.REPRODUCE),
        ("main", Purpose.BASELINE),
    ],
)
def test_neither_pull_requests_nor_repetitions_start_other_pipelines(
    world: World, branch: str, purpose: Purpose
) -> None:
    server = server_of(world)
    server.follow(FOLLOWS)
    first = upstream_run(world)
    server.follow(FOLLOWS)
    revision = world.sources.fetch(pipeline().sources[0], commit_id("first"), branch)
    new = NewRun(pipeline(name="prep"), Cause.MANUAL, revision, (), purpose, rerun_of=first.id)
    other = world.store.runs.enqueue(new, (), "prep", world.clock.now())
    assert other is not None
    end(world, other, RunState.PASSED)
    assert not server.follow(FOLLOWS).found
    assert len(runs(world)) == 1


@pytest.mark.parametrize("branch", ["feature/y", "refs/tags/v2"])
def test_runs_of_what_is_not_deployed_are_not_followed_unless_their_pipeline_may_deploy_it(
    world: World, branch: str
) -> None:
    server = server_of(world)
    server.follow(FOLLOWS)
    upstream_run(world, branch=branch)
    assert not server.follow(FOLLOWS).found
    upstream_run(world, branch=branch, deploys=("main", branch))
    assert server.follow(FOLLOWS).found
    assert [run.change.note for run in runs(world)] == ["after prep#2 passed"]


def test_a_pipeline_that_follows_another_makes_no_run_at_first_sight_and_one_with_each_push(
    world: World,
) -> None:
    grapes = DatasetSpec("grapes", "/data", settle=10.0)
    follows = pipeline(after=("prep",), datasets=(grapes,))
    server = server_of(world)
    server.follow(follows)
    assert world.detector.poll_source(follows, follows.sources[0]) == []
    assert [entry.reason for entry in world.store.journal.latest()] == [
        "main: no run at first sight: it runs after prep"
    ]
    upstream_run(world)
    assert server.follow(follows).found
    world.data.write("more.csv", b"1\n")
    world.clock.advance(11)
    (of_data,) = world.detector.scan_dataset(follows, grapes)
    world.sources.push("main", "second")
    (of_push,) = world.detector.poll_source(follows, follows.sources[0])
    assert [run.change.cause for run in (of_data, of_push)] == [Cause.DATA, Cause.PUSH]


def test_what_was_dealt_with_is_not_looked_through_again(world: World) -> None:
    server = server_of(world)
    server.follow(FOLLOWS)
    last = upstream_run(world, RunState.FAILED)
    going = upstream_run(world, RunState.QUEUED)
    upstream_run(world)
    server.follow(FOLLOWS)
    assert world.store.occasions.mark("wine", "prep") == last.id
    end(world, going, RunState.FAILED)
    server.follow(FOLLOWS)
    assert world.store.occasions.runs_above("prep", world.store.occasions.mark("wine", "prep")) == []


def test_a_pipeline_without_occasions_has_nothing_to_look_at(world: World) -> None:
    server = server_of(world)
    assert server.watches_of(pipeline()) == []
    both = pipeline(schedules=HOURLY.schedules, after=("prep",))
    assert [watch.name for watch in server.watches_of(both)] == ["schedule wine", "after wine"]


def test_times_come_again_after_a_clock_that_was_put_back(world: World) -> None:
    server = server_of(world)
    server.serve_times(HOURLY)
    world.clock.advance(7200)
    assert server.serve_times(HOURLY).found
    world.clock.advance(-timedelta(hours=1).total_seconds())
    assert not server.serve_times(HOURLY).found, "that hour was served"
    world.clock.advance(7200)
    assert server.serve_times(HOURLY).found


def test_an_upstream_run_waits_for_data_that_are_being_written(world: World) -> None:
    made_of = pipeline(after=("prep",), datasets=(DatasetSpec("grapes", "/data", settle=10.0),))
    server = server_of(world)
    server.follow(made_of)
    upstream_run(world)
    world.data.write("a.csv", b"1")
    assert not server.follow(made_of).found
    world.clock.advance(11)
    assert server.follow(made_of).found


def test_an_upstream_run_is_not_lost_while_the_repository_does_not_answer(world: World) -> None:
    server = server_of(world)
    server.follow(FOLLOWS)
    upstream_run(world)
    world.sources.down = True
    with pytest.raises(SourceUnavailable):
        server.follow(FOLLOWS)
    world.sources.down = False
    assert server.follow(FOLLOWS).found


def test_upstream_runs_are_not_asked_for_again_while_nothing_happens(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = server_of(world)
    server.follow(FOLLOWS)
    asked: list[str] = []
    monkeypatch.setattr(world.store.occasions, "mark", lambda *names: asked.append(str(names)))
    assert not server.follow(FOLLOWS).found
    assert asked == []
