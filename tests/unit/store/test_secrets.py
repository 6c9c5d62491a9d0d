"""Rows of secrets: ciphertext that is set, replaced, resealed and removed, with its history."""

from __future__ import annotations

import pytest

from orchestrator.domain.errors import NotFound
from orchestrator.store import SqlStore
from tests.unit.store.support import AT, at_once, later


def history(store: SqlStore) -> list[tuple[str, str, str, str]]:
    return [(e.who, e.subject, e.before, e.after) for e in reversed(store.journal.latest())]


def test_a_secret_that_is_set_again_keeps_its_age_and_counts(store: SqlStore) -> None:
    first = store.secrets.put("TOKEN", "one", "ann", AT)
    again = store.secrets.put("TOKEN", "two", "bob", later(60))
    assert (first.version, again.version) == (1, 2)
    assert (again.created_at, again.updated_at, again.updated_by) == (AT, later(60), "bob")
    assert store.secrets.get("TOKEN") == again
    assert history(store) == [("ann", "secret TOKEN", "", "set"), ("bob", "secret TOKEN", "set", "set")]


def test_secrets_are_listed_by_name(store: SqlStore) -> None:
    for name in ("B", "C", "A"):
        store.secrets.put(name, "x", "ann", AT)
    assert [row.name for row in store.secrets.all()] == ["A", "B", "C"]
    assert store.secrets.get("D") is None


def test_a_removed_secret_is_gone_and_its_going_is_in_the_journal(store: SqlStore) -> None:
    store.secrets.put("TOKEN", "one", "ann", AT)
    store.secrets.remove("TOKEN", "bob", later(1))
    assert store.secrets.all() == []
    assert history(store)[-1] == ("bob", "secret TOKEN", "set", "removed")
    with pytest.raises(NotFound):
        store.secrets.remove("TOKEN", "bob", later(2))
    assert len(history(store)) == 2


def test_resealing_leaves_a_row_that_was_set_in_the_meantime(store: SqlStore) -> None:
    store.secrets.put("A", "old", "ann", AT)
    store.secrets.put("B", "set meanwhile", "ann", AT)
    changes = {"A": ("old", "new"), "B": ("old", "new"), "GONE": ("old", "new")}
    assert store.secrets.reseal(changes, "bob", later(1)) == 1
    assert {row.name: row.ciphertext for row in store.secrets.all()} == {"A": "new", "B": "set meanwhile"}
    kept = store.secrets.get("A")
    assert kept is not None
    assert (kept.version, kept.updated_at, kept.updated_by) == (1, AT, "ann")
    assert store.journal.latest(1)[0].reason == "1 encrypted with the newest key"


def test_resealing_nothing_writes_no_history(store: SqlStore) -> None:
    assert store.secrets.reseal({}, "bob", AT) == 0
    assert history(store) == []


def test_many_that_set_one_name_at_once_are_all_counted(store: SqlStore) -> None:
    at_once(8, lambda index: store.secrets.put("TOKEN", f"value {index}", "ann", AT))
    row = store.secrets.get("TOKEN")
    assert row is not None
    assert row.version == 8
