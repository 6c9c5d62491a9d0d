"""Hosts: what people want of them, and whether they answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.host import HostRecord, HostState
from orchestrator.domain.pipeline import HostSpec
from orchestrator.store.engine import Database
from orchestrator.store.tables import HostRow, JournalRow
from orchestrator.store.transitions import Once, changed, record

_ALL = select(HostRow).order_by(HostRow.name)
_ROW = Once(HostRow)
_BEFORE_REMOVAL = (
    select(JournalRow.before)
    .where(JournalRow.subject == bindparam("subject"), JournalRow.after == HostState.REMOVED.value)
    .order_by(JournalRow.id.desc())
    .limit(1)
)


class SqlHosts:
    """Implements ``ports.hosts.Hosts``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Mapping[str, HostRecord]:
        with self._database.reading() as session:
            return {row.name: _record(row) for row in session.scalars(_ALL)}

    def get(self, name: str) -> HostRecord:
        with self._database.reading() as session:
            row = session.get(HostRow, name)
            return HostRecord(name) if row is None else _record(row)

    def add(self, spec: HostSpec, who: str, reason: str, at: datetime) -> HostRecord:
        return self._define(spec, HostState.ACTIVE, who, reason, at, keep=HostState.DRAINING)

    def keep_definition(self, spec: HostSpec, who: str, reason: str, at: datetime) -> HostRecord:
        return self._define(spec, HostState.REMOVED, who, reason, at)

    def _define(
        self,
        spec: HostSpec,
        state: HostState,
        who: str,
        reason: str,
        at: datetime,
        keep: HostState | None = None,
    ) -> HostRecord:
        with self._database.writing() as session:
            before = _there(session, spec.name, at)
            _set(session, spec.name, definition=to_plain(spec))
            if before.state is keep:
                kept = before.state.value
                record(session, at, who, f"host {spec.name}", None, kept, kept, reason)
                return _read(session, spec.name)
            _change(session, before, state, who, reason or "its definition is kept", at, always=True)
            return _read(session, spec.name)

    def set_state(self, name: str, state: HostState, who: str, reason: str, at: datetime) -> HostRecord:
        with self._database.writing() as session:
            before = _there(session, name, at)
            _change(session, before, state, who, reason, at)
            return _read(session, name)

    def take_back(self, name: str, who: str, reason: str, at: datetime) -> HostRecord:
        with self._database.writing() as session:
            before = _there(session, name, at)
            drained = session.scalar(_BEFORE_REMOVAL, {"subject": f"host {name}"}) == HostState.DRAINING.value
            state = HostState.DRAINING if drained else HostState.ACTIVE
            _change(
                session, before, state, who, f"{reason}, and was being drained" if drained else reason, at
            )
            return _read(session, name)

    def forget(self, name: str, at: datetime) -> None:
        with self._database.writing() as session:
            if changed(session, delete(HostRow).where(HostRow.name == name)):
                record(session, at, "", f"host {name}", None, "", "", "forgotten")

    def silent(self, name: str, since: datetime, trouble: str, at: datetime) -> bool:
        with self._database.writing() as session:
            before = _there(session, name, at)
            if before.unreachable_since is not None and before.trouble == trouble:
                return False
            _set(session, name, unreachable_since=before.unreachable_since or since, trouble=trouble)
            if before.unreachable_since is not None:
                return False
            record(session, at, "", f"host {name}", None, "answers", "unreachable", trouble)
            return True

    def answered(self, name: str, at: datetime) -> bool:
        with self._database.writing() as session:
            row = session.get(HostRow, name)
            if row is None or (row.unreachable_since is None and not row.trouble):
                return False
            _set(session, name, unreachable_since=None, trouble="")
            record(session, at, "", f"host {name}", None, "unreachable", "answers")
            return True

    def booted(self, name: str, boot_id: str, at: datetime) -> str:
        with self._database.writing() as session:
            before = _there(session, name, at)
            if before.boot_id != boot_id:
                _set(session, name, boot_id=boot_id)
                if before.boot_id:
                    record(session, at, "", f"host {name}", None, "", "", "started anew")
            return before.boot_id


def _there(session: Session, name: str, at: datetime) -> HostRecord:
    """What is known of a host, in a row that is there from now on."""
    _ROW.add(
        session,
        {
            "name": name,
            "state": HostState.ACTIVE,
            "changed_at": at,
            "changed_by": "",
            "reason": "",
            "trouble": "",
            "boot_id": "",
        },
    )
    return _read(session, name)


def _change(
    session: Session,
    before: HostRecord,
    state: HostState,
    who: str,
    reason: str,
    at: datetime,
    always: bool = False,
) -> None:
    if before.state is state and not always:
        return
    _set(session, before.name, state=state, changed_at=at, changed_by=who, reason=reason)
    record(session, at, who, f"host {before.name}", None, before.state.value, state.value, reason)


def _set(session: Session, name: str, **values: object) -> None:
    changed(session, update(HostRow).where(HostRow.name == name).values(**values))


def _read(session: Session, name: str) -> HostRecord:
    return _record(session.get_one(HostRow, name, populate_existing=True))


def _record(row: HostRow) -> HostRecord:
    return HostRecord(
        name=row.name,
        state=row.state,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        reason=row.reason,
        definition=None if row.definition is None else from_plain(HostSpec, row.definition),
        unreachable_since=row.unreachable_since,
        trouble=row.trouble,
        boot_id=row.boot_id,
    )
