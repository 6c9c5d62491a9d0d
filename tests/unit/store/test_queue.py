"""What waits, what hosts are taken by, and the terms on which an attempt gets its slot."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.placement import Going, Share, Terms
from orchestrator.domain.run import RunState
from orchestrator.ports.queue import Taken
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database
from tests.unit.store.support import (
    AT,
    SECONDS,
    all_rows,
    at_once,
    claimed,
    enqueue,
    later,
    new_run,
    pipeline,
    succeed,
)

GIB = 1 << 30


def project(name: str, group: str = "shop") -> Pipeline:
    return replace(pipeline(name), project=group)


def take(store: SqlStore, terms: Terms, made_of: Pipeline | None = None) -> bool:
    """Whether a new run's attempt gets a slot of a large host on these terms."""
    run = enqueue(store, new_run(made_of))
    (attempt,) = store.attempts.of_run(run.id)
    claimed = store.attempts.claim(attempt.id, "lab", 9, "box", "me", AT, SECONDS, terms=terms)
    return claimed is not None


def test_who_waits_says_what_decides_when_it_goes(store: SqlStore) -> None:
    run = enqueue(store, replace(new_run(), host_wish="lab", priority=7))
    ((attempt_id, run_id, begun),) = store.queue.waiting(AT)
    assert (run_id, begun) == (run.id, False)
    assert store.queue.describe([attempt_id + 1]) == []
    (waiting,) = store.queue.describe([attempt_id])
    assert (waiting.run_id, waiting.replicate, waiting.number, waiting.created_at) == (run.id, 0, 1, AT)
    assert (waiting.pipeline, waiting.run_number, waiting.project) == ("wine", run.number, "shop")
    assert (waiting.priority, waiting.host_wish) == (7, "lab")


def test_a_new_try_waits_for_its_time_in_a_run_that_has_begun(store: SqlStore) -> None:
    run = enqueue(store)
    succeed(store, claimed(store, run))
    store.runs.add_try(run.id, 0, 2, later(60), AT)
    assert store.queue.waiting(later(59)) == []
    (waiting,) = store.queue.waiting(later(60))
    assert waiting.begun
    assert [one.number for one in store.queue.describe([waiting.attempt_id])] == [2]


def test_a_priority_is_the_runs_own_or_its_pipelines(store: SqlStore) -> None:
    urgent = replace(pipeline("urgent"), priority=5)
    runs = [
        enqueue(store),
        enqueue(store, new_run(urgent)),
        enqueue(store, replace(new_run(urgent), priority=-1)),
    ]
    ids = [w.attempt_id for w in store.queue.waiting(AT)]
    assert {w.run_id: w.priority for w in store.queue.describe(ids)} == {
        run.id: priority for run, priority in zip(runs, (0, 5, -1), strict=True)
    }
    assert [store.runs.get(run.id).priority for run in runs] == [0, 5, -1]


def test_the_cores_and_memory_of_a_host_are_given_out_once(store: SqlStore, database: Database) -> None:
    terms = Terms(Share(1.5, 2 * GIB), cpus=4.0, memory=6 * GIB)
    assert take(store, terms)
    assert take(store, terms)
    assert set(store.queue.taken()) == {
        Taken("lab", "wine", 1.5, 2 * GIB, f"wine#{number}") for number in (1, 2)
    }
    before = len(all_rows(database)["slots"])
    assert not take(store, terms), "4.5 of 4 cores"
    assert not take(store, Terms(Share(0.5, 3 * GIB), cpus=4.0, memory=6 * GIB)), "7 of 6 GiB"
    assert len(all_rows(database)["slots"]) == before
    assert take(store, Terms(Share(1.0, 2 * GIB), cpus=4.0, memory=6 * GIB))


def test_no_more_runs_begin_than_their_pipeline_allows(store: SqlStore) -> None:
    terms = Terms(pipeline_limit=1)
    assert take(store, terms, project("wine"))
    assert not take(store, terms, project("wine"))
    assert take(store, terms, project("beer"))
    assert [run.title for run in store.queue.going()] == ["wine#1", "beer#1"]


def test_no_more_runs_begin_than_their_project_allows(store: SqlStore) -> None:
    terms = Terms(project_limit=2)
    assert take(store, terms, project("wine"))
    assert take(store, terms, project("beer"))
    assert not take(store, terms, project("gin"))
    assert take(store, terms, project("gin", "bar"))


def test_a_run_that_has_begun_counts_once(store: SqlStore) -> None:
    run = enqueue(store, new_run(pipeline(replicates=2)))
    one, two = store.attempts.of_run(run.id)
    terms = Terms(pipeline_limit=1)
    assert store.attempts.claim(one.id, "lab", 2, "a", "me", AT, SECONDS, terms=terms) is not None
    assert store.attempts.claim(two.id, "lab", 2, "b", "me", AT, SECONDS, terms=terms) is not None
    assert store.queue.going() == [Going(run.id, run_title(run.pipeline, run.number), "wine", "shop")]
    assert store.runs.get(run.id).state is RunState.RUNNING


def run_title(pipeline_name: str, number: int) -> str:
    return f"{pipeline_name}#{number}"


def test_hosts_that_have_a_dataset_are_known_by_its_fingerprint(store: SqlStore) -> None:
    assert store.queue.holding(["f" * 64]) == {}
    assert store.queue.holding([]) == {}


def claims(store: SqlStore, count: int, terms: Terms) -> list[bool]:
    """So many runs, each claimed by a server of its own, all at the same moment."""
    ids = [store.attempts.of_run(enqueue(store).id)[0].id for _ in range(count)]

    def claim(index: int) -> bool:
        owner = f"server-{index}"
        return store.attempts.claim(ids[index], "lab", 9, "b", owner, AT, SECONDS, terms=terms) is not None

    return at_once(count, claim)


def test_servers_that_claim_at_the_same_moment_never_overbook_a_host(store: SqlStore) -> None:
    assert sum(claims(store, 6, Terms(Share(1.5, GIB), cpus=4.0, memory=8 * GIB))) == 2
    assert sum(slot.cpus or 0.0 for slot in store.queue.taken()) == 3.0


def test_servers_that_claim_at_the_same_moment_keep_to_limits(store: SqlStore) -> None:
    assert sum(claims(store, 6, Terms(pipeline_limit=2))) == 2
    assert len(store.queue.going()) == 2
