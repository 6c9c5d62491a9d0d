"""Statements that are put together once say and find what SQLAlchemy's own way would."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.domain.errors import StoreError
from orchestrator.domain.run import AttemptState, Reason
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database
from orchestrator.store.prepared import PreparedQuery, PreparedWrite
from orchestrator.store.tables import AttemptRow, MetricRow, PipelineRow
from tests.unit.store.support import AT, at_once, claimed, enqueue

_COLUMNS = (AttemptRow.id, AttemptRow.state, AttemptRow.created_at, AttemptRow.reason, AttemptRow.warnings)
_BY_ID = select(*_COLUMNS).where(AttemptRow.id == bindparam("id"))
_PIPELINES = select(PipelineRow.name, PipelineRow.last_number).order_by(PipelineRow.name)


def test_rows_are_those_of_the_statement_with_their_types(store: SqlStore, database: Database) -> None:
    claimed(store)
    for values in ({"id": 1}, {"id": 2}, {"id": 1}):
        with database.connected() as connection:
            expected = connection.execute(_BY_ID, values).all()
            assert [tuple(row) for row in PreparedQuery(_BY_ID).rows(connection, values)] == expected
    with database.connected() as connection:
        row = PreparedQuery(_BY_ID).one_or_none(connection, {"id": 1})
    assert row is not None
    assert (row.state, row.created_at, row.reason, row.warnings) == (AttemptState.PREPARING, AT, None, [])


def test_a_query_for_nothing_finds_none(database: Database) -> None:
    query = PreparedQuery(_BY_ID)
    with database.connected() as connection:
        assert query.one_or_none(connection, {"id": 1}) is None
        assert query.scalar(connection, {"id": 1}) is None
        assert query.scalars(connection, {"id": 1}) == []


def test_lists_that_belong_to_the_statement_are_looked_up(store: SqlStore, database: Database) -> None:
    claimed(store)
    enqueue(store)
    active = PreparedQuery(
        select(AttemptRow.id).where(AttemptRow.state.in_([AttemptState.PREPARING, AttemptState.RUNNING]))
    )
    with database.connected() as connection:
        assert active.scalars(connection) == [1]


def test_a_write_changes_the_columns_that_it_is_given(store: SqlStore, database: Database) -> None:
    claimed(store)
    write = PreparedWrite(update(AttemptRow).where(AttemptRow.id == bindparam("attempt_id")))
    elsewhere = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    with database.writing() as session:
        given = {"attempt_id": 1, "reason": Reason.TIMEOUT, "finished_at": elsewhere}
        assert write.count(session.connection(), given) == 1
        assert write.count(session.connection(), {"attempt_id": 1, "message": "told"}) == 1
        assert write.count(session.connection(), {"attempt_id": 2, "message": "told"}) == 0
    attempt = store.attempts.get(1)
    assert (attempt.reason, attempt.message) == (Reason.TIMEOUT, "told")
    assert attempt.finished_at == datetime(2026, 1, 1, 7, tzinfo=UTC)


def test_a_time_without_a_zone_is_refused(store: SqlStore, database: Database) -> None:
    claimed(store)
    write = PreparedWrite(update(AttemptRow).where(AttemptRow.id == bindparam("attempt_id")))
    naive = AT.replace(tzinfo=None)
    with pytest.raises(ValueError, match="no time zone"), database.writing() as session:
        write.count(session.connection(), {"attempt_id": 1, "finished_at": naive})


def test_an_insert_tells_the_id_of_its_row_once(store: SqlStore, database: Database) -> None:
    claimed(store)
    once = PreparedWrite(
        sqlite.insert(AttemptRow).on_conflict_do_nothing(),
        postgresql.insert(AttemptRow).on_conflict_do_nothing(),
    )
    texts = dict.fromkeys(("container", "container_id", "image_digest", "message"), "")
    row = {"run_id": 1, "replicate": 3, "number": 1, "seed": 1, "state": AttemptState.QUEUED, **texts}
    row |= {"warnings": [], "left_out": [], "created_at": AT}
    with database.writing() as session:
        number = once.number(session.connection(), row)
        assert once.number(session.connection(), row) is None
    assert number == max(attempt.id for attempt in store.attempts.of_run(1))


def test_many_rows_go_at_once(store: SqlStore, database: Database) -> None:
    claimed(store)
    metrics, told = {"loss": 0.5, "nothing": math.nan}, {"source": "x", "reader": "json"}
    rows = [{"attempt_id": 1, "name": name, "value": value, **told} for name, value in metrics.items()]
    with database.writing() as session:
        PreparedWrite(insert(MetricRow)).each(session.connection(), rows)
        PreparedWrite(insert(MetricRow)).each(session.connection(), [])
    named = PreparedQuery(select(MetricRow.name, MetricRow.value).order_by(MetricRow.id))
    with database.connected() as connection:
        (first, value), (second, missing) = named.rows(connection)
    assert (first, value, second) == ("loss", 0.5, "nothing")
    assert math.isnan(missing)


def test_what_the_database_refuses_is_refused_as_ever(database: Database) -> None:
    plain = PreparedWrite(insert(PipelineRow))
    with pytest.raises(StoreError, match="refused a statement"), database.writing() as session:
        [plain.count(session.connection(), {"name": "tea", "last_number": number}) for number in (1, 2)]
    with database.connected() as connection:
        assert PreparedQuery(_PIPELINES).rows(connection) == []


def test_prepared_statements_and_the_sessions_own_share_one_transaction(database: Database) -> None:
    plain, seen = PreparedWrite(insert(PipelineRow)), PreparedQuery(_PIPELINES)

    def write_both(how: Callable[[int], int]) -> None:
        with database.writing() as session:
            session.add(PipelineRow(name="by session", last_number=1))
            session.flush()
            plain.count(session.connection(), {"name": "prepared", "last_number": 2})
            how(len(seen.rows(session.connection())))

    with pytest.raises(ZeroDivisionError):
        write_both(lambda rows: 1 // (rows - 2))
    write_both(abs)
    with database.connected() as connection:
        assert [row.name for row in seen.rows(connection)] == ["by session", "prepared"]


def test_a_query_that_is_new_may_be_asked_by_many_threads(store: SqlStore, database: Database) -> None:
    claimed(store)
    query, together = PreparedQuery(_BY_ID), threading.Barrier(8)

    def ask(_: int) -> AttemptState:
        together.wait(10)
        with database.connected() as connection:
            row = query.one_or_none(connection, {"id": 1})
        assert row is not None
        return AttemptState(row.state)

    assert set(at_once(8, ask)) == {AttemptState.PREPARING}
