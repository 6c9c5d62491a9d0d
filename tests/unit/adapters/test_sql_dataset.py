"""A query's result as watched data, on a real SQLite file: told apart by its rows, and read without a way to
write.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from pyarrow import parquet

from orchestrator.adapters.datasets import sql
from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.adapters.datasets.sql import SqlPlace
from orchestrator.domain.errors import DatasetMoved, DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from orchestrator.ports.progress import ProgressEvent

Execute = Callable[..., None]


def quiet(_: ProgressEvent) -> None:
    pass


@pytest.fixture
def execute(tmp_path: Path) -> Execute:
    """Change the database."""

    def run(statement: str, *values: Sequence[object]) -> None:
        with closing(sqlite3.connect(tmp_path / "wine.db")) as connection, connection:
            if values:
                connection.executemany(statement, values)
            else:
                connection.execute(statement)

    run("CREATE TABLE wines (id INTEGER, name TEXT, ph REAL, photo BLOB)")
    insert = "INSERT INTO wines VALUES (?, ?, ?, ?)"
    run(insert, (2, "Malbec, old", 3.5, None), (1, 'the "good"', 3.0, b"\xff\x00"), (3, "", None, None))
    return run


def spec(query: str, **options: str) -> DatasetSpec:
    return DatasetSpec(
        "wines",
        "sqlite:///wine.db",
        settle=0,
        kind=DatasetKind.SQL,
        options=(("query", query), ("format", "csv"), *options.items()),
    )


@pytest.fixture
def dataset(tmp_path: Path, execute: Execute) -> RemoteDataset:
    return over(tmp_path, f"sqlite:///{tmp_path}/wine.db")


def over(folder: Path, address: str, **settings: str) -> RemoteDataset:
    access = Access({"sql": address}, settings)
    return RemoteDataset(SqlPlace(lambda _: access), Cache(folder / "cache", 1 << 20))


def content(dataset: RemoteDataset, wanted: DatasetSpec) -> bytes:
    """What a run would get."""
    entries = dataset.materialise(wanted, dataset.snapshot(wanted, (), quiet).entries, quiet)
    (entry,) = entries
    with dataset.part(wanted, entry, 0, entry.size) as file:
        return file.read()


def test_rows_come_as_a_file_of_comma_separated_values(dataset: RemoteDataset) -> None:
    assert content(dataset, spec("SELECT * FROM wines ORDER BY id")).decode() == (
        'id,name,ph,photo\n1,"the ""good""",3.0,ff00\n2,"Malbec, old",3.5,\n3,"",,\n'
    )


def test_the_order_of_the_query_counts_where_it_asks_for_one(dataset: RemoteDataset) -> None:
    up, down = "SELECT id FROM wines ORDER BY id", "SELECT id FROM wines ORDER BY id DESC"
    assert content(dataset, spec(down)) == b"id\n3\n2\n1\n"
    assert content(dataset, spec(up)) == b"id\n1\n2\n3\n"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM wines",
        "SELECT id FROM (SELECT * FROM wines ORDER BY id DESC)",
        "SELECT id FROM wines WHERE name <> 'order by' -- ORDER BY id DESC",
    ],
)
def test_rows_without_an_order_are_put_in_one(dataset: RemoteDataset, query: str) -> None:
    assert content(dataset, spec(query)) == b"id\n1\n2\n3\n"


def test_more_rows_than_are_sorted_at_once_come_in_the_same_order(
    dataset: RemoteDataset, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute("INSERT INTO wines VALUES (?, ?, 1, NULL)", *((n, f"two\nlines {n % 7}") for n in range(500)))
    whole = content(dataset, spec("SELECT name, id FROM wines"))
    monkeypatch.setattr(sql, "_SORTED_AT_ONCE", 100)
    assert content(dataset, spec("SELECT name, id FROM wines")) == whole
    assert whole.count(b"\n") == 504 + 500


def test_only_another_result_is_another_version(dataset: RemoteDataset, execute: Execute) -> None:
    wanted = spec("SELECT id, ph FROM wines")
    before = dataset.look(wanted)
    execute("UPDATE wines SET name = 'not asked for'")
    assert dataset.look(wanted) == before
    execute("UPDATE wines SET ph = 3.1 WHERE id = 1")
    assert dataset.look(wanted).signature != before.signature


def test_a_version_is_given_as_it_was_after_the_table_changed(
    dataset: RemoteDataset, execute: Execute, tmp_path: Path
) -> None:
    wanted = spec("SELECT id FROM wines")
    entries = dataset.snapshot(wanted, (), quiet).entries
    execute("DELETE FROM wines")
    (found,) = dataset.materialise(wanted, entries, quiet)
    with dataset.part(wanted, found, 0, found.size) as file:
        assert file.read() == b"id\n1\n2\n3\n"
    for path in (tmp_path / "cache/files").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(DatasetMoved):
        dataset.materialise(wanted, entries, quiet)


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM wines RETURNING id", "DROP TABLE wines", "INSERT INTO wines (id) VALUES (9) RETURNING id"],
)
def test_a_query_cannot_write(dataset: RemoteDataset, execute: Execute, statement: str) -> None:
    with pytest.raises(DatasetUnavailable):
        dataset.look(spec(statement))
    assert content(dataset, spec("SELECT count(*) AS n FROM wines")) == b"n\n3\n"


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    missing = over(tmp_path, f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(DatasetUnavailable, match="unable to open"):
        missing.look(spec("SELECT 1"))
    assert not (tmp_path / "none.db").exists()


def test_a_query_that_takes_too_long_is_broken_off(tmp_path: Path, execute: Execute) -> None:
    slow = over(tmp_path, f"sqlite:///{tmp_path}/wine.db", timeout="0.05")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(DatasetUnavailable, match=r"longer than 0\.05 s; .*timeout:"):
        slow.look(spec(endless))


def test_a_result_over_its_limit_is_refused(tmp_path: Path, execute: Execute) -> None:
    small = over(tmp_path, f"sqlite:///{tmp_path}/wine.db", limit="10")
    with pytest.raises(DatasetRefused, match=r"larger than 10 B; .*limit:"):
        small.look(spec("SELECT * FROM wines"))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("oracle+oracledb://reader:hunter22@db/wine", "oracle cannot be kept from writing"),
        ("nonsense", "is no address of a database"),
        ("sqlite:///wine.db", "not an absolute path"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(
    tmp_path: Path, address: str, why: str
) -> None:
    with pytest.raises(DatasetRefused, match=why) as raised:
        over(tmp_path, address).look(spec("SELECT 1"))
    assert "hunter22" not in str(raised.value)


def test_rows_come_as_parquet_where_that_is_asked_for(tmp_path: Path, execute: Execute) -> None:
    wanted = DatasetSpec(
        "wines",
        "sqlite:///wine.db",
        kind=DatasetKind.SQL,
        options=(("query", "SELECT id, ph FROM wines"), ("format", "parquet")),
    )
    dataset = over(tmp_path, f"sqlite:///{tmp_path}/wine.db")
    table = parquet.read_table(io.BytesIO(content(dataset, wanted)))
    assert table.to_pydict() == {"id": [1, 2, 3], "ph": [3.0, 3.5, None]}
    assert dataset.look(wanted) == dataset.look(wanted)
