"""What goes and what stays: tables of cases, and what must hold for any history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.retention import (
    NOT_IN_BACKUP,
    Going,
    HostThing,
    Kind,
    Limits,
    Plan,
    Policy,
    RunFacts,
    StateRules,
    Unused,
    removal,
    told,
    told_of,
)
from orchestrator.domain.retention_plan import Contents, plan_releases, plan_state, plan_unused, relieve

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOBODY: Mapping[int, str] = {}


def days(number: float) -> timedelta:
    return timedelta(days=number)


def run(run_id: int, age: float, **facts: Any) -> RunFacts:  # noqa: ANN401 - as replace() takes them
    """A run that ended so many days ago, with one file of 10 bytes and one log of 5."""
    known: dict[str, Any] = {
        "branch": "main",
        "pipeline": "wine",
        "files": 1,
        "size": 10,
        "logs": 1,
        "log_size": 5,
        **facts,
    }
    made = RunFacts(run_id, run_id, "wine", "main", NOW - days(age), ended=True, passed=True)
    return replace(made, **known)


def runs_by(limits: Limits) -> Policy:
    return Policy(state=StateRules(runs=limits))


def artifacts_by(limits: Limits) -> Policy:
    return Policy(state=StateRules(artifacts=limits))


def keys(plan: Plan, kind: Kind = Kind.RUNS) -> set[int | str]:
    return {thing.key for thing in plan.of(kind)}


AGE = Limits(age=days(30), keep_last=0)


def test_nothing_goes_without_a_rule() -> None:
    assert plan_state([run(1, 3650), run(2, 0)], NOBODY, Policy(), NOW) == Plan()


@pytest.mark.parametrize(
    ("limits", "gone", "why"),
    [
        (Limits(age=days(30), keep_last=0), {1, 2}, "older than 30d"),
        (Limits(age=days(40), keep_last=0), {1}, "older than 40d"),
        (Limits(count=2, keep_last=0), {1, 2}, "not among the newest 2 of wine"),
        (Limits(per_branch=1, keep_last=0), {1, 3}, "not among the newest 1 of wine on main"),
        (Limits(age=days(1), keep_last=4), set(), ""),
        (Limits(age=days(1), keep_last=3), {1}, "older than 1d"),
    ],
)
def test_a_run_goes_that_exceeds_a_limit(limits: Limits, gone: set[int], why: str) -> None:
    history = [run(1, 50), run(2, 35, branch="dev"), run(3, 20), run(4, 10)]
    plan = plan_state(history, NOBODY, runs_by(limits), NOW)
    assert keys(plan) == gone
    assert {thing.why for thing in plan.going} == ({why} if why else set())


def test_counts_are_of_each_pipeline_alone() -> None:
    history = [run(1, 4), run(2, 3, pipeline="beer"), run(3, 2), run(4, 1, pipeline="beer")]
    assert keys(plan_state(history, NOBODY, runs_by(Limits(count=1, keep_last=0)), NOW)) == {1, 2}


def test_a_pipeline_may_have_rules_of_its_own() -> None:
    policy = replace(runs_by(AGE), pipelines={"beer": StateRules()})
    assert keys(plan_state([run(1, 99), run(2, 99, pipeline="beer")], NOBODY, policy, NOW)) == {1}


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"ended": False}, "it has not ended"),
        ({}, "it is live on prod"),
    ],
)
def test_what_is_needed_stays_and_the_plan_says_why(facts: dict[str, Any], why: str) -> None:
    needed = {} if facts else {1: "it is live on prod"}
    policy = Policy(state=StateRules(AGE, AGE, AGE))
    plan = plan_state([run(1, 99, **facts)], needed, policy, NOW)
    assert plan.going == ()
    assert {(s.kind, s.why, s.because) for s in plan.staying} == {
        (kind, why, "older than 30d") for kind in (Kind.RUNS, Kind.ARTIFACTS, Kind.LOGS)
    }


def test_passed_ones_stay_where_the_rule_says_so() -> None:
    limits = Limits(age=days(30), keep_last=0, keep_passed=True)
    plan = plan_state([run(1, 99), run(2, 99, passed=False)], NOBODY, artifacts_by(limits), NOW)
    assert keys(plan, Kind.ARTIFACTS) == {2}
    assert [stays.why for stays in plan.staying] == ["it passed"]


def test_what_a_kept_run_was_compared_with_stays_as_a_row_alone() -> None:
    policy = Policy(state=StateRules(runs=AGE, artifacts=AGE))
    history = [run(1, 99), run(2, 50, compared_with=(1,)), run(3, 5, compared_with=(2,))]
    plan = plan_state(history, NOBODY, policy, NOW)
    # What the second was compared with is not needed to show the third.
    assert keys(plan) == {1}
    assert keys(plan, Kind.ARTIFACTS) == {2}
    assert [(s.key, s.why, s.by) for s in plan.staying] == [
        (2, "a run that stays was compared with it", "wine#3")
    ]


def test_all_that_a_kept_run_repeats_stays() -> None:
    history = [run(1, 99), run(2, 80, rerun_of=1), run(3, 5, rerun_of=2)]
    plan = plan_state(history, NOBODY, runs_by(AGE), NOW)
    assert plan.going == ()
    assert {s.why for s in plan.staying} == {"a run that stays repeats it"}
    assert {s.key: s.by for s in plan.staying} == {2: "wine#3", 1: "wine#2"}


def test_the_files_of_a_run_that_goes_are_not_counted_twice() -> None:
    policy = Policy(state=StateRules(AGE, AGE, AGE))
    plan = plan_state([run(1, 99)], NOBODY, policy, NOW)
    assert plan.going == (Going(Kind.RUNS, 1, "wine#1", "older than 30d", 15),)


def test_only_the_kinds_that_are_asked_for_go() -> None:
    policy = Policy(state=StateRules(AGE, AGE, AGE))
    plan = plan_state([run(1, 99)], NOBODY, policy, NOW, frozenset({Kind.LOGS}))
    assert [thing.kind for thing in plan.going] == [Kind.LOGS]


def contents(history: list[RunFacts]) -> Contents:
    return {each.id: [(f"of {each.id}", each.size)] for each in history}


def test_the_oldest_artifacts_go_first_when_the_disk_is_short_and_logs_after_all_of_them() -> None:
    history = [run(3, 5), run(1, 9), run(2, 7)]
    policy = Policy(state=StateRules(Limits(keep_last=0), Limits(keep_last=0), Limits(keep_last=0)))

    def gone(lacking: int) -> tuple[list[tuple[Kind, int | str]], int]:
        plan = relieve(Plan(), history, NOBODY, policy, contents(history), lacking, NOW)
        return [(thing.kind, thing.key) for thing in plan.going], plan.lacking

    artifacts = [(Kind.ARTIFACTS, 1), (Kind.ARTIFACTS, 2), (Kind.ARTIFACTS, 3)]
    assert gone(0) == ([], 0)
    assert gone(10) == (artifacts[:1], 0)
    assert gone(11) == (artifacts[:2], 0)
    assert gone(31) == ([*artifacts, (Kind.LOGS, 1)], 0)
    assert gone(50) == ([*artifacts, (Kind.LOGS, 1), (Kind.LOGS, 2), (Kind.LOGS, 3)], 5)


def test_nothing_needed_fresh_or_without_effect_goes_when_the_disk_is_short() -> None:
    history = [run(1, 9), run(2, 8), run(3, 7), run(4, 0.1)]
    shared: Contents = {1: [("same", 10)], 2: [("same", 10)], 3: [("own", 10)], 4: [("new", 10)]}
    policy = Policy(state=StateRules(artifacts=Limits(keep_last=0), logs=Limits(keep_last=9)))
    plan = relieve(Plan(), history, {1: "pinned"}, policy, shared, 100, NOW - days(1))
    # The second's content is the pinned one's, so that its removal would make no room.
    assert keys(plan, Kind.ARTIFACTS) == {3}
    assert plan.lacking == 90


def test_what_a_pipeline_is_to_keep_stays_although_the_disk_is_short() -> None:
    history = [run(1, 9), run(2, 8)]
    kept = StateRules(artifacts=Limits(keep_last=0, keep_all=True), logs=Limits(keep_last=0))
    policy = Policy(pipelines={"wine": kept})
    plan = relieve(Plan(), history, NOBODY, policy, contents(history), 100, NOW)
    assert {thing.kind for thing in plan.going} == {Kind.LOGS}


def test_a_shared_content_makes_room_once_its_last_run_gives_it_up() -> None:
    history = [run(1, 9), run(2, 8), run(3, 7)]
    shared: Contents = {1: [("same", 10)], 2: [("same", 10)], 3: [("own", 10)]}
    policy = Policy(state=StateRules(artifacts=Limits(keep_last=0)))
    assert keys(relieve(Plan(), history, NOBODY, policy, shared, 10, NOW), Kind.ARTIFACTS) == {1, 2}


def test_what_goes_by_rule_counts_for_the_room() -> None:
    history = [run(1, 99), run(2, 9)]
    policy = runs_by(AGE)
    plan = plan_state(history, NOBODY, policy, NOW)
    assert relieve(plan, history, NOBODY, policy, contents(history), 15, NOW) == plan


def image(name: str, unused: float, size: int = 10, needed: str = "", depth: int = 1) -> HostThing:
    return HostThing(Kind.IMAGES, "local", name, NOW - days(unused), size, needed, depth)


def test_images_go_that_nobody_used_for_long() -> None:
    things = [image("new", 1), image("old", 20), image("runner", 20, needed="it is the image of runner cpu")]
    plan = plan_unused(things, Unused(age=days(14)), NOW)
    assert [(t.key, t.why) for t in plan.going] == [("old", "unused for 20d")]
    assert [(s.key, s.why) for s in plan.staying] == [("runner", "it is the image of runner cpu")]


def test_a_budget_takes_the_least_recently_used_first_and_the_upper_of_two_before_the_lower() -> None:
    things = [image("a", 1), image("base", 5, depth=2), image("setup", 5, depth=3), image("b", 9, needed="x")]
    plan = plan_unused(things, Unused(budget=20), NOW)
    assert [t.key for t in plan.going] == ["setup", "base"]
    assert [t.why for t in plan.going] == ["the images of local take more than 20 B"] * 2
    assert [s.key for s in plan.staying] == ["b"]


def test_what_has_no_known_size_counts_for_no_budget() -> None:
    things = [replace(image("a", 9), size=None), image("b", 1)]
    assert plan_unused(things, Unused(budget=10), NOW).going == ()


def test_old_releases_go_but_neither_the_current_nor_the_live_one() -> None:
    names = ["20260101T000000Z-1", "20260201T000000Z-2", "20260301T000000Z-3", "20261122T000000Z-4", "other"]
    plan = plan_releases("prod", names, names[0], {names[2]}, days(90), NOW)
    assert [(t.key, t.why, t.place) for t in plan.going] == [(names[1], "older than 90d", "prod")]
    assert [(s.key, s.why) for s in plan.staying] == [(names[0], "it is current"), (names[2], "it is live")]


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(days=365), "365d"),
        (timedelta(days=1), "1d"),
        (timedelta(hours=36), "36h"),
        (timedelta(hours=1), "1h"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=5), "5s"),
        (timedelta(days=20, hours=7), "20d"),
    ],
)
def test_spans_are_told_as_people_write_them(span: timedelta, words: str) -> None:
    assert told(span) == words


def test_what_went_is_told_with_its_size() -> None:
    assert told_of(Going(Kind.RUNS, 1, "wine#1", "older than 30d", 2048)) == (
        "wine#1 removed by retention (older than 30d), 2.0 KiB"
    )
    assert told_of(Going(Kind.ARTIFACTS, 1, "wine#1", "older than 30d", 0, 2)) == (
        "2 artifacts removed by retention (older than 30d)"
    )
    assert removal(NOW, "older than 90d") == "removed by retention on 2026-11-23 (older than 90d)"
    assert removal(NOW, NOT_IN_BACKUP) == "removed on 2026-11-23 (not in the backup)"
    assert removal(None, None) == ""


LIMITS = st.builds(
    Limits,
    age=st.none() | st.integers(1, 40).map(days),
    count=st.none() | st.integers(1, 6),
    per_branch=st.none() | st.integers(1, 4),
    keep_last=st.integers(0, 4),
    keep_passed=st.booleans(),
)
POLICIES = st.builds(
    Policy,
    state=st.builds(StateRules, LIMITS, LIMITS, LIMITS),
    pipelines=st.just({}) | st.builds(StateRules, LIMITS, LIMITS, LIMITS).map(lambda rules: {"beer": rules}),
)


@st.composite
def histories(draw: st.DrawFn) -> list[RunFacts]:
    made: list[RunFacts] = []
    for run_id in range(1, draw(st.integers(0, 14)) + 1):
        older = st.sampled_from(range(1, run_id)) if run_id > 1 else st.nothing()
        files = draw(st.integers(0, 2))
        made.append(
            run(
                run_id,
                draw(st.integers(0, 60)),
                pipeline=draw(st.sampled_from(["wine", "beer"])),
                branch=draw(st.sampled_from(["main", "dev"])),
                ended=draw(st.integers(0, 9)) > 0,
                passed=draw(st.booleans()),
                rerun_of=draw(st.none() | older),
                compared_with=tuple(draw(st.lists(older, max_size=2, unique=True))) if run_id > 1 else (),
                files=files,
                size=10 * files,
                logs=draw(st.integers(0, 1)),
            )
        )
    return made


def after(history: list[RunFacts], plan: Plan) -> list[RunFacts]:
    """The history once the plan was carried out."""
    gone, files, logs = (keys(plan, kind) for kind in (Kind.RUNS, Kind.ARTIFACTS, Kind.LOGS))
    left = [each for each in history if each.id not in gone]
    left = [replace(each, files=0, size=0) if each.id in files else each for each in left]
    return [replace(each, logs=0, log_size=0) if each.id in logs else each for each in left]


@given(histories(), POLICIES, st.sets(st.integers(1, 14)))
@settings(max_examples=300, deadline=None)
def test_nothing_needed_ever_goes_and_a_second_plan_is_empty(
    history: list[RunFacts], policy: Policy, needed_ids: set[int]
) -> None:
    needed = dict.fromkeys(needed_ids, "needed")
    plan = plan_state(history, needed, policy, NOW)
    gone = keys(plan)
    touched = {thing.key for thing in plan.going}
    for each in history:
        if each.id in needed or not each.ended:
            assert each.id not in touched
        if each.id not in gone:
            assert each.rerun_of not in gone
    goes = {(thing.kind, thing.key) for thing in plan.going}
    assert goes.isdisjoint({(stays.kind, stays.key) for stays in plan.staying})
    left = after(history, plan)
    assert plan_state(left, needed, policy, NOW).going == ()


@given(histories(), POLICIES, st.sets(st.integers(1, 14)), st.integers(0, 300))
@settings(max_examples=300, deadline=None)
def test_making_room_never_takes_what_is_needed_and_takes_all_else_before_it_gives_up(
    history: list[RunFacts], policy: Policy, needed_ids: set[int], lacking: int
) -> None:
    needed = dict.fromkeys(needed_ids, "needed")
    held = contents([each for each in history if each.files])
    plan = relieve(plan_state(history, needed, policy, NOW), history, needed, policy, held, lacking, NOW)
    for each in history:
        if each.id in needed or not each.ended:
            assert each.id not in {thing.key for thing in plan.going}
    left = after(history, plan)
    freed = sum(e.size + e.log_size for e in history) - sum(e.size + e.log_size for e in left)
    assert plan.lacking == max(0, lacking - freed)
    if plan.lacking:
        again = relieve(Plan(), left, needed, policy, contents([e for e in left if e.files]), 1, NOW)
        assert again.going == ()
