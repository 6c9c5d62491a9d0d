"""How a change becomes a run: heads are moved, and with them everything that is owed, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, cast

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from orchestrator.domain.action import ActionState, action_key
from orchestrator.domain.change import PULLS, Cause
from orchestrator.domain.codec import to_plain
from orchestrator.domain.errors import NotFound
from orchestrator.domain.looks import looks_of
from orchestrator.domain.run import AttemptState, Purpose, Reason, RunState, seed_for
from orchestrator.ports.records import (
    CommentMove,
    DataMove,
    HeadMove,
    Move,
    NewAction,
    NewRun,
    ScheduleMove,
    UpstreamMove,
)
from orchestrator.store.deliveries import heed_comment
from orchestrator.store.occasions import follow_run, serve_time
from orchestrator.store.prepared import PreparedQuery, PreparedWrite
from orchestrator.store.statuses import owe_status
from orchestrator.store.tables import (
    ActionRow,
    AttemptRow,
    ChangeRow,
    DataHeadRow,
    HeadRow,
    PipelineRow,
    RunRow,
)
from orchestrator.store.transitions import Once, TooLate, changed, flushed, inserted, record

# Put together once, for several runs may be enqueued at a time.
_CHANGE = PreparedWrite(insert(ChangeRow))
_CHANGE_ONCE = Once(ChangeRow)
_SET_RANK = PreparedWrite(update(ChangeRow).where(ChangeRow.id == bindparam("change_id")))
_COUNT = PreparedWrite(
    update(PipelineRow)
    .where(PipelineRow.name == bindparam("pipeline"))
    .values(last_number=PipelineRow.last_number + 1)
)
_COUNTER = Once(PipelineRow)
_LAST_NUMBER = PreparedQuery(select(PipelineRow.last_number).where(PipelineRow.name == bindparam("pipeline")))
_RUN = PreparedWrite(insert(RunRow))
_SET_ORIGIN = PreparedWrite(update(RunRow).where(RunRow.id == bindparam("run_id")))
_UNFINISHED = tuple(state for state in RunState if not state.final)
_WAITING = (RunState.AWAITING_APPROVAL,)
_ON_BRANCH = (
    select(RunRow.id, RunRow.state)
    .join(ChangeRow, ChangeRow.id == RunRow.change_id)
    .where(
        RunRow.pipeline == bindparam("pipeline"),
        RunRow.purpose == Purpose.TRAIN,
        ChangeRow.branch == bindparam("branch"),
        ChangeRow.revision["source"].as_string() == bindparam("source"),
    )
    .order_by(RunRow.id)
)
_OLDER = {
    states: PreparedQuery(_ON_BRANCH.where(RunRow.state.in_(states))) for states in (_UNFINISHED, _WAITING)
}
_END_WAITING = (
    update(RunRow)
    .where(RunRow.id == bindparam("run_id"), RunRow.state == RunState.AWAITING_APPROVAL)
    .values(
        state=RunState.CANCELLED,
        reason=Reason.SUPERSEDED,
        message=bindparam("why"),
        finished_at=bindparam("at"),
    )
)
_ASK_TO_END = (
    update(RunRow)
    .where(RunRow.id == bindparam("run_id"), RunRow.state.in_(_UNFINISHED), RunRow.cancel_reason.is_(None))
    .values(cancel_requested_by=bindparam("who"), cancel_reason=Reason.SUPERSEDED)
)
_ATTEMPT = Once(AttemptRow)
_ACTION = Once(ActionRow)


WATCHER: Final = "watcher"
"""Who tells what was decided of what was seen."""


def apply_moves(session: Session, pipeline: str, moves: Sequence[Move], at: datetime) -> str:
    """Move heads and return the key of the change that this is; TooLate when one is no longer where it was.

    The key names each move by its count, so that a commit that comes back is a change of its own.
    """
    # One order for everybody: two servers with the same moves wait for each other instead of both failing.
    parts = [_apply(session, pipeline, move, at) for move in sorted(moves, key=_order)]
    key = " + ".join(part for part in parts if part)
    for move in moves:
        if isinstance(move, HeadMove) and move.new is None and move.branch.startswith(PULLS):
            older = _older(session, pipeline, move.source, move.branch, _WAITING)
            _end_waiting(session, older, "the pull request is closed", at)
    return key


def _order(move: Move) -> tuple[str, str, str]:
    match move:
        case CommentMove():
            return ("", str(move.comment), "")
        case UpstreamMove():
            return ("after", move.upstream, "")
        case ScheduleMove():
            return ("schedule", move.schedule, "")
        case HeadMove():
            return ("head", move.source, move.branch)
        case DataMove():
            return ("data", move.dataset, "")


def _apply(session: Session, pipeline: str, move: Move, at: datetime) -> str:
    match move:
        case CommentMove():
            return heed_comment(session, pipeline, move, at)
        case UpstreamMove():
            return follow_run(session, pipeline, move)
        case ScheduleMove():
            return serve_time(session, pipeline, move)
        case HeadMove(source, branch, old, new, count):
            here = (HeadRow.pipeline == pipeline, HeadRow.source == source, HeadRow.branch == branch)
            known = () if count is None else (HeadRow.moves == count,)
            if old is not None and old == new:
                # A write, so that no other transaction moves it before this one ends.
                still = update(HeadRow).where(*here, HeadRow.commit == old).values(commit=new)
                return _require(changed(session, still))
            guarded = (
                update(HeadRow)
                .where(*here, *known, HeadRow.commit.is_not_distinct_from(old))
                .values(commit=new, moves=HeadRow.moves + 1)
            )
            begun = HeadRow(pipeline=pipeline, source=source, branch=branch, commit=new, moves=1)
            unknown = old is None and not count
            if not changed(session, guarded) and not (unknown and inserted(session, begun)):
                raise TooLate
            return f"head {source}:{branch}@{session.scalar(select(HeadRow.moves).where(*here))}"
        case DataMove(dataset, old, new, count):
            there = (DataHeadRow.pipeline == pipeline, DataHeadRow.dataset == dataset)
            counted = () if count is None else (DataHeadRow.moves == count,)
            seen = update(DataHeadRow).where(*there, *counted, DataHeadRow.fingerprint == old)
            if old == new:
                return _require(changed(session, seen.values(fingerprint=new)))
            moved = seen.values(fingerprint=new, moves=DataHeadRow.moves + 1)
            first = DataHeadRow(pipeline=pipeline, dataset=dataset, fingerprint=new, moves=1)
            _require(inserted(session, first) if old is None else changed(session, moved))
            return f"data {dataset}@{session.scalar(select(DataHeadRow.moves).where(*there))}"


def _require(rows: int) -> str:
    if not rows:
        raise TooLate
    return ""


def add_run(session: Session, new: NewRun, key: str, at: datetime) -> int:
    """Insert the change, the run, its attempts and its start actions, and return the run's id.

    TooLate where what is to be made once is there.
    """
    pipeline = new.pipeline
    change = {
        "pipeline": pipeline.name,
        "key": key,
        "cause": new.cause,
        "branch": new.revision.branch,
        "revision": to_plain(new.revision),
        "datasets": to_plain(new.datasets),
        "note": new.note,
        "requested_by": new.requested_by,
        "rank": 0,
    }
    change_id = _CHANGE_ONCE.number(session, change) if new.once else _add(session, _CHANGE, change)
    if change_id is None:
        raise TooLate
    changed(session, _SET_RANK, {"change_id": change_id, "rank": _rank(session, new, change_id)})
    replicates = new.replicates or pipeline.replicates
    state = RunState.AWAITING_APPROVAL if new.needs_approval else RunState.QUEUED
    number = _next_number(session, pipeline.name)
    # Of many that wait for a slot none is of interest, unless it is to be ended.
    states = _UNFINISHED if new.supersede else _WAITING
    older = _older(session, pipeline.name, new.revision.source, new.revision.branch, states)
    run_id = _add(
        session,
        _RUN,
        {
            "number": number,
            "pipeline": pipeline.name,
            "project": pipeline.project,
            "purpose": new.purpose,
            "state": state,
            "change_id": change_id,
            "created_at": at,
            "replicates": replicates,
            "host_wish": new.host_wish,
            "priority": pipeline.priority if new.priority is None else new.priority,
            "seed_run_id": 0,
            "message": "",
            "definition": to_plain(pipeline),
        },
    )
    seed_run_id = _seed_run_id(session, new, run_id)
    origin = {"seed_run_id": seed_run_id, "rerun_of": new.rerun_of}
    changed(session, _SET_ORIGIN, {"run_id": run_id, **origin})
    record(session, at, new.requested_by, f"run {run_id}", run_id, "", state.value, new.cause.value)
    if state is RunState.QUEUED:
        first = looks_of(pipeline, new.purpose, replicates)[0]
        add_replicates(session, run_id, seed_run_id, range(first), at)
        add_actions(session, run_id, new.start_actions, new.requested_by, at)
    if new.purpose is Purpose.TRAIN:
        title = f"{pipeline.name} #{number}"
        _end_waiting(session, older, f"{title} came after it", at)
        if new.supersede:
            _ask_to_end(session, older, title, at)
    owe_status(session, run_id, new)
    return run_id


def _older(
    session: Session, pipeline: str, source: str, branch: str, states: tuple[RunState, ...]
) -> list[tuple[int, RunState]]:
    """The runs of a branch that are in one of these states."""
    wanted = {"pipeline": pipeline, "source": source, "branch": branch}
    return [(row.id, row.state) for row in _OLDER[states].rows(session.connection(), wanted)]


def _end_waiting(session: Session, runs: Sequence[tuple[int, RunState]], why: str, at: datetime) -> None:
    """What nobody has approved yet is not to be approved any more."""
    waits, ended = RunState.AWAITING_APPROVAL, RunState.CANCELLED
    for run_id, state in runs:
        if state is waits and changed(session, _END_WAITING, {"run_id": run_id, "why": why, "at": at}):
            told = f"{Reason.SUPERSEDED.value}: {why}"
            record(session, at, WATCHER, f"run {run_id}", run_id, waits.value, ended.value, told)


def _ask_to_end(session: Session, runs: Sequence[tuple[int, RunState]], who: str, at: datetime) -> None:
    for run_id, _ in runs:
        if changed(session, _ASK_TO_END, {"run_id": run_id, "who": who}):
            what = f"asked to end: {Reason.SUPERSEDED.value}"
            record(session, at, who, f"run {run_id}", run_id, "", "", what)


def _add(session: Session, statement: PreparedWrite, values: Mapping[str, object]) -> int:
    """Insert a row; the id that it was given."""
    return cast(int, statement.number(flushed(session), values))


def _rank(session: Session, new: NewRun, change_id: int) -> int:
    """A new change is the newest, unless somebody asked for what is not; a re-run stays where its original
    is.
    """
    if new.rank is not None:
        return new.rank
    if new.cause is not Cause.RERUN or new.rerun_of is None:
        return change_id
    original = session.scalar(
        select(ChangeRow.rank).join(RunRow, RunRow.change_id == ChangeRow.id).where(RunRow.id == new.rerun_of)
    )
    if original is None:
        raise NotFound(f"there is no run {new.rerun_of} to run again")
    return original


def _next_number(session: Session, pipeline: str) -> int:
    """Count the pipeline's runs; the counter's row stays locked until the transaction ends."""
    mine = {"pipeline": pipeline}
    if not changed(session, _COUNT, mine) and not _COUNTER.add(session, {"name": pipeline, "last_number": 1}):
        changed(session, _COUNT, mine)
    return int(_LAST_NUMBER.scalar(session.connection(), mine))


def _seed_run_id(session: Session, new: NewRun, run_id: int) -> int:
    """The run whose id the seeds derive from. To reproduce a reproduction is to reproduce its original."""
    original = None
    if new.rerun_of is not None:
        original = session.scalar(select(RunRow.seed_run_id).where(RunRow.id == new.rerun_of))
        if original is None:
            raise NotFound(f"there is no run {new.rerun_of} to run again")
    if new.purpose is not Purpose.REPRODUCE:
        # What trains all changes with the same seeds derives them from no run.
        return 0 if new.pipeline.looks.pair_seeds and new.purpose is Purpose.TRAIN else run_id
    if original is None:
        raise NotFound("the run to reproduce was not named")
    return original


def add_replicates(
    session: Session, run_id: int, seed_run_id: int, replicates: Iterable[int], at: datetime
) -> None:
    """Insert the first attempts of these replicates; one that is there already stays as it is."""
    for replicate in replicates:
        add_attempt(session, run_id, replicate, 1, seed_for(seed_run_id, replicate), None, at)


def add_attempt(
    session: Session,
    run_id: int,
    replicate: int,
    number: int,
    seed: int,
    not_before: datetime | None,
    at: datetime,
) -> None:
    """Insert a QUEUED attempt; one that is there already stays as it is."""
    attempt_id = _ATTEMPT.number(
        session,
        {
            "run_id": run_id,
            "replicate": replicate,
            "number": number,
            "seed": seed,
            "state": AttemptState.QUEUED,
            "container": "",
            "container_id": "",
            "image_digest": "",
            "message": "",
            "warnings": [],
            "left_out": [],
            "not_before": not_before,
            "created_at": at,
        },
    )
    if attempt_id is not None:
        what = f"replicate {replicate}, try {number}"
        record(session, at, "", f"attempt {attempt_id}", run_id, "", AttemptState.QUEUED.value, what)


def add_actions(session: Session, run_id: int, actions: Sequence[NewAction], who: str, at: datetime) -> None:
    """Insert PENDING actions; one that is owed already stays as it is."""
    for action in actions:
        action_id = _ACTION.number(
            session,
            {
                "run_id": run_id,
                "key": action_key(run_id, action.trigger, action.position),
                "trigger": action.trigger,
                "position": action.position,
                "spec": to_plain(action.spec),
                "state": ActionState.PENDING,
                "tries": 0,
                "message": "",
                "created_at": at,
            },
        )
        if action_id is not None:
            what = f"{action.spec.kind} on {action.trigger.value}"
            record(session, at, who, f"action {action_id}", run_id, "", ActionState.PENDING.value, what)
