"""What only a database server does: writers that commit out of order, errors with a SQLSTATE, going away."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url, select, text

from orchestrator.domain.change import Cause
from orchestrator.domain.errors import OrchestratorError, StoreError, StoreUnavailable
from orchestrator.domain.retention import Kind
from orchestrator.ports.records import UpstreamMove
from orchestrator.store import SqlStore, migrations, open_store
from orchestrator.store.engine import Database, parse_url
from orchestrator.store.tables import PinRow, PipelineRow
from orchestrator.store.transitions import record
from tests.support.engine import built
from tests.support.postgres import SERVER_FOLDER, PostgresServer, postgres_server
from tests.support.waiting import wait_until
from tests.unit.store.support import AT, at_once, enqueue, new_run, pipeline
from tests.unit.store.test_retention import MODEL, going, trained

if TYPE_CHECKING:
    import docker

ROOT = Path(__file__).parents[3]


def test_the_database_says_what_it_is(store: SqlStore) -> None:
    assert store.database_version().startswith("PostgreSQL 15.")


def test_readers_write_nothing_and_see_one_moment(store: SqlStore, database: Database) -> None:
    before = enqueue(store)
    with database.reading() as session:
        assert session.scalars(text("SELECT id FROM runs")).all() == [before.id]
        enqueue(store)
        assert session.scalars(text("SELECT id FROM runs")).all() == [before.id]
        with pytest.raises(StoreUnavailable, match="cannot work now"), database.reading() as other:
            other.execute(text("DELETE FROM journal"))


def test_the_head_of_the_journal_moves_when_an_older_row_comes_late(
    store: SqlStore, database: Database
) -> None:
    with database.writing() as slow:
        record(slow, AT, "slow", "run 1", None, "", "")
        slow.flush()
        store.journal.note("quick", "run 2", "", AT)
        before = store.journal.head()
    assert [entry.who for entry in store.journal.latest()] == ["quick", "slow"]
    assert store.journal.head() > before


@pytest.mark.parametrize(
    ("statement", "error", "told"),
    [
        ("SELECT pg_sleep(5)", StoreUnavailable, "statement timeout"),
        ("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE", StoreUnavailable, "lock timeout"),
        ("SELECT 1 FROM no_such_table", StoreError, "run `orchestrator db upgrade`"),
        ("INSERT INTO meta (name, value) VALUES ('instance', 's3cret')", StoreError, "duplicate key"),
    ],
)
def test_what_the_server_says_is_told_by_its_code_and_without_values(
    url: str, store: SqlStore, database: Database, statement: str, error: type[StoreError], told: str
) -> None:
    options = {"options": "-c statement_timeout=400 -c lock_timeout=200"}
    hasty = Database(parse_url(url).update_query_dict(options))
    try:
        with database.writing() as holder:
            holder.execute(text("SELECT 1 FROM runs"))
            with pytest.raises(error) as refusal, hasty.writing() as session:
                session.execute(text(statement))
        assert type(refusal.value) is error
        assert told in f"{refusal.value.message} {refusal.value.remedy}"
        assert "s3cret" not in str(refusal.value)
    finally:
        hasty.close()


def test_servers_that_follow_a_run_at_the_same_moment_make_one_run(store: SqlStore) -> None:
    occasions = store.occasions
    mark = occasions.mark("wine", "prep")
    move = UpstreamMove("prep", mark + 2)
    made = at_once(4, lambda _: store.runs.enqueue(new_run(), (move,), "wine", AT))
    assert sum(run is not None for run in made) == 1
    assert occasions.followed("wine", "prep", mark) == {mark + 2}
    occasions.move_mark("wine", "prep", mark + 3)
    assert occasions.followed("wine", "prep", mark) == frozenset()
    assert store.runs.enqueue(new_run(), (move,), "wine", AT) is None


def test_a_deadlock_is_over_at_once_and_no_defect(store: SqlStore, database: Database, url: str) -> None:
    for name in ("a", "b"):
        enqueue(store, new_run(pipeline(name), cause=Cause.MANUAL))
    first_has_both = threading.Barrier(2)
    count = text("UPDATE pipelines SET last_number = last_number + 1 WHERE name = :name")

    def count_both(index: int) -> str:
        one, other = ("a", "b") if index else ("b", "a")
        try:
            with database.writing() as session:
                session.execute(count, {"name": one})
                first_has_both.wait(timeout=30)
                session.execute(count, {"name": other})
        except StoreUnavailable as error:
            return error.message
        return "done"

    lost, done = sorted(at_once(2, count_both), key=lambda told: told == "done")
    assert "deadlock detected" in lost
    assert done == "done"


def refused(url: str) -> OrchestratorError:
    with pytest.raises(OrchestratorError) as refusal:
        open_store(url)
    return refusal.value


def test_a_server_that_is_not_there_or_does_not_know_us_is_unavailable_and_hears_no_password_repeated(
    postgres_server: PostgresServer,
) -> None:
    nobody = make_url(postgres_server.url("none")).set(port=1).render_as_string(hide_password=False)
    for url in (nobody, postgres_server.url("no_such_database"), postgres_server.url("none", "wr0ng-word")):
        error = refused(url)
        assert isinstance(error, StoreUnavailable)
        assert "storage.database" in error.remedy
        password = make_url(url).password
        assert isinstance(password, str)
        assert password not in f"{error!r} {error} {error.remedy} {error.__cause__!r}"


def test_what_to_do_about_a_refused_login_differs_from_a_server_that_is_not_there(
    postgres_server: PostgresServer,
) -> None:
    url = make_url(postgres_server.url("orchestrator"))
    without = url._replace(password=None).render_as_string(hide_password=False)
    assert "wants a password" in refused(without).remedy
    for login in (postgres_server.url("no_such_database"), postgres_server.url("none", "wr0ng-word")):
        assert "the server runs and was given a password" in refused(login).remedy
    for other in (url.set(port=1), url.update_query_dict({"sslmode": "require"})):
        remedy = refused(other.render_as_string(hide_password=False)).remedy
        assert "reached from here" in remedy
        assert "TLS" in remedy


def test_without_its_driver_the_package_to_install_is_named(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    error = refused(url)
    assert "psycopg" in error.message
    assert "[postgres]" in error.remedy


CLAIMER = """
import sys
from datetime import timedelta
from orchestrator.store import open_store
from tests.unit.store.support import AT, SECONDS, claim

