"""Looking into tables of new data: after the run was made, and for nobody who waits."""

from __future__ import annotations

import threading
from typing import BinaryIO

import pytest

from orchestrator.domain.change import DatasetRole, FileEntry
from orchestrator.domain.pipeline import DatasetSpec, Pipeline
from tests.unit.services.worlds import World, pipeline

ROWS = DatasetSpec("rows", "/data", DatasetRole.TRAIN, settle=0)


@pytest.fixture
def watched() -> Pipeline:
    return pipeline(datasets=(ROWS,))


def seen(world: World) -> list[tuple[str, int | None, str]]:
    """The tables of the newest version."""
    detection = world.store.detection
    newest = detection.versions(ROWS)[-1]
    tables = detection.tables(ROWS, newest.fingerprint)
    return [(path, facts.rows, facts.problem) for path, facts in tables.items()]


def test_tables_are_looked_into_once_the_run_is_made_and_nobody_waits(
    world: World, watched: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.data.files = {"rows.csv": b"a\n1\n2\n"}
    world.detector.poll_source(watched, watched.sources[0])
    world.detector.scan_dataset(watched, ROWS)
    assert seen(world) == [("rows.csv", 2, "")]
    world.data.write("rows.csv", b"a\n1\n2\n3\n")
    plain, runs, others = world.data.part, list[int](), list[str]()

    def slow(dataset: DatasetSpec, entry: FileEntry, offset: int, size: int) -> BinaryIO:
        runs.append(len(world.store.runs.listing()))
        other = threading.Thread(target=lambda: others.append(type(world.detector.refresh(ROWS)).__name__))
        other.start()
        other.join(30)
        return plain(dataset, entry, offset, size)

    monkeypatch.setattr(world.data, "part", slow)
    assert len(world.detector.scan_dataset(watched, ROWS)) == 1
    assert set(runs) == {2}
    assert set(others) == {"DatasetVersion"}
    assert seen(world) == [("rows.csv", 3, "")]


def test_tables_are_looked_into_once(
    world: World, watched: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.data.files = {"rows.csv": b"a\n1\n"}
    world.detector.poll_source(watched, watched.sources[0])
    world.detector.scan_dataset(watched, ROWS)
    monkeypatch.delattr(type(world.data), "part")
    world.detector.scan_dataset(watched, ROWS)
    assert seen(world) == [("rows.csv", 1, "")]


def test_tables_of_a_version_that_another_process_stored_are_looked_into(
    world: World, watched: Pipeline
) -> None:
    """As when a server was killed before it had done so."""
    world.data.files = {"rows.csv": b"a\n1\n"}
    world.detector.refresh(ROWS)
    assert seen(world) == []
    world.detector.poll_source(watched, watched.sources[0])
    world.detector.scan_dataset(watched, ROWS)
    assert seen(world) == [("rows.csv", 1, "")]


def test_a_table_that_cannot_be_read_takes_no_other_with_it_and_is_tried_with_the_next_version(
    world: World, watched: Pipeline
) -> None:
    world.data.files = {"a.csv": b"a\n1\n", "b.csv": b"b\n1\n"}
    world.detector.refresh(ROWS)
    kept = world.data.files.pop("a.csv")
    world.detector.look_into(ROWS)
    assert seen(world) == [("a.csv", None, "it could not be read: a.csv has another size"), ("b.csv", 1, "")]
    world.data.files |= {"a.csv": kept, "c.csv": b"c\n1\n2\n"}
    world.detector.refresh(ROWS)
    world.detector.look_into(ROWS)
    assert seen(world) == [("a.csv", 1, ""), ("b.csv", 1, ""), ("c.csv", 2, "")]
