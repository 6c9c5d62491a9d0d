"""What is remembered of data and of pipelines goes, and what somebody needs meanwhile stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.change import Cause, DatasetRole, DatasetVersion, FileEntry
from orchestrator.domain.errors import NotFound
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.retention import Going, Kind
from orchestrator.domain.tabular import TableFacts
from orchestrator.ports.records import DataMove, DatasetWatch, ScheduleMove
from orchestrator.store import SqlStore
from tests.unit.store.support import AT, head, later, new_run, pipeline

ROWS = DatasetSpec("rows", "/data/rows", DatasetRole.TRAIN)
WINE, OLD = pipeline("wine"), pipeline("old")


def version(store: SqlStore, fingerprint: str) -> DatasetVersion:
    entries = [FileEntry("rows.csv", 3, fingerprint)]
    made = store.detection.record_version(ROWS, fingerprint, entries, AT)
    store.detection.record_tables(ROWS, fingerprint, {"rows.csv": TableFacts(fingerprint, 1)})
    return made


def going(store: SqlStore) -> list[Going]:
    return [
        Going(Kind.VERSIONS, v.id, f"rows v{v.number}", "older than 30d") for v in store.upkeep.versions()
    ]


def numbers(store: SqlStore) -> list[int]:
    return [found.number for found in store.detection.versions(ROWS)]


def test_versions_go_with_the_lists_of_their_files_and_say_so(store: SqlStore) -> None:
    for fingerprint in ("a" * 64, "b" * 64):
        version(store, fingerprint)
    first = going(store)[:1]
    assert store.upkeep.remove_versions(first, 0, "me", later(1)) == 1
    assert numbers(store) == [2]
    assert store.detection.tables(ROWS, "a" * 64) == {}
    entry = store.journal.latest()[0]
    assert (entry.who, entry.subject, entry.reason) == (
        "me",
        "data rows v1",
        "version rows v1 removed by retention (older than 30d)",
    )
    assert version(store, "c" * 64).number == 3
    assert [file.path for file in store.detection.manifest(ROWS, "b" * 64)] == ["rows.csv"]
    with pytest.raises(NotFound, match="no version aaaaaaaa"):
        store.detection.manifest(ROWS, "a" * 64)


def test_a_version_that_became_used_since_it_was_planned_stays(store: SqlStore) -> None:
    asked = version(store, "a" * 64)
    version(store, "b" * 64)
    version(store, "c" * 64)
    version(store, "d" * 64)
    uses = store.upkeep.uses()
    plan = going(store)
    assert uses.fingerprints == set()
    wanted = replace(new_run(WINE), datasets=(asked,))
    assert store.runs.enqueue(wanted, (), "wine", AT) is not None
    store.detection.save_dataset_watch(ROWS, DatasetWatch("signature", "b" * 64))
    seen = (DataMove("rows", None, "c" * 64),)
    assert store.runs.enqueue(new_run(WINE, cause=Cause.DATA), seen, "wine", AT) is not None
    assert store.upkeep.remove_versions(plan, uses.change, "me", later(1)) == 1
    assert numbers(store) == [1, 2, 3]
    assert {"a" * 64, "b" * 64, "c" * 64} <= store.upkeep.uses().fingerprints


def test_what_runs_and_heads_name_is_used(store: SqlStore) -> None:
    run = store.runs.enqueue(new_run(WINE), (head(None, "1" * 40),), "wine", AT)
    assert run is not None
    revision = store.runs.get(run.id).change.revision.commit
    uses = store.upkeep.uses()
    assert {revision, "1" * 40} <= uses.commits
    assert uses.change == store.runs.get(run.id).change.id


def test_what_was_seen_for_a_pipeline_goes_unless_a_change_of_it_is_left(store: SqlStore) -> None:
    for name in ("wine", "old"):
        store.runs.enqueue(None, (head(None, "1" * 40), DataMove("rows", None, "a" * 64)), name, AT)
        store.occasions.begin(name, "0 3 * * * UTC", AT)
    assert store.upkeep.remembered()[0] == {"wine", "old"}
    assert store.runs.enqueue(new_run(WINE), (ScheduleMove("0 4 * * * UTC", None, AT),), "wine", AT)
    assert store.upkeep.remembered()[0] == {"old"}
    things = [Going(Kind.PIPELINES, name, name, "gone for 30d") for name in ("wine", "old")]
    assert store.upkeep.remove_pipelines(things, "me", later(1)) == 1
    assert store.detection.heads("old", "code") == {}
    assert store.detection.data_heads("old") == {}
    assert store.occasions.served("old") == {}
    assert store.detection.data_heads("wine") == {"rows": "a" * 64}
    assert store.journal.latest()[0].reason == "what was seen for old removed by retention (gone for 30d)"


def test_it_is_known_since_when_something_is_gone_until_it_is_back(store: SqlStore) -> None:
    store.upkeep.note_gone({"pipeline a", "pipeline b"}, AT)
    store.upkeep.note_gone({"pipeline a"}, later(60))
    store.upkeep.note_gone({"pipeline a", "pipeline b"}, later(120))
    assert store.upkeep.gone_since() == {"pipeline a": AT, "pipeline b": later(120)}


def test_looks_that_nobody_goes_on_with_are_forgotten(store: SqlStore) -> None:
    store.watches.looked({"source wine/code": (AT, "")})
    store.watches.looked({"source old/code": (later(-100), "")})
    store.detection.save_dataset_watch(ROWS, DatasetWatch("signature", "b" * 64))
    assert store.upkeep.remembered()[1] == {ROWS.key}
    store.upkeep.remove_watches([ROWS.key], later(-50))
    assert set(store.watches.all()) == {"source wine/code"}
    assert store.detection.dataset_watch(ROWS) is None
