"""What the tests of the store build on: small values, shortcuts along the line, and a look at all rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import TypeVar

from sqlalchemy import select, update

from orchestrator.domain.action import Action, Trigger
from orchestrator.domain.action_spec import DeployAction, EmailAction
from orchestrator.domain.change import Cause, DatasetRole, DatasetVersion, Revision
from orchestrator.domain.check import parse_check
from orchestrator.domain.gate import Gate, Outcome, Verdict
from orchestrator.domain.pipeline import Execution, NamedImage, Pipeline, RunnerSpec, SourceSpec
from orchestrator.domain.run import Attempt, AttemptState, Purpose, Reason, Run, RunState
from orchestrator.ports.records import AttemptResult, DataMove, HeadMove, Lease, NewAction, NewRun
from orchestrator.store import SqlStore
from orchestrator.store.engine import Database, parse_url
from orchestrator.store.tables import ActionRow, AttemptRow, Base, DeploymentRow, RunRow

T = TypeVar("T")

AT = datetime(2026, 11, 23, 5, 44, 59, 123456, tzinfo=UTC)
SECONDS = 30.0
DEPLOY = NewAction(Trigger.PASS, 0, DeployAction("shop", ("model.pkl",)))
MAIL = NewAction(Trigger.PASS, 1, EmailAction(("dev@example.org",)))
VERDICT = Verdict(Outcome.PASS, "all checks hold")
DATA = DatasetVersion("wine", "f" * 64, 3, 4096, DatasetRole.EVALUATION, 7)
_numbers = count()


def later(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def pipeline(name: str = "wine", replicates: int = 1) -> Pipeline:
    return Pipeline(
        name=name,
        sources=(SourceSpec("code", "/srv/wine.git"),),
        runner=RunnerSpec("small", NamedImage("python:3.11")),
        execution=Execution(("python", "train.py"), env=(("EPOCHS", "3"),)),
        project="shop",
        replicates=replicates,
        gate=Gate((parse_check("accuracy >= 0.9"), parse_check("accuracy not worse than best by 0.5pp"))),
        actions=((Trigger.PASS, DEPLOY.spec), (Trigger.PASS, MAIL.spec)),
    )


def new_run(
    frozen: Pipeline | None = None,
    branch: str = "main",
    commit: str = "a" * 40,
    cause: Cause = Cause.PUSH,
    purpose: Purpose = Purpose.TRAIN,
    rerun_of: int | None = None,
    start_actions: tuple[NewAction, ...] = (),
) -> NewRun:
    return NewRun(
        frozen or pipeline(),
        cause,
        Revision("code", branch, commit, "Use fewer trees", "Ann", "ann@example.org", AT),
        (DATA,),
        purpose=purpose,
        rerun_of=rerun_of,
        start_actions=start_actions,
    )


def head(old: str | None, new: str | None, branch: str = "main") -> HeadMove:
    return HeadMove("code", branch, old, new)


def enqueue(
    store: SqlStore, new: NewRun | None = None, *moves: HeadMove | DataMove, at: datetime = AT
) -> Run:
    new = new or new_run()
    run = store.runs.enqueue(new, moves, new.pipeline.name, at)
    assert run is not None
    return run


def claim(
    store: SqlStore,
    attempt: Attempt,
    owner: str = "one",
    host: str | None = None,
    slots: int = 1,
    at: datetime = AT,
) -> Lease | None:
    """Claim an attempt, on a host of its own unless one is named."""
    where = host or f"host-{next(_numbers)}"
    return store.attempts.claim(attempt.id, where, slots, f"mlci-{attempt.id}", owner, at, SECONDS)


def claimed(store: SqlStore, run: Run | None = None, owner: str = "one", at: datetime = AT) -> Lease:
    """The lease on the first attempt of a run, which is enqueued when none is given."""
    attempt = store.attempts.of_run((run or enqueue(store)).id)[0]
    lease = claim(store, attempt, owner, at=at)
    assert lease is not None
    return lease


def succeed(store: SqlStore, lease: Lease, result: AttemptResult | None = None) -> Attempt:
    store.attempts.advance(lease, AttemptState.PREPARING, AttemptState.RUNNING, AT)
    store.attempts.advance(lease, AttemptState.RUNNING, AttemptState.COLLECTING, AT)
    done = result or AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED)
    return store.attempts.finish(lease, AttemptState.COLLECTING, done, AT)


def passed(store: SqlStore, new: NewRun | None = None, *actions: NewAction) -> Run:
    """A run that went all the way."""
    run = enqueue(store, new)
    for attempt in store.attempts.of_run(run.id):
        lease = claim(store, attempt)
        assert lease is not None
        succeed(store, lease)
    store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, AT)
    return store.runs.move(run.id, RunState.EVALUATING, RunState.PASSED, AT, verdict=VERDICT, actions=actions)


def owed(store: SqlStore, action: NewAction = DEPLOY) -> Action:
    """An action of a run that passed."""
    run = passed(store, None, action)
    return store.actions.of_run(run.id)[0]


def working(store: SqlStore, action: Action | None = None, owner: str = "one", at: datetime = AT) -> Lease:
    """The lease on an action, which is made when none is given."""
    lease = store.actions.claim((action or owed(store)).id, owner, at, SECONDS)
    assert lease is not None
    return lease


Stateful = type[RunRow] | type[AttemptRow] | type[ActionRow] | type[DeploymentRow]


def force(database: Database, row: Stateful, row_id: int, state: StrEnum) -> None:
    """Put a row into a state, whatever its guards say."""
    with database.writing() as session:
        session.execute(update(row).where(row.id == row_id).values(state=state))


def all_rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with database.reading() as session:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }


def file_of(url: str) -> Path | None:
    """The file of a SQLite database; None where a server keeps it."""
    parsed = parse_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def at_once(threads: int, act: Callable[[int], T]) -> list[T]:
    """Call ``act`` with 0, 1, ... in that many threads that start together, and return what it returned."""
    barrier = threading.Barrier(threads)
    results: list[T] = []
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            barrier.wait(timeout=30)
            results.append(act(index))
        except BaseException as error:  # noqa: BLE001 - raised again by the test's own thread
            errors.append(error)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    return results
