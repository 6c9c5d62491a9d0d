"""GPUs that attempts have. The primary key of the table is why two attempts never share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, delete, select
from sqlalchemy.orm import Session

from orchestrator.domain.gpu import Gpu
from orchestrator.store.engine import Database
from orchestrator.store.tables import GpuLeaseRow
from orchestrator.store.transitions import Once, TooLate, changed

_LEASE = Once(GpuLeaseRow)
_FREE = delete(GpuLeaseRow).where(GpuLeaseRow.attempt_id == bindparam("attempt_id"))
_ALL = select(GpuLeaseRow.host, GpuLeaseRow.uuid, GpuLeaseRow.attempt_id)


def take(session: Session, host: str, attempt_id: int, gpus: Sequence[Gpu]) -> None:
    """Give an attempt all of these, or raise TooLate."""
    for gpu in sorted(gpus, key=lambda gpu: gpu.uuid):
        if not _LEASE.add(session, {"host": host, "uuid": gpu.uuid, "attempt_id": attempt_id}):
            raise TooLate


def give_back(session: Session, attempt_id: int) -> None:
    """The attempt has none any more."""
    changed(session, _FREE, {"attempt_id": attempt_id})


def leased(database: Database) -> Mapping[str, Mapping[str, int]]:
    """By host and UUID, the attempt that has it."""
    found: dict[str, dict[str, int]] = {}
    with database.connected() as connection:
        for host, uuid, attempt_id in connection.execute(_ALL):
            found.setdefault(host, {})[uuid] = attempt_id
    return found
