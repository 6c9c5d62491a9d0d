"""The marks that runs owe to their commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Text, bindparam, case, exists, func, or_, select, type_coerce, update
from sqlalchemy.orm import Session

from orchestrator.domain.action_spec import GithubAction
from orchestrator.domain.run import Purpose, Run, RunState
from orchestrator.ports.records import NewRun, OwedStatus
from orchestrator.store.engine import Database
from orchestrator.store.tables import ChangeRow, RunRow, StatusRow
from orchestrator.store.transitions import Once, changed

_ROW = Once(StatusRow)
# What the gate does is no news for the forge.
_TOLD = case(
    (RunRow.state == RunState.EVALUATING, RunState.RUNNING.value), else_=type_coerce(RunRow.state, Text())
)
_COLUMNS = list(StatusRow.__table__.c)
_FINAL = tuple(state.value for state in RunState if state.final)
# What was told to its end needs no look at its run.
_OPEN = (StatusRow.sent.not_in(_FINAL), StatusRow.sent != _TOLD)
_OWED = select(*_COLUMNS).join(RunRow, RunRow.id == StatusRow.run_id).where(*_OPEN)
_ANY = select(exists().where(StatusRow.run_id == RunRow.id, *_OPEN))
_DUE = _OWED.where(or_(StatusRow.not_before.is_(None), StatusRow.not_before <= bindparam("at"))).order_by(
    StatusRow.run_id
)
_OF_RUN = select(*_COLUMNS).where(StatusRow.run_id == bindparam("run_id")).order_by(StatusRow.context)
_NEWER = (
    select(func.count())
    .select_from(StatusRow)
    .join(RunRow, RunRow.id == StatusRow.run_id)
    .join(ChangeRow, ChangeRow.id == RunRow.change_id)
    .where(
        RunRow.id > bindparam("run_id"),
        RunRow.pipeline == bindparam("pipeline"),
        ChangeRow.revision["commit"].as_string() == bindparam("commit"),
    )
)


def owe_status(session: Session, run_id: int, new: NewRun) -> None:
    """Owe a mark to the commit of a new run, when it judges that commit and its source has a forge."""
    source = new.pipeline.source_named(new.revision.source)
    if new.purpose is not Purpose.TRAIN or source is None or not source.github:
        return
    if any(isinstance(spec, GithubAction) and not spec.status for _, spec in new.pipeline.actions):
        return
    _ROW.add(
        session,
        {
            "run_id": run_id,
            "context": f"mlci/{new.pipeline.name}",
            "sent": "",
            "external_id": "",
            "tries": 0,
            "not_before": None,
            "last_error": "",
        },
    )


class SqlStatuses:
    """Implements ``ports.hooks.Statuses``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def any_owed(self) -> bool:
        with self._database.connected() as connection:
            return bool(connection.scalar(_ANY))

    def due(self, at: datetime) -> Sequence[OwedStatus]:
        with self._database.connected() as connection:
            return [OwedStatus(*row) for row in connection.execute(_DUE, {"at": at})]

    def claim(self, owed: OwedStatus, at: datetime, until: datetime) -> OwedStatus | None:
        free = or_(StatusRow.not_before.is_(None), StatusRow.not_before <= at)
        mine = (StatusRow.run_id == owed.run_id, StatusRow.context == owed.context)
        unchanged = (StatusRow.sent == owed.sent, StatusRow.tries == owed.tries)
        taken = {"tries": owed.tries + 1, "not_before": until}
        with self._database.writing() as session:
            if not changed(session, update(StatusRow).where(*mine, *unchanged, free).values(**taken)):
                return None
        return OwedStatus(
            owed.run_id, owed.context, owed.sent, owed.external_id, owed.tries + 1, until, owed.last_error
        )

    def told(self, claimed: OwedStatus, sent: str, external_id: str) -> None:
        self._end(claimed, sent=sent, external_id=external_id, tries=0, not_before=None, last_error="")

    def postpone(self, claimed: OwedStatus, not_before: datetime, error: str) -> None:
        self._end(claimed, not_before=not_before, last_error=error)

    def give_up(self, claimed: OwedStatus, state: str, error: str) -> None:
        self._end(claimed, sent=state, tries=0, not_before=None, last_error=error)

    def of_run(self, run_id: int) -> Sequence[OwedStatus]:
        with self._database.connected() as connection:
            return [OwedStatus(*row) for row in connection.execute(_OF_RUN, {"run_id": run_id})]

    def newest(self, run: Run) -> bool:
        where = {"run_id": run.id, "pipeline": run.pipeline, "commit": run.change.revision.commit}
        with self._database.connected() as connection:
            return not connection.scalar(_NEWER, where)

    def _end(self, claimed: OwedStatus, **values: object) -> None:
        guarded = (
            update(StatusRow)
            .where(
                StatusRow.run_id == claimed.run_id,
                StatusRow.context == claimed.context,
                StatusRow.tries == claimed.tries,
                StatusRow.not_before == claimed.not_before,
            )
            .values(**values)
        )
        with self._database.writing() as session:
            changed(session, guarded)
