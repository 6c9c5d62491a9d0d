"""Many threads at once: nothing is lost, nothing is given twice, nobody hears that the file is locked."""

from __future__ import annotations

from collections import Counter

from orchestrator.domain.change import Cause
from orchestrator.store import SqlStore, open_store
from orchestrator.store.engine import Database
from orchestrator.store.tables import SlotRow
from tests.unit.store.support import AT, SECONDS, at_once, claim, claimed, enqueue, later, new_run, pipeline


def test_of_twenty_who_claim_an_attempt_one_has_it(store: SqlStore) -> None:
    attempt = store.attempts.of_run(enqueue(store).id)[0]
    leases = at_once(20, lambda n: claim(store, attempt, f"owner-{n}", f"host-{n}"))
    (winner,) = [lease for lease in leases if lease is not None]
    assert store.attempts.lease_owners() == [winner.owner]
    assert sum(store.attempts.slots_in_use().values()) == 1


def test_twenty_attempts_share_three_slots_as_three(store: SqlStore, database: Database) -> None:
    run = enqueue(store, new_run(pipeline(replicates=20)))
    attempts = store.attempts.of_run(run.id)
    leases = at_once(20, lambda n: claim(store, attempts[n], f"owner-{n}", "local", slots=3))
    assert len([lease for lease in leases if lease is not None]) == 3
    with database.reading() as session:
        assert sorted(row.index for row in session.query(SlotRow)) == [0, 1, 2]


def test_of_twenty_who_take_over_an_attempt_one_has_it(store: SqlStore) -> None:
    lease = claimed(store)
    taken = at_once(20, lambda n: store.attempts.take_over(f"owner-{n}", (), later(SECONDS), SECONDS))
    (winner,) = [new for leases in taken for new in leases]
    assert winner.id == lease.id
    assert store.attempts.lease_owners() == [winner.owner]


def test_twenty_writers_of_twenty_transactions_lose_none(store: SqlStore) -> None:
    def write(writer: int) -> None:
        for number in range(20):
            store.journal.note(f"writer-{writer}", "run 1", str(number), AT)

    at_once(20, write)
    written = Counter((entry.who, entry.reason) for entry in store.journal.of_run(1))
    assert len(written) == 400
    assert set(written.values()) == {1}


def test_writers_that_read_first_lose_none(store: SqlStore) -> None:
    at_once(20, lambda n: [enqueue(store, new_run(pipeline(f"p{n}"), cause=Cause.MANUAL)) for _ in range(5)])
    assert Counter(run.number for run in store.runs.listing(limit=200)) == dict.fromkeys(range(1, 6), 20)


def test_a_database_that_is_opened_by_many_at_once_is_made_once(empty_url: str) -> None:
    stores = at_once(8, lambda _: open_store(empty_url))
    assert len({opened.instance for opened in stores}) == 1
    for opened in stores:
        opened.close()
