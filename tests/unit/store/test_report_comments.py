"""Comments at forges: whoever makes one does so alone, and none is forgotten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestrator.ports.comments import Place
from orchestrator.store import open_store

PLACE = Place("acme/wine", "pull/7", "wine")
NOW = datetime(2026, 11, 24, 4, tzinfo=UTC)


def test_of_many_at_once_one_makes_the_comment(tmp_path: Path) -> None:
    stores = [open_store(f"sqlite:///{tmp_path / 'db.sqlite'}") for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as threads:
            claims = list(threads.map(lambda s: s.comments.claim(PLACE, 1, NOW, 120), stores * 4))
        assert len([claim for claim in claims if claim is not None]) == 1
    finally:
        for store in stores:
            store.close()


def test_who_dies_while_making_it_is_followed_by_one_other(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'db.sqlite'}")
    try:
        assert store.comments.claim(PLACE, 1, NOW, 120) is not None
        later = NOW + timedelta(seconds=120)
        claimed = store.comments.claim(PLACE, 2, later, 120)
        assert claimed is not None
        assert (claimed.external_id, claimed.run_id) == ("", 2)
        assert store.comments.claim(PLACE, 3, later, 120) is None
        assert not store.comments.told(PLACE, 1, "4711", "passed x", later)
        known = store.comments.at(PLACE)
        assert known is not None
        assert (known.external_id, known.run_id, known.word) == ("4711", 2, "")
    finally:
        store.close()


def test_a_newer_run_takes_the_comment_and_an_older_one_does_not(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'db.sqlite'}")
    try:
        store.comments.claim(PLACE, 1, NOW, 120)
        assert store.comments.told(PLACE, 1, "4711", "still_failing x", NOW)
        taken = store.comments.claim(PLACE, 3, NOW, 120)
        assert taken is not None
        assert (taken.external_id, taken.run_id, taken.word) == ("4711", 3, "still failing")
        older = store.comments.claim(PLACE, 2, NOW, 120)
        assert older is not None
        assert older.run_id == 3
        assert not store.comments.told(PLACE, 2, "4711", "passed y", NOW)
        assert store.comments.missing(PLACE, "4711", NOW)
        assert not store.comments.missing(PLACE, "4711", NOW)
        store.comments.release(PLACE, NOW)
        assert store.comments.at(PLACE) is None
    finally:
        store.close()
