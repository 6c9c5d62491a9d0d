"""MLflow's stores when something is wrong with them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from orchestrator.adapters.collectors import mlflow_db
from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.adapters.collectors.mlflow_runs import TrackedRun, prefixes
from orchestrator.domain.errors import InvalidInput
from tests.support.left_files import curve, left, left_in, readings, values

TABLES = """
CREATE TABLE runs (run_uuid TEXT, name TEXT, start_time BIGINT, lifecycle_stage TEXT);
CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
"""
METRICS = "CREATE TABLE metrics (key TEXT, value, timestamp, run_uuid TEXT, step, is_nan BOOLEAN);"


def database(folder: Path, script: str, *, wal: bool = False) -> None:
    """A database; with ``wal`` as a container leaves it that was killed, all of it in the log."""
    connection = sqlite3.connect(folder / "made.db")
    if wal:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.executescript(script)
    for suffix in ("", "-wal"):
        made = folder / f"made.db{suffix}"
        if made.exists():
            (folder / f"mlflow.db{suffix}").write_bytes(made.read_bytes())
    connection.close()
    for made in folder.glob("made.db*"):
        made.unlink()


MANY = """
INSERT INTO metrics SELECT 'loss', n, n, 'abc', n, 0 FROM (
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 1000)
    SELECT n FROM numbers
);
"""
RUN = "INSERT INTO runs VALUES ('abc', 'one', 1, 'active');"


def test_what_stands_in_the_log_alone_is_read(tmp_path: Path) -> None:
    rows = "INSERT INTO metrics VALUES ('loss', 0.5, 1600000000000, 'abc', 1, 0);"
    database(tmp_path, TABLES + METRICS + RUN + rows, wal=True)
    assert (tmp_path / "mlflow.db-wal").stat().st_size > 0
    files = left_in(tmp_path)
    (reading,) = readings(files).values()
    assert values(reading) == {"loss": 0.5}
    with pytest.raises(InvalidInput, match=r"it cannot be read|has no table"):
        readings({"mlflow.db": files["mlflow.db"]})


def test_values_that_are_no_numbers_are_passed_over_with_a_warning(tmp_path: Path) -> None:
    rows = """
    INSERT INTO metrics VALUES ('loss', 'high', 1, 'abc', 1, 0);
    INSERT INTO metrics VALUES ('loss', 0.5, 1, 'abc', 2, 0);
    INSERT INTO metrics VALUES ('loss', 0.25, 1, 'abc', 3, 0);
    """
    database(tmp_path, TABLES + METRICS + RUN + rows)
    (reading,) = readings(left_in(tmp_path)).values()
    assert curve(reading, "loss") == [(2, 0.5), (3, 0.25)]
    assert reading.warnings == ("mlflow.db: a value of loss is no number and was passed over",)


@pytest.mark.parametrize(
    "metrics",
    [
        "",
        # A view, a computed column and a virtual table can each be made to compute for ever.
        """CREATE VIEW metrics AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n)
        SELECT x AS key, x AS value, x AS timestamp, 'abc' AS run_uuid, x AS step, 0 AS is_nan FROM n;""",
        "CREATE TABLE metrics (key TEXT, value AS (abs(step)), timestamp, run_uuid TEXT, step, is_nan);",
        "CREATE VIRTUAL TABLE metrics USING fts5(key, value, timestamp, run_uuid, step, is_nan);",
    ],
)
def test_only_ordinary_tables_are_read(tmp_path: Path, metrics: str) -> None:
    database(tmp_path, TABLES + metrics + RUN)
    with pytest.raises(InvalidInput, match="it has no table 'metrics' as MLflow makes it"):
        readings(left_in(tmp_path))


def test_values_without_end_are_refused_before_they_are_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database(tmp_path, TABLES + METRICS + RUN + MANY)
    (reading,) = readings(left_in(tmp_path)).values()
    assert len(curve(reading, "loss")) == 1000
    monkeypatch.setattr(mlflow_db, "MOST_POINTS", 999)
    with pytest.raises(InvalidInput, match=r"mlflow\.db: it holds more than 999 values"):
        readings(left_in(tmp_path))


def test_values_of_all_runs_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "INSERT INTO runs VALUES ('def', 'two', 2, 'active');" + MANY.replace("abc", "def")  # noqa: S608 - of our own constants
    database(tmp_path, TABLES + METRICS + RUN + MANY + other)
    monkeypatch.setattr(mlflow_db, "MOST_POINTS", 1999)
    with pytest.raises(InvalidInput, match="it holds more than 1999 values"):
        readings(left_in(tmp_path))


def test_the_copy_of_a_database_lies_in_the_folder_that_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database(tmp_path, TABLES + METRICS + RUN + MANY)
    files = left_in(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    folders: list[str] = []
    connect = sqlite3.connect

    def watched(place: Path, isolation_level: None) -> sqlite3.Connection:
        folders.append(str(place.parent.parent))
        return connect(place, isolation_level=isolation_level)

    monkeypatch.setattr(sqlite3, "connect", watched)
    readers = FormatReaders(scratch)
    for claim in readers.claims(files, lambda path: False):
        readers.read(claim, files)
    readers.read_as(files["mlflow.db"], "mlflow")
    assert folders == [str(scratch)] * 2
    assert list(scratch.iterdir()) == []


def test_points_are_in_the_order_of_their_steps_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = "".join(
        f"INSERT INTO metrics VALUES ('loss', {value}, {moment}, 'abc', {step}, 0);"  # noqa: S608 - of our own constants
        for step, moment, value in ((3, 1, 0.1), (1, 2, 0.3), (1, 1, 0.4), (2, 1, 0.2))
    )
    database(tmp_path, TABLES + METRICS + RUN + rows)
    (reading,) = readings(left_in(tmp_path)).values()
    assert curve(reading, "loss") == [(1, 0.4), (1, 0.3), (2, 0.2), (3, 0.1)]


def test_a_query_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database(tmp_path, TABLES + METRICS + RUN + MANY)
    monkeypatch.setattr(mlflow_db, "_PATIENCE", -1.0)
    monkeypatch.setattr(mlflow_db, "_STEPS_BETWEEN_LOOKS", 10)
    with pytest.raises(InvalidInput, match="it cannot be read: interrupted"):
        readings(left_in(tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"not a database", "this is no SQLite database"),
        (b"SQLite format 3\0" + bytes(range(256)) * 20, "it cannot be read"),
        (b"SQLite format 3\0", "it cannot be read"),
    ],
)
def test_a_file_that_is_no_database_says_so(content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        readings(left({"mlflow.db": content}))


def test_a_database_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    database(tmp_path, TABLES + METRICS + RUN + MANY)
    whole = (tmp_path / "mlflow.db").read_bytes()
    for size in (600, 5000, len(whole) // 2, len(whole) - 100):
        with pytest.raises(InvalidInput, match="it is cut off"):
            readings(left({"mlflow.db": whole[:size]}))


def test_a_run_that_is_nested_has_its_name_before_its_figures() -> None:
    runs = [TrackedRun("aaaaaaaaaa", "main"), TrackedRun("b" * 32, "fold", "aaaaaaaaaa")]
    assert prefixes(runs) == {"aaaaaaaaaa": "", "b" * 32: "fold/"}


def test_runs_of_the_same_name_are_told_apart_by_their_ids() -> None:
    runs = [TrackedRun("a" * 32, "x"), TrackedRun("b" * 32, "x"), TrackedRun("c" * 32)]
    assert list(prefixes(runs).values()) == ["x-aaaaaaaa/", "x-bbbbbbbb/", "cccccccc/"]


def test_lines_of_a_metric_that_were_cut_off_are_warnings() -> None:
    home = "mlruns/0/abc"
    files = left(
        {
            f"{home}/meta.yaml": b"run_name: one\nlifecycle_stage: active\n",
            f"{home}/metrics/val/loss": b"1600000000000 0.5 2\n1600000000000 0.75 1\n16000000",
            f"{home}/metrics/bad": b"\xff\xfe\n",
            f"{home}/params/empty": b"",
        }
    )
    (reading,) = readings(files).values()
    assert values(reading) == {"val/loss": 0.5}
    assert curve(reading, "val/loss") == [(1, 0.75), (2, 0.5)]
    assert sorted(reading.warnings) == [
        f"{home}/metrics/bad:1: byte 1 of the line is not UTF-8; write the file as UTF-8",
        f"{home}/metrics/val/loss:3: this is no line of MLflow's: moment, value, step",
    ]
    assert [(p.name, p.text) for p in reading.params] == [("empty", "")]
