"""Versions of models: one for each run that passed, with stages that move and a history."""

from __future__ import annotations

from orchestrator.domain.model_registry import Stage
from orchestrator.domain.retention import Going, Kind
from orchestrator.domain.run import RunState
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database, parse_url
from tests.unit.store.support import AT, VERDICT, enqueue, later, new_run


def passed(store: SqlStore, commit: str) -> int:
    run = enqueue(store, new_run(commit=commit * 40))
    store.runs.move(run.id, RunState.QUEUED, RunState.RUNNING, AT)
    store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, AT)
    store.runs.move(run.id, RunState.EVALUATING, RunState.PASSED, later(1), verdict=VERDICT)
    return run.id


def test_only_runs_that_passed_have_a_version_with_their_number(store: SqlStore) -> None:
    one = passed(store, "a")
    other = enqueue(store, new_run(commit="b" * 40))
    two = passed(store, "c")
    assert [(v.run_id, v.number) for v in store.models.versions("wine")] == [(two, 3), (one, 1)]
    assert store.models.of_run(other.id) is None
    assert store.models.versions("beer") == []


def test_stages_move_and_the_history_says_since_when_until_when_and_why(store: SqlStore) -> None:
    one, two = passed(store, "a"), passed(store, "b")
    store.models.move(one, Stage.PRODUCTION, "ana", "live on prod", later(10))
    store.models.move(two, Stage.PRODUCTION, "bo", "live on prod", later(20))
    assert {v.run_id: v.stages for v in store.models.versions()} == {
        one: (Stage.ARCHIVED,),
        two: (Stage.PRODUCTION,),
    }
    assert store.models.history(one) == [
        (Stage.PRODUCTION, later(10), later(20), "live on prod"),
        (Stage.ARCHIVED, later(20), None, "live on prod"),
    ]


def test_a_run_without_a_version_gets_no_stage(store: SqlStore) -> None:
    run = enqueue(store)
    store.models.move(run.id, Stage.PRODUCTION, "ana", "", AT)
    store.models.move(999, Stage.PRODUCTION, "ana", "", AT)
    assert store.models.versions() == []


def test_a_run_that_is_removed_takes_its_version_with_it_and_no_number_comes_back(store: SqlStore) -> None:
    one = passed(store, "a")
    store.models.move(one, Stage.CANDIDATE, "ana", "tried", AT)
    going = Going(Kind.RUNS, str(one), "wine#1", "old")
    assert store.retention.remove_runs([going], "retention", later(99)) == 1
    two = passed(store, "b")
    assert [(v.run_id, v.number) for v in store.models.versions()] == [(two, 2)]


def test_looking_at_versions_waits_for_no_writer(store: SqlStore, url: str) -> None:
    one = passed(store, "a")
    assert [v.run_id for v in store.models.versions()] == [one]
    other = Database(parse_url(url))
    try:
        with other.writing():
            found = store.models.of_run(one)
            assert found is not None
            assert store.models.versions("wine") == [found]
    finally:
        other.close()
