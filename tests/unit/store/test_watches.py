"""How looks went, and which occasions were served, as several servers write it down at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.change import Cause
from orchestrator.domain.run import RunState
from orchestrator.ports.records import DataMove, Move, ScheduleMove, UpstreamMove
from orchestrator.store import SqlStore
from tests.unit.store.support import AT, at_once, enqueue, later, new_run, passed, pipeline

NAME = "source wine/code"
CRON = "0 3 * * 1 UTC"
FIRST = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
WINE = pipeline("wine")
PREP = pipeline("prep")


def told(store: SqlStore) -> list[str]:
    return [entry.reason for entry in reversed(store.journal.latest()) if entry.subject == NAME]


def start(store: SqlStore, cause: Cause, *moves: Move) -> int | None:
    run = store.runs.enqueue(new_run(WINE, cause=cause), moves, "wine", AT)
    return None if run is None else run.id


def test_trouble_keeps_its_beginning_and_has_one_line_in_the_journal(store: SqlStore) -> None:
    store.watches.troubled(NAME, "away", 1, later(30), AT)
    store.watches.troubled(NAME, "away", 2, later(90), later(30))
    seen = store.watches.all()[NAME]
    assert (seen.trouble, seen.tries, seen.trouble_since, seen.not_before, seen.checked_at) == (
        "away",
        2,
        AT,
        later(90),
        later(30),
    )
    assert told(store) == ["away"]


def test_trouble_of_another_kind_is_told_and_is_still_the_same_trouble(store: SqlStore) -> None:
    store.watches.troubled(NAME, "away", 1, later(30), AT)
    store.watches.troubled(NAME, "refused", 2, later(90), later(30))
    assert store.watches.all()[NAME].trouble_since == AT
    assert told(store) == ["away", "refused"]


def test_an_answer_ends_trouble_once(store: SqlStore) -> None:
    store.watches.troubled(NAME, "away", 1, later(30), AT)
    store.watches.answered(NAME, later(30))
    store.watches.answered(NAME, later(60))
    seen = store.watches.all()[NAME]
    assert (seen.trouble, seen.trouble_since, seen.tries) == ("", None, 0)
    assert told(store) == ["away", "answers again"]


def test_an_answer_where_there_was_no_trouble_is_no_news(store: SqlStore) -> None:
    store.watches.answered(NAME, AT)
    assert told(store) == []


def test_a_look_of_one_server_leaves_the_trouble_that_another_renews(store: SqlStore) -> None:
    store.watches.troubled(NAME, "away", 1, later(30), AT)
    store.watches.looked({NAME: (later(60), "4 left")})
    seen = store.watches.all()[NAME]
    assert (seen.trouble, seen.note, seen.checked_at) == ("away", "4 left", later(60))


def test_trouble_that_nobody_renews_ends_with_a_look_that_goes_well(store: SqlStore) -> None:
    store.watches.troubled(NAME, "away", 1, later(30), AT)
    store.watches.looked({NAME: (later(30 + 2 * 60 + 1), "")})
    assert store.watches.all()[NAME].trouble == ""
    assert told(store) == ["away", "answers again"]


def test_a_time_is_served_once_although_several_servers_see_it(store: SqlStore) -> None:
    store.occasions.begin("wine", CRON, FIRST - timedelta(hours=1))
    move = ScheduleMove(CRON, FIRST - timedelta(hours=1), FIRST)
    started = at_once(6, lambda _: start(store, Cause.SCHEDULE, move))
    assert len([run for run in started if run is not None]) == 1
    assert store.occasions.served("wine") == {CRON: FIRST}


def test_a_schedule_that_is_known_keeps_the_time_that_it_was_served(store: SqlStore) -> None:
    store.occasions.begin("wine", CRON, FIRST)
    store.occasions.begin("wine", CRON, FIRST + timedelta(days=7))
    assert store.occasions.served("wine") == {CRON: FIRST}
    assert store.occasions.served("prep") == {}


def test_a_run_of_another_pipeline_is_followed_once_although_several_servers_see_it(store: SqlStore) -> None:
    mark = store.occasions.mark("wine", "prep")
    upstream = passed(store, new_run(PREP))
    moves = (UpstreamMove("prep", upstream.id), DataMove("wine", None, "f" * 64))
    started = at_once(6, lambda i: start(store, Cause.UPSTREAM, *moves[: 1 + i % 2]))
    assert len([run for run in started if run is not None]) == 1
    assert store.occasions.followed("wine", "prep", mark) == {upstream.id}


def test_pipelines_whose_names_begin_alike_are_told_apart(store: SqlStore) -> None:
    store.occasions.mark("wine", "prep")
    store.occasions.mark("wine", "prep-2")
    first = passed(store, new_run(PREP))
    second = passed(store, new_run(pipeline("prep-2")))
    assert start(store, Cause.UPSTREAM, UpstreamMove("prep", first.id)) is not None
    assert start(store, Cause.UPSTREAM, UpstreamMove("prep-2", second.id)) is not None
    assert store.occasions.followed("wine", "prep", 0) == {first.id}


def test_what_had_ended_before_somebody_asked_is_not_to_be_followed(store: SqlStore) -> None:
    old = passed(store, new_run(PREP))
    going = enqueue(store, new_run(PREP))
    mark = store.occasions.mark("wine", "prep")
    assert mark == old.id
    assert [(run.id, run.state) for run in store.occasions.runs_above("prep", mark)] == [
        (going.id, RunState.QUEUED)
    ]


def test_the_mark_never_goes_back(store: SqlStore) -> None:
    store.occasions.mark("wine", "prep")
    store.occasions.move_mark("wine", "prep", 12)
    store.occasions.move_mark("wine", "prep", 7)
    assert store.occasions.mark("wine", "prep") == 12


@pytest.mark.parametrize("upstream", ["never", "prep"])
def test_a_run_is_followed_only_by_those_who_asked_for_it(store: SqlStore, upstream: str) -> None:
    run = passed(store, new_run(PREP))
    assert start(store, Cause.UPSTREAM, UpstreamMove(upstream, run.id)) is None
