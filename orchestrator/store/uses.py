"""How often evaluation data were judged with. What is written here is never removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from orchestrator.domain.errors import LeaseLost
from orchestrator.domain.gate import Outcome
from orchestrator.ports.baselines import NewUse, Uses
from orchestrator.store.tables import EvaluationUseRow
from orchestrator.store.transitions import Once, changed

_USE = Once(EvaluationUseRow)
_GOES_ON = ("", Outcome.PASS.value)


def note_uses(session: Session, run_id: int, title: str, uses: Sequence[NewUse], at: datetime) -> None:
    """Count a run's uses, each once. LeaseLost where it was judged as another use than it is by now."""
    # One order for everybody: two servers wait for each other instead of both failing.
    for use in sorted(uses, key=lambda use: use.fingerprint):
        of = EvaluationUseRow.fingerprint == use.fingerprint
        mine = update(EvaluationUseRow).where(of, EvaluationUseRow.run_id == run_id)
        if changed(session, mine.values(outcome=use.outcome, at=at)):
            continue
        before = _count(session, use.fingerprint)
        values = {
            "fingerprint": use.fingerprint,
            "number": before + 1,
            "run_id": run_id,
            "title": title,
            "outcome": use.outcome,
            "at": at,
        }
        if use.before not in (None, before) or not _USE.add(session, values):
            raise LeaseLost(f"the evaluation data of run {run_id} were judged with meanwhile")


def uses_of(session: Session, fingerprint: str, run_id: int | None) -> Uses:
    """Those before a run's own, or all."""
    of, number = EvaluationUseRow.fingerprint == fingerprint, EvaluationUseRow.number
    own = session.scalar(select(number).where(of, EvaluationUseRow.run_id == run_id)) if run_id else None
    count = _count(session, fingerprint) if own is None else own - 1
    ended = (
        select(EvaluationUseRow.title)
        .where(of, number <= count, EvaluationUseRow.outcome.not_in(_GOES_ON))
        .order_by(number)
        .limit(1)
    )
    return Uses(count, session.scalar(ended) or "")


def _count(session: Session, fingerprint: str) -> int:
    newest = select(func.max(EvaluationUseRow.number)).where(EvaluationUseRow.fingerprint == fingerprint)
    return session.scalar(newest) or 0
