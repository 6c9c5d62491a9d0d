"""Slots of hosts: taken with an attempt's claim, and only on its terms."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.orm import Session

from orchestrator.domain.host import HostState
from orchestrator.domain.placement import Terms
from orchestrator.domain.run import RunState
from orchestrator.store.prepared import PreparedQuery
from orchestrator.store.tables import HostRow, MetaRow, RunRow, SlotRow
from orchestrator.store.transitions import Once, TooLate

_OF_HOST = PreparedQuery(
    select(SlotRow.index, SlotRow.cpus, SlotRow.memory).where(SlotRow.host == bindparam("host"))
)
_SLOT = Once(SlotRow)
_STATE = PreparedQuery(
    select(HostRow.state).where(HostRow.name == bindparam("host")).with_for_update(read=True)
)
_PLACE = select(RunRow.pipeline, RunRow.project).where(RunRow.id == bindparam("id"))
_TURN = select(MetaRow.value).where(MetaRow.name == "instance").with_for_update()
_GOING = select(func.count()).where(RunRow.state == RunState.RUNNING)


def take(session: Session, host: str, slots: int, attempt_id: int, terms: Terms) -> None:
    """Take the first free slot of a host; TooLate when there is none, or the host has not enough left."""
    share = {"cpus": terms.share.cpus, "memory": terms.share.memory}
    for _ in range(slots):
        taken: set[int] = set()
        cpus, memory = 0.0, 0
        for index, its_cpus, its_memory in _OF_HOST.rows(session.connection(), {"host": host}):
            taken.add(index)
            cpus += its_cpus or 0.0
            memory += its_memory or 0
        free = next((index for index in range(slots) if index not in taken), None)
        if free is None or not terms.allow(cpus, memory):
            raise TooLate
        if _SLOT.add(session, {"host": host, "index": free, "attempt_id": attempt_id, **share}):
            return
        # Another server was faster, and what it takes counts.
    raise TooLate


def require_open(connection: Connection, host: str) -> None:
    """TooLate when a host takes no attempts any more.

    Whoever claims knows the hosts as they were a moment ago. Who drains one and then sees no slot in use has
    to be right that nothing begins there: a change of the state waits for claims that have read it.
    """
    if _STATE.scalar(connection, {"host": host}) not in (None, HostState.ACTIVE):
        raise TooLate


def require_turn(connection: Connection, run_id: int, terms: Terms) -> None:
    """TooLate when as many runs of its pipeline or project go already as may."""
    if terms.pipeline_limit is None and terms.project_limit is None:
        return
    # One at a time where limits count: of two that begin at the same moment, each would not see the other.
    connection.execute(_TURN)
    pipeline, project = connection.execute(_PLACE, {"id": run_id}).one()
    limits = (
        (RunRow.pipeline == pipeline, terms.pipeline_limit),
        (RunRow.project == project, terms.project_limit),
    )
    for theirs, limit in limits:
        if limit is not None and connection.execute(_GOING.where(theirs)).scalar_one() >= limit:
            raise TooLate
