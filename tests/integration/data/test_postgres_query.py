"""A query's result in a real PostgreSQL: seen, given to runs, bounded, and asked without a way to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.adapters.datasets.sql import SqlPlace
from orchestrator.domain.errors import DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from tests.support.postgres import PASSWORD, PostgresServer

Over = Callable[..., RemoteDataset]


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.database() as name:
        with postgres_server.connected(name) as connection:
            connection.execute("CREATE TABLE wines (id int, ph numeric, made date, tags jsonb)")
            connection.execute(
                "INSERT INTO wines VALUES (1), (2);"
                "UPDATE wines SET ph = 3.50, made = '2020-01-02' WHERE id = 2;"
                """UPDATE wines SET tags = '{"b": 1, "a": [2]}' WHERE id = 2"""
            )
        yield name


@pytest.fixture
def over(postgres_server: PostgresServer, database: str, tmp_path: Path) -> Over:
    def made(password: str = PASSWORD, **settings: str) -> RemoteDataset:
        access = Access({"sql": postgres_server.url(database, password)}, settings)
        return RemoteDataset(SqlPlace(lambda _: access), Cache(tmp_path / "cache", 1 << 20))

    return made


def spec(query: str) -> DatasetSpec:
    options = (("query", query), ("format", "csv"))
    return DatasetSpec("wines", "postgresql://db/wine", kind=DatasetKind.SQL, options=options)


def content(dataset: RemoteDataset, wanted: DatasetSpec) -> bytes:
    (entry,) = dataset.materialise(
        wanted, dataset.snapshot(wanted, (), lambda _: None).entries, lambda _: None
    )
    with dataset.part(wanted, entry, 0, entry.size) as file:
        return file.read()


def test_values_of_all_kinds_are_written_the_same_each_time(over: Over) -> None:
    wanted = spec("SELECT *, 'a:b 100%' AS colon FROM wines")
    text = 'id,ph,made,tags,colon\n1,,,,a:b 100%\n2,3.50,2020-01-02,"{""a"": [2], ""b"": 1}",a:b 100%\n'
    assert content(over(), wanted).decode() == text
    assert over().look(wanted) == over().look(wanted)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM wines RETURNING id",
        "WITH gone AS (DELETE FROM wines RETURNING id) SELECT * FROM gone",
        "SELECT nextval('nowhere')",
        "CREATE TABLE other (id int)",
        "SELEC 1",
    ],
)
def test_what_would_write_or_is_no_query_is_refused(over: Over, query: str) -> None:
    with pytest.raises(DatasetRefused, match="refuses the query"):
        over().look(spec(query))
    assert content(over(), spec("SELECT count(*) AS n FROM wines")) == b"n\n2\n"


def test_a_query_that_takes_too_long_is_ended_by_the_server(over: Over) -> None:
    with pytest.raises(DatasetUnavailable, match=r"longer than 0\.2 s"):
        over(timeout="0.2").look(spec("SELECT pg_sleep(30)"))


def test_a_wrong_password_is_told_without_it(over: Over) -> None:
    with pytest.raises(DatasetUnavailable, match="gives no result") as raised:
        over("wrong-hunter22").look(spec("SELECT 1"))
    assert "hunter22" not in str(raised.value)
