"""Hosts: definitions that commands made, what people want of them, and since when they do not answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.host import HostRecord, HostState
from orchestrator.domain.pipeline import HostSpec
from orchestrator.domain.space import Reserve
from orchestrator.store import SqlStore
from tests.unit.store.support import AT, claim, enqueue, later

LAB = HostSpec("lab", "unix:///lab.sock", 4, (("zone", "desk"),), min_free=Reserve(share=0.1))


def history(store: SqlStore) -> list[tuple[str, str, str, str]]:
    return [(e.who, e.before, e.after, e.reason) for e in reversed(store.journal.latest())]


def test_nothing_is_known_of_most_hosts(store: SqlStore) -> None:
    assert store.hosts.all() == {}
    assert store.hosts.get("lab") == HostRecord("lab")


def test_an_added_host_keeps_its_whole_definition(store: SqlStore) -> None:
    added = store.hosts.add(LAB, "ann", "a new machine", AT)
    assert added == HostRecord("lab", HostState.ACTIVE, AT, "ann", "a new machine", LAB)
    assert store.hosts.all() == {"lab": added}
    assert history(store) == [("ann", "active", "active", "a new machine")]


def test_a_drained_host_says_who_drained_it_and_why_and_repeating_changes_nothing(store: SqlStore) -> None:
    store.hosts.set_state("lab", HostState.DRAINING, "ann", "a new disk", AT)
    again = store.hosts.set_state("lab", HostState.DRAINING, "bob", "", later(5))
    assert (again.state, again.changed_by, again.reason, again.changed_at) == (
        HostState.DRAINING,
        "ann",
        "a new disk",
        AT,
    )
    store.hosts.set_state("lab", HostState.ACTIVE, "bob", "", later(9))
    assert store.hosts.get("lab").state is HostState.ACTIVE
    assert history(store) == [("ann", "active", "draining", "a new disk"), ("bob", "draining", "active", "")]


def test_a_removed_host_that_is_added_again_is_active(store: SqlStore) -> None:
    store.hosts.keep_definition(LAB, "configuration", "it left the file", AT)
    assert store.hosts.get("lab").state is HostState.REMOVED
    store.hosts.add(HostSpec("lab", "unix:///other.sock"), "ann", "", later(1))
    found = store.hosts.get("lab")
    assert (found.state, found.definition) == (HostState.ACTIVE, HostSpec("lab", "unix:///other.sock"))


def test_a_drained_host_whose_definition_is_replaced_stays_drained(store: SqlStore) -> None:
    store.hosts.add(LAB, "ann", "", AT)
    drained = store.hosts.set_state("lab", HostState.DRAINING, "ann", "a new disk", later(1))
    other = HostSpec("lab", "unix:///other.sock")
    assert store.hosts.add(other, "bob", "more slots", later(2)) == replace(drained, definition=other)
    assert history(store)[-1] == ("bob", "draining", "draining", "more slots")


def test_silence_keeps_its_beginning_until_the_host_answers(store: SqlStore) -> None:
    assert store.hosts.silent("lab", AT, "no route", later(1))
    assert not store.hosts.silent("lab", later(20), "no route", later(20))
    assert not store.hosts.silent("lab", later(30), "refused", later(30))
    silent = store.hosts.get("lab")
    assert (silent.unreachable_since, silent.trouble) == (AT, "refused")
    assert store.hosts.answered("lab", later(40))
    assert not store.hosts.answered("lab", later(41))
    assert store.hosts.get("lab").unreachable_since is None
    assert [row[1:3] for row in history(store)] == [("answers", "unreachable"), ("unreachable", "answers")]


def test_a_new_boot_id_tells_the_former(store: SqlStore) -> None:
    assert store.hosts.booted("lab", "one", AT) == ""
    assert store.hosts.booted("lab", "one", later(1)) == "one"
    assert store.hosts.booted("lab", "two", later(2)) == "one"
    assert [row[3] for row in history(store)] == ["started anew"]


def test_a_forgotten_host_is_gone(store: SqlStore) -> None:
    store.hosts.add(LAB, "ann", "", AT)
    store.hosts.forget("lab", later(1))
    store.hosts.forget("lab", later(2))
    assert store.hosts.all() == {}
    assert len(history(store)) == 2


@pytest.mark.parametrize("state", [HostState.DRAINING, HostState.REMOVED])
def test_a_late_claim_gets_nothing_on_a_host_that_takes_no_attempts(
    store: SqlStore, state: HostState
) -> None:
    (attempt,) = store.attempts.of_run(enqueue(store).id)
    store.hosts.add(LAB, "ann", "", AT)
    store.hosts.set_state("lab", state, "ann", "a new disk", AT)
    assert claim(store, attempt, host="lab") is None
    assert store.attempts.slots_in_use() == {}
    assert store.attempts.get(attempt.id) == attempt
    store.hosts.set_state("lab", HostState.ACTIVE, "ann", "", AT)
    assert claim(store, attempt, host="lab") is not None
