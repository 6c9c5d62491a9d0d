"""Runs with their changes."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    cast,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased

from orchestrator.domain.change import Change, DatasetVersion, Revision
from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.errors import LeaseLost, NotFound
from orchestrator.domain.gate import Verdict
from orchestrator.domain.metrics import Metric
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import (
    CONSEQUENCES,
    RUN_TRANSITIONS,
    AttemptState,
    Purpose,
    Reason,
    Run,
    RunState,
)
from orchestrator.ports.baselines import NewUse
from orchestrator.ports.records import Move, NewAction, NewRun, Standing, Told
from orchestrator.store.engine import Database
from orchestrator.store.enqueue import (
    WATCHER,
    add_actions,
    add_attempt,
    add_replicates,
    add_run,
    apply_moves,
)
from orchestrator.store.findings import metric_of
from orchestrator.store.prepared import PreparedQuery, PreparedWrite
from orchestrator.store.tables import (
    AttemptRow,
    ChangeRow,
    DeploymentRow,
    JournalRow,
    MetricRow,
    PinRow,
    RunRow,
)
from orchestrator.store.transitions import REMOVED, Tokens, TooLate, changed, put, record, require_legal
from orchestrator.store.uses import note_uses

_REFERENCE = re.compile(r"(?:(?P<pipeline>.+?)\s*#)?(?P<number>[1-9][0-9]{0,17})")
_UNFINISHED = tuple(state for state in RunState if not state.final)
_BEGUN = tuple(state for state in _UNFINISHED if state is not RunState.QUEUED)
_ENDED = tuple(state for state in AttemptState if state.final)
_REMEMBERED = 256
_TEXTS = 32
"""So many pipelines are remembered by what is stored of them: many runs in a row have the same."""
_REACHED = (DeploymentState.ACTIVE, DeploymentState.RETIRED)
_JUDGED = (RunState.PASSED, RunState.REJECTED, RunState.FAILED)


class SqlRuns:
    """Implements ``ports.store.Runs``."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self._tokens = tokens
        # Frozen with the run, and asked for at every step of its way.
        self._definitions: OrderedDict[int, Pipeline] = OrderedDict()
        self._by_text: OrderedDict[str, Pipeline] = OrderedDict()
        self._remembering = threading.Lock()

    def enqueue(
        self,
        new: NewRun | None,
        moves: Sequence[Move],
        pipeline: str,
        at: datetime,
        told: Sequence[Told] = (),
    ) -> Run | None:
        if new is not None and new.pipeline.name != pipeline:
            raise ValueError(f"moves of pipeline {pipeline} cannot make a run of {new.pipeline.name}")
        try:
            with self._database.writing() as session:
                key = apply_moves(session, pipeline, moves, at)
                for line in told:
                    record(session, at, WATCHER, line.subject, None, "", "", line.text)
                if new is None:
                    return None
                run_id = add_run(session, new, key or new.once or f"manual {self._tokens()}", at)
                return run_of(session.connection(), run_id)
        except TooLate:
            return None

    def get(self, run_id: int) -> Run:
        with self._database.connected() as connection:
            return run_of(connection, run_id)

    def find(self, reference: str) -> Run:
        match = _REFERENCE.fullmatch(reference.strip())
        if match is None:
            raise NotFound(
                f"'{reference}' names no run", "write a run's id (12) or pipeline and number (name#42)"
            )
        if match["pipeline"] is None:
            return self.get(int(match["number"]))
        named = _RUNS.where(RunRow.pipeline == match["pipeline"], RunRow.number == int(match["number"]))
        with self._database.connected() as connection:
            if found := _fetch(connection, named):
                return found[0]
            raise _missing(connection, reference.strip(), match["pipeline"], int(match["number"]))

    def definition(self, run_id: int) -> Pipeline:
        with self._remembering:
            known = self._definitions.get(run_id)
        if known is not None:
            return known
        with self._database.connected() as connection:
            told = _DEFINITION.scalar(connection, {"id": run_id})
        if told is None:
            raise NotFound(f"there is no run {run_id}")
        with self._remembering:
            same = self._by_text.get(told)
        found = from_plain(Pipeline, json.loads(told)) if same is None else same
        with self._remembering:
            self._definitions[run_id] = found
            while len(self._definitions) > _REMEMBERED:
                self._definitions.popitem(last=False)
            self._by_text[told] = found
            while len(self._by_text) > _TEXTS:
                self._by_text.popitem(last=False)
        return found

    def listing(
        self,
        pipeline: str | None = None,
        states: Sequence[RunState] = (),
        branch: str | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> Sequence[Run]:
        wanted = _RUNS.order_by(RunRow.id.desc()).limit(limit)
        if pipeline is not None:
            wanted = wanted.where(RunRow.pipeline == pipeline)
        if states:
            wanted = wanted.where(RunRow.state.in_(states))
        if branch is not None:
            wanted = wanted.where(ChangeRow.branch == branch)
        if before is not None:
            wanted = wanted.where(RunRow.id < before)
        with self._database.connected() as connection:
            return _fetch(connection, wanted)

    def unfinished(self) -> Sequence[Run]:
        with self._database.connected() as connection:
            return _fetch(connection, _RUNS.where(RunRow.state.in_(_UNFINISHED)).order_by(RunRow.id))

    def newest_ended(self) -> Mapping[str, Run]:
        with self._database.connected() as connection:
            return {run.pipeline: run for run in _fetch(connection, _NEWEST_ENDED)}

    def moving(self) -> Sequence[Standing]:
        with self._database.connected() as connection:
            return [Standing(*row) for row in _MOVING.rows(connection)]

    def previous_state(self, run: Run) -> RunState | None:
        if run.purpose is not Purpose.TRAIN:
            return None
        before = {"pipeline": run.pipeline, "id": run.id, "branch": run.change.revision.branch}
        with self._database.connected() as connection:
            found: RunState | None = _PREVIOUS_STATE.scalar(connection, before)
        return found

    def passed_before(self, run: Run) -> Run | None:
        before = {"pipeline": run.pipeline, "id": run.id, "branch": run.change.revision.branch}
        with self._database.connected() as connection:
            found = _PASSED_BEFORE.rows(connection, before)
        return _run(found[0]) if found else None

    def metrics(self, run_id: int) -> Mapping[int, Sequence[Metric]]:
        with self._database.connected() as connection:
            tries = _TRIES.rows(connection, {"run_id": run_id})
            latest = {row.replicate: row.id for row in tries}
            states = {row.id: row.state for row in tries}
            if any(states[attempt_id] is AttemptState.SUCCEEDED for attempt_id in latest.values()):
                latest = {r: attempt_id for r, attempt_id in latest.items() if states[attempt_id] not in _BAD}
            found: dict[int, list[Metric]] = {attempt_id: [] for attempt_id in latest.values()}
            for row in _MEASURED.rows(connection, {"run_id": run_id}):
                if row.attempt_id in found:
                    found[row.attempt_id].append(metric_of(row))
        return {replicate: found[attempt_id] for replicate, attempt_id in latest.items()}

    def deployed_ids(self, pipeline: str) -> Sequence[int]:
        other = aliased(DeploymentRow)
        with self._database.reading() as session:
            return session.scalars(
                select(DeploymentRow.run_id)
                .where(
                    DeploymentRow.pipeline == pipeline,
                    DeploymentRow.activated_at.is_not(None),
                    # Not one that was taken back, nor one whose other servers have not followed yet.
                    DeploymentRow.state != DeploymentState.ROLLED_BACK,
                    ~exists()
                    .where(other.action_id == DeploymentRow.action_id, other.state.not_in(_REACHED))
                    .correlate(DeploymentRow),
                )
                .group_by(DeploymentRow.run_id)
                .order_by(func.min(DeploymentRow.activated_at), func.min(DeploymentRow.id))
            ).all()

    def pins(self, pipeline: str) -> Mapping[str, int]:
        with self._database.reading() as session:
            rows = session.execute(select(PinRow.name, PinRow.run_id).where(PinRow.pipeline == pipeline))
            return dict(rows.all())

    def pin(self, pipeline: str, name: str, run_id: int, who: str, reason: str, at: datetime) -> None:
        with self._database.writing() as session:
            if session.scalar(select(RunRow.pipeline).where(RunRow.id == run_id)) != pipeline:
                raise NotFound(f"pipeline {pipeline} has no run {run_id}")
            put(session, PinRow(pipeline=pipeline, name=name, run_id=run_id))
            what = f"pinned as {name}" if name else "pinned"
            record(session, at, who, f"run {run_id}", run_id, "", "", f"{what}: {reason}" if reason else what)

    def unpin(self, pipeline: str, name: str, who: str, reason: str, at: datetime) -> None:
        with self._database.writing() as session:
            pin = session.get(PinRow, (pipeline, name), with_for_update=True)
            if pin is None:
                raise NotFound(f"pipeline {pipeline} has no pin{f' {name}' if name else ''}")
            session.delete(pin)
            what = f"no longer pinned as {name}" if name else "no longer pinned"
            told = f"{what}: {reason}" if reason else what
            record(session, at, who, f"run {pin.run_id}", pin.run_id, "", "", told)

    def move(
        self,
        run_id: int,
        before: RunState,
        after: RunState,
        at: datetime,
        reason: Reason | None = None,
        message: str = "",
        who: str = "",
        verdict: Verdict | None = None,
        actions: Sequence[NewAction] = (),
        through: RunState | None = None,
        uses: Sequence[NewUse] = (),
    ) -> Run:
        way = [before, after] if through is None else [before, through, after]
        for first, second in pairwise(way):
            require_legal(f"run {run_id}", RUN_TRANSITIONS, first, second)
        values: dict[str, object] = {"state": after, "reason": reason, "message": message}
        if verdict is not None:
            values["verdict"] = to_plain(verdict)
        statement: PreparedWrite | Update = _MOVE
        if after is RunState.RUNNING:
            statement = _GUARDED.values(started_at=func.coalesce(RunRow.started_at, at))
        if after.final:
            values["finished_at"] = at
        with self._database.writing() as session:
            if not changed(session, statement, {"run_id": run_id, "before": before, **values}):
                raise LeaseLost(f"run {run_id} is not {before.value} any more")
            why = ": ".join(part for part in (reason.value if reason else "", message) if part)
            if through is not None:
                record(session, at, who, f"run {run_id}", run_id, before.value, through.value)
            record(session, at, who, f"run {run_id}", run_id, way[-2].value, after.value, why)
            if after.final:
                cancel_queued(session, run_id, reason, who, at)
            add_actions(session, run_id, actions, who, at)
            run = run_of(session.connection(), run_id)
            note_uses(session, run_id, run.title, uses, at)
            return run

    def add_try(self, run_id: int, replicate: int, number: int, not_before: datetime, at: datetime) -> None:
        with self._database.writing() as session:
            # Locked, so that a run which ends at this moment leaves no attempt behind.
            state = session.scalar(select(RunRow.state).where(RunRow.id == run_id).with_for_update())
            seed = session.scalar(
                select(AttemptRow.seed)
                .where(AttemptRow.run_id == run_id, AttemptRow.replicate == replicate)
                .limit(1)
            )
            if state is None or seed is None:
                raise NotFound(f"run {run_id} has no replicate {replicate}")
            if state.final:
                raise LeaseLost(f"run {run_id} has ended: {state.value}")
            add_attempt(session, run_id, replicate, number, seed, not_before, at)

    def begin_look(
        self,
        run_id: int,
        before: RunState,
        replicates: int,
        at: datetime,
        why: str = "",
        uses: Sequence[NewUse] = (),
    ) -> Run:
        running = RunState.RUNNING
        if before is not running:
            require_legal(f"run {run_id}", RUN_TRANSITIONS, before, running)
        told = f"replicates: {replicates}{f', {why}' if why else ''}"
        with self._database.writing() as session:
            # Locked, so that a run which ends at this moment leaves no attempt behind.
            row = session.execute(
                select(RunRow.state, RunRow.seed_run_id).where(RunRow.id == run_id).with_for_update()
            ).one_or_none()
            if row is None:
                raise NotFound(f"there is no run {run_id}")
            if row.state is not before:
                raise LeaseLost(f"run {run_id} is not {before.value} any more")
            if before is not running:
                changed(session, _MOVE, {"run_id": run_id, "before": before, "state": running})
            record(session, at, "", f"run {run_id}", run_id, before.value, running.value, told)
            add_replicates(session, run_id, row.seed_run_id, range(replicates), at)
            run = run_of(session.connection(), run_id)
            note_uses(session, run_id, run.title, uses, at)
            return run

    def request_cancel(self, run_id: int, who: str, reason: Reason, at: datetime) -> bool:
        with self._database.writing() as session:
            state = session.scalar(select(RunRow.state).where(RunRow.id == run_id).with_for_update())
            if state is None:
                raise NotFound(f"there is no run {run_id}")
            if state.final:
                return False
            first = (
                update(RunRow)
                .where(RunRow.id == run_id, RunRow.cancel_reason.is_(None))
                .values(cancel_requested_by=who, cancel_reason=reason)
            )
            if changed(session, first):
                what = f"asked to end: {reason.value}"
                record(session, at, who, f"run {run_id}", run_id, "", "", what)
            return True

    def cancel_reason(self, run_id: int) -> Reason | None:
        with self._database.connected() as connection:
            found: Reason | None = _CANCEL_REASON.scalar(connection, {"id": run_id})
        return found


def cancel_queued(session: Session, run_id: int, reason: Reason | None, who: str, at: datetime) -> None:
    """Cancel the attempts of a run that ends which nobody has begun."""
    queued = _QUEUED_TRIES.scalars(session.connection(), {"run_id": run_id})
    if not queued:
        return
    # Whatever made the run fail did not make this attempt fail: it never began.
    fits = reason is not None and CONSEQUENCES[reason].state is AttemptState.CANCELLED
    changed(
        session,
        update(AttemptRow)
        .where(AttemptRow.id.in_(queued), AttemptRow.state == AttemptState.QUEUED)
        .values(
            state=AttemptState.CANCELLED,
            reason=reason if fits else None,
            message="the run ended before this attempt began",
            finished_at=at,
        ),
    )
    before, after = AttemptState.QUEUED.value, AttemptState.CANCELLED.value
    for attempt_id in queued:
        record(session, at, who, f"attempt {attempt_id}", run_id, before, after, "the run ended")


# Statements that every turn of the server makes are put together once; and what they find is read without the
# session's bookkeeping, which would cost more than all the rest.
_RUNS = select(
    *(column for column in RunRow.__table__.c if column.name not in ("change_id", "definition")),
    *(column.label(f"change_{column.name}") for column in ChangeRow.__table__.c),
).join_from(RunRow, ChangeRow, ChangeRow.id == RunRow.change_id)
_ONE = PreparedQuery(_RUNS.where(RunRow.id == bindparam("id")))
_NEWEST_ENDED = _RUNS.where(
    RunRow.id.in_(
        select(func.max(RunRow.id))
        .where(RunRow.state.not_in(_UNFINISHED), RunRow.purpose == Purpose.TRAIN)
        .group_by(RunRow.pipeline)
    )
)
_REMOVALS = select(JournalRow.reason, JournalRow.at)
_GUARDED = update(RunRow).where(RunRow.id == bindparam("run_id"), RunRow.state == bindparam("before"))
_MOVE = PreparedWrite(_GUARDED)
_QUEUED_TRIES = PreparedQuery(
    select(AttemptRow.id)
    .where(AttemptRow.run_id == bindparam("run_id"), AttemptRow.state == AttemptState.QUEUED)
    .order_by(AttemptRow.id)
    .with_for_update()
)
_BAD = (AttemptState.FAILED, AttemptState.ERRORED)
_TRIES = PreparedQuery(
    select(AttemptRow.replicate, AttemptRow.id, AttemptRow.state)
    .where(AttemptRow.run_id == bindparam("run_id"))
    .order_by(AttemptRow.replicate, AttemptRow.number)
)
_MEASURED = PreparedQuery(
    select(*[column for column in MetricRow.__table__.c if column.name != "id"])
    .join(AttemptRow, AttemptRow.id == MetricRow.attempt_id)
    .where(AttemptRow.run_id == bindparam("run_id"))
    .order_by(MetricRow.id)
)
_PREVIOUS_STATE = PreparedQuery(
    select(RunRow.state)
    .join(ChangeRow, ChangeRow.id == RunRow.change_id)
    .where(
        RunRow.pipeline == bindparam("pipeline"),
        RunRow.state.in_(_JUDGED),
        RunRow.purpose == Purpose.TRAIN,
        RunRow.id < bindparam("id"),
        ChangeRow.branch == bindparam("branch"),
    )
    .order_by(RunRow.id.desc())
    .limit(1)
)
_PASSED_BEFORE = PreparedQuery(
    _RUNS.where(
        RunRow.pipeline == bindparam("pipeline"),
        RunRow.state == RunState.PASSED,
        RunRow.purpose == Purpose.TRAIN,
        RunRow.id < bindparam("id"),
        ChangeRow.branch == bindparam("branch"),
    )
    .order_by(RunRow.id.desc())
    .limit(1)
)
_DEFINITION = PreparedQuery(select(cast(RunRow.definition, Text)).where(RunRow.id == bindparam("id")))
_CANCEL_REASON = PreparedQuery(select(RunRow.cancel_reason).where(RunRow.id == bindparam("id")))
_ENDED_TRIES = (
    select(func.count())
    .where(AttemptRow.run_id == RunRow.id, AttemptRow.state.in_(_ENDED))
    .correlate(RunRow)
    .scalar_subquery()
)
_MOVING = PreparedQuery(
    select(RunRow.id, RunRow.state, RunRow.cancel_reason.is_not(None), _ENDED_TRIES)
    .where(
        or_(
            RunRow.state.in_(_BEGUN),
            and_(RunRow.state == RunState.QUEUED, RunRow.cancel_reason.is_not(None)),
        )
    )
    .order_by(RunRow.id)
)


def _fetch(connection: Connection, wanted: Select[Any]) -> list[Run]:
    return [_run(row) for row in connection.execute(wanted)]


def run_of(connection: Connection, run_id: int) -> Run:
    """A run as it is now. NotFound when there is none."""
    row = _ONE.one_or_none(connection, {"id": run_id})
    if row is None:
        raise _missing(connection, str(run_id), None, run_id)
    return _run(row)


def _missing(connection: Connection, reference: str, pipeline: str | None, number: int) -> NotFound:
    """The error for a run that is not there, which says so if it once was."""
    if pipeline is None:
        entry = _REMOVALS.where(JournalRow.run_id == number, JournalRow.after == REMOVED)
    else:
        title = JournalRow.reason.startswith(f"{pipeline}#{number} removed", autoescape=True)
        entry = _REMOVALS.where(JournalRow.after == REMOVED, title)
    gone = connection.execute(entry.limit(1)).one_or_none()
    if gone is None:
        return NotFound(f"there is no run {reference}")
    told = gone.reason.replace(" removed", " was removed", 1)
    return NotFound(f"there is no run {reference} any more: {told}, on {gone.at:%Y-%m-%d}")


def _run(row: Row[Any]) -> Run:
    return Run(
        id=row.id,
        number=row.number,
        pipeline=row.pipeline,
        project=row.project,
        purpose=row.purpose,
        state=row.state,
        change=Change(
            id=row.change_id,
            pipeline=row.change_pipeline,
            key=row.change_key,
            cause=row.change_cause,
            revision=from_plain(Revision, row.change_revision),
            datasets=tuple(from_plain(DatasetVersion, version) for version in row.change_datasets),
            note=row.change_note,
            requested_by=row.change_requested_by,
            rank=row.change_rank,
        ),
        created_at=row.created_at,
        replicates=row.replicates,
        host_wish=row.host_wish,
        priority=row.priority,
        rerun_of=row.rerun_of,
        reason=row.reason,
        message=row.message,
        verdict=None if row.verdict is None else from_plain(Verdict, row.verdict),
        cancel_requested_by=row.cancel_requested_by,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
