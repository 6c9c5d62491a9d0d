"""GPUs that attempts have: one of them is never another's as well."""

from __future__ import annotations

from orchestrator.domain.gpu import Gpu, GpuUse
from orchestrator.domain.run import AttemptState, Reason
from orchestrator.ports.records import AttemptResult, Lease
from orchestrator.store import SqlStore
from tests.unit.store.support import AT, SECONDS, at_once, enqueue, new_run, pipeline, succeed

FIRST = Gpu("GPU-1", "NVIDIA H100", 81559 << 20, "550.54.15")
SECOND = Gpu("GPU-2", "NVIDIA H100", 81559 << 20, "550.54.15")


def claim(store: SqlStore, attempt_id: int, *gpus: Gpu, host: str = "lab") -> Lease | None:
    return store.attempts.claim(attempt_id, host, 9, f"mlci-{attempt_id}", "one", AT, SECONDS, gpus)


def attempts(store: SqlStore, count: int) -> list[int]:
    run = enqueue(store, new_run(pipeline(replicates=count)))
    return [attempt.id for attempt in store.attempts.of_run(run.id)]


def test_a_claim_leases_its_gpus_and_the_attempt_says_which(store: SqlStore) -> None:
    (one,) = attempts(store, 1)
    assert claim(store, one, FIRST, SECOND)
    assert store.attempts.gpus_leased() == {"lab": {"GPU-1": one, "GPU-2": one}}
    assert store.attempts.get(one).gpus == (FIRST, SECOND)


def test_a_gpu_that_another_attempt_has_fails_the_whole_claim(store: SqlStore) -> None:
    one, two = attempts(store, 2)
    assert claim(store, one, SECOND)
    assert claim(store, two, FIRST, SECOND) is None
    assert store.attempts.get(two).state is AttemptState.QUEUED
    assert store.attempts.gpus_leased() == {"lab": {"GPU-2": one}}
    assert store.attempts.slots_in_use() == {"lab": 1}


def test_the_same_gpu_of_another_host_is_another_one(store: SqlStore) -> None:
    one, two = attempts(store, 2)
    assert claim(store, one, FIRST)
    assert claim(store, two, FIRST, host="other")


def test_an_attempt_that_ends_gives_its_gpus_back_and_keeps_what_is_known_of_them(store: SqlStore) -> None:
    one, two = attempts(store, 2)
    lease = claim(store, one, FIRST)
    assert lease is not None
    use = GpuUse("GPU-1", 12, 0.5, 0.98, 1485 << 20)
    ended = succeed(store, lease, AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, utilisation=(use,)))
    assert store.attempts.gpus_leased() == {}
    assert (ended.gpus, ended.utilisation) == ((FIRST,), (use,))
    assert claim(store, two, FIRST)


def test_of_many_claims_at_once_exactly_one_gets_the_gpu(store: SqlStore) -> None:
    ids = attempts(store, 6)
    leases = at_once(6, lambda index: claim(store, ids[index], FIRST))
    assert sum(lease is not None for lease in leases) == 1
    assert store.attempts.gpus_leased() == {
        "lab": {"GPU-1": next(lease.id for lease in leases if lease is not None)}
    }
