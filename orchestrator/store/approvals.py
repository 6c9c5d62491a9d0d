"""Runs that wait for a person, and what was said of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import insert, select, update

from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.errors import NotFound
from orchestrator.domain.gate import Outcome, Verdict
from orchestrator.domain.looks import looks_of
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import RUN_DECISIONS, RUN_TRANSITIONS, Reason, Run, RunState
from orchestrator.ports.hooks import Decision, Ruling
from orchestrator.ports.records import NewAction
from orchestrator.store.engine import Database
from orchestrator.store.enqueue import add_actions, add_replicates
from orchestrator.store.runs import cancel_queued, run_of
from orchestrator.store.tables import DecisionRow, RunRow, StatusRow
from orchestrator.store.transitions import changed, record, require_legal

_WAITS: Final = RunState.AWAITING_APPROVAL


class SqlApprovals:
    """Implements ``ports.hooks.Approvals``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def approve(
        self, run_id: int, who: str, reason: str, at: datetime, actions: Sequence[NewAction] = ()
    ) -> Run | None:
        return self._decide(run_id, Ruling.APPROVED, who, reason, at, actions)

    def reject(
        self, run_id: int, who: str, reason: str, at: datetime, actions: Sequence[NewAction] = ()
    ) -> Run | None:
        return self._decide(run_id, Ruling.REJECTED, who, reason, at, actions)

    def _decide(
        self,
        run_id: int,
        ruling: Ruling,
        who: str,
        reason: str,
        at: datetime,
        actions: Sequence[NewAction],
    ) -> Run | None:
        after = RunState.QUEUED if ruling is Ruling.APPROVED else RunState.CANCELLED
        require_legal(f"run {run_id}", RUN_TRANSITIONS, _WAITS, after)
        told = f"{ruling.value} by {who}" + (f": {reason}" if reason else "")
        values: dict[str, object] = {"state": after}
        if after is RunState.CANCELLED:
            values |= {"reason": Reason.CANCELLED_BY_PERSON, "message": told, "finished_at": at}
        waiting = update(RunRow).where(RunRow.id == run_id, RunRow.state == _WAITS)
        if after is RunState.QUEUED:
            # Who asked for its end was heard first, whoever looks first.
            waiting = waiting.where(RunRow.cancel_reason.is_(None))
        with self._database.writing() as session:
            if not changed(session, waiting.values(**values)):
                if session.get(RunRow, run_id) is None:
                    raise NotFound(f"there is no run {run_id}")
                return None
            said = {"run_id": run_id, "decision": ruling.value, "who": who, "reason": reason, "at": at}
            session.connection().execute(insert(DecisionRow), said)
            record(session, at, who, f"run {run_id}", run_id, _WAITS.value, after.value, told)
            if after is RunState.CANCELLED:
                cancel_queued(session, run_id, Reason.CANCELLED_BY_PERSON, who, at)
            else:
                wanted = (RunRow.seed_run_id, RunRow.purpose, RunRow.replicates, RunRow.definition)
                row = session.execute(select(*wanted).where(RunRow.id == run_id)).one()
                first = looks_of(from_plain(Pipeline, row.definition), row.purpose, row.replicates)[0]
                add_replicates(session, run_id, row.seed_run_id, range(first), at)
            add_actions(session, run_id, actions, who, at)
            return run_of(session.connection(), run_id)

    def decide(
        self,
        run_id: int,
        verdict: Verdict,
        who: str,
        reason: str,
        at: datetime,
        actions: Sequence[NewAction] = (),
    ) -> Run | None:
        passed = verdict.outcome is Outcome.PASS
        before, after = RunState.INCONCLUSIVE, RunState.PASSED if passed else RunState.REJECTED
        require_legal(f"run {run_id}", RUN_DECISIONS, before, after)
        ruling = Ruling.DECIDED_PASS if passed else Ruling.DECIDED_FAIL
        decided = (
            update(RunRow)
            .where(RunRow.id == run_id, RunRow.state == before)
            .values(state=after, verdict=to_plain(verdict), message=verdict.sentence)
        )
        with self._database.writing() as session:
            if not changed(session, decided):
                if session.get(RunRow, run_id) is None:
                    raise NotFound(f"there is no run {run_id}")
                return None
            said = {"run_id": run_id, "decision": ruling.value, "who": who, "reason": reason, "at": at}
            session.connection().execute(insert(DecisionRow), said)
            told = f"{ruling.value} by {who}: {reason}"
            record(session, at, who, f"run {run_id}", run_id, before.value, after.value, told)
            # The forge knows it as ended: what it was told is not true any more.
            owed = update(StatusRow).where(StatusRow.run_id == run_id)
            changed(session, owed.values(sent="", tries=0, not_before=None, last_error=""))
            add_actions(session, run_id, actions, who, at)
            return run_of(session.connection(), run_id)

    def decisions(self, run_id: int) -> Sequence[Decision]:
        of_run = (DecisionRow.run_id == run_id, DecisionRow.action_id.is_(None))
        wanted = select(DecisionRow).where(*of_run).order_by(DecisionRow.id)
        with self._database.reading() as session:
            return [
                Decision(row.run_id, Ruling(row.decision), row.who, row.reason, row.at)
                for row in session.scalars(wanted)
            ]