store, owner = open_store(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for attempt in store.attempts.queued(AT):
    if claim(store, attempt, owner, "shared", slots=100) is not None:
        print(attempt.id, flush=True)
"""


def test_two_servers_never_claim_the_same_attempt_and_leave_none(url: str, store: SqlStore) -> None:
    for _ in range(30):
        enqueue(store, new_run(cause=Cause.MANUAL))
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, url, owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for owner in ("one", "two")
    ]
    for server in servers:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
    claimed = [server.communicate("go\n", timeout=60)[0].split() for server in servers]
    assert [server.returncode for server in servers] == [0, 0]
    assert sorted(int(number) for numbers in claimed for number in numbers) == list(range(1, 31))
    assert sum(store.attempts.slots_in_use().values()) == 30


STARTER = """
import sys
from orchestrator.store import open_store

sys.stdin.readline()
print(open_store(sys.argv[1]).instance)
"""


def test_two_servers_that_start_on_an_empty_database_make_one(empty_url: str) -> None:
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for _ in range(2)
    ]
    first, second = (process.communicate("go\n", timeout=60)[0] for process in starting)
    assert first == second
    assert len(first.strip()) == 32
    assert migrations.is_current(empty_url)


@pytest.mark.parametrize("kind", [Kind.RUNS, Kind.ARTIFACTS, Kind.LOGS])
def test_a_run_that_is_being_pinned_while_retention_waits_for_it_stays_with_all_it_has(
    url: str, store: SqlStore, database: Database, kind: Kind
) -> None:
    run = trained(store, MODEL)
    attempt = store.attempts.of_run(run.id)[0].id
    things = [going(run, kind)]
    removing: dict[Kind, Callable[[], int]] = {
        Kind.RUNS: lambda: store.retention.remove_runs(things, "retention", AT),
        Kind.ARTIFACTS: lambda: store.retention.remove_artifacts(things, "retention", AT),
        Kind.LOGS: lambda: store.retention.remove_logs(things, {run.id: [attempt]}, "retention", AT),
    }
    with ThreadPoolExecutor(1) as others:
        with database.writing() as session:
            session.add(PinRow(pipeline=run.pipeline, name="", run_id=run.id))
            session.flush()
            removed = others.submit(removing[kind])
            wait_until(lambda: somebody_waits(url), "retention to wait for the run")
        assert removed.result(timeout=30) == 0
    assert [file.removed for file in store.attempts.artifacts(attempt)] == [""]
    assert store.attempts.get(attempt).log_removed == ""


def somebody_waits(url: str) -> bool:
    """Whether a connection to this database waits for a lock that another one has."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with migrations.connected(url, writes=False) as connection:
        return connection.scalar(text(waiting)) is not None


@pytest.fixture
def own_server(docker_engine: docker.DockerClient, base_image: str) -> Iterator[PostgresServer]:
    with postgres_server(docker_engine, built(docker_engine, SERVER_FOLDER)) as server:
        yield server


def test_a_server_that_goes_away_and_comes_back_loses_nothing(own_server: PostgresServer) -> None:
    with own_server.database() as name, closing(open_store(own_server.url(name))) as store:
        told: Counter[str] = Counter()
        failed = 0
        for number in range(1, 61):
            if number == 20:
                own_server.container.kill("SIGKILL")
            if number == 40:
                own_server.container.start()
                own_server.wait_until_it_answers()
            try:
                store.journal.note("ann", "run 1", str(number), AT)
                told[str(number)] += 1
            except StoreUnavailable:
                failed += 1
        assert Counter(entry.reason for entry in store.journal.of_run(1)) == told
        assert 1 <= failed <= 21
        assert {str(number) for number in (*range(1, 20), *range(41, 61))} <= set(told)


@pytest.mark.parametrize("locking", [True, False])
def test_writers_that_read_first_need_the_lock_on_what_they_read(
    store: SqlStore, url: str, locking: bool
) -> None:
    enqueue(store)
    read = select(PipelineRow.last_number)
    write = text("UPDATE pipelines SET last_number = :number")
    all_have_read = threading.Barrier(20)

    def count(_: int) -> None:
        own = Database(parse_url(url))
        try:
            with own.writing() as session:
                number = session.scalars(read.with_for_update() if locking else read).one()
                if not locking:
                    all_have_read.wait(timeout=60)
                session.execute(write, {"number": number + 1})
        finally:
            own.close()

    at_once(20, count)
    with closing(Database(parse_url(url))) as database, database.reading() as session:
        assert session.scalars(read).one() == (21 if locking else 2)
