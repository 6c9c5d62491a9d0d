"""How looks went."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.pipeline import Pipeline
from orchestrator.ports.records import Watched
from orchestrator.store.engine import Database
from orchestrator.store.tables import DatasetWatchRow, RepositoryPipelineRow, WatchRow
from orchestrator.store.transitions import Once, changed, put, record

WATCHER: Final = "watcher"
"""Who writes into the journal what could not be looked at."""
_RENEWED_WITHIN: Final = timedelta(minutes=2)
"""So long after its next look was due, the trouble that another process told is nobody's any more."""
_ROW: Final = Once(WatchRow)
_LOOKED: Final = (
    update(WatchRow)
    .where(WatchRow.name == bindparam("watch"))
    .values(checked_at=bindparam("at"), note=bindparam("told"))
)


class SqlWatches:
    """Implements ``ports.watches.Watches``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Mapping[str, Watched]:
        with self._database.reading() as session:
            return {row.name: _watched(row) for row in session.scalars(select(WatchRow))}

    def looked(self, looks: Mapping[str, tuple[datetime, str]]) -> None:
        with self._database.writing() as session:
            names = sorted(looks)
            known = {
                row.name: row for row in session.scalars(select(WatchRow).where(WatchRow.name.in_(names)))
            }
            for name in names:
                at = looks[name][0]
                row = known.get(name)
                if row is None:
                    _there(session, name)
                elif row.trouble and (row.not_before or at) + _RENEWED_WITHIN < at:
                    _clear(session, name, at)
            values = [{"watch": name, "at": at, "told": note} for name, (at, note) in looks.items()]
            session.connection().execute(_LOOKED, values)

    def changed(self, name: str, at: datetime) -> None:
        with self._database.writing() as session:
            _there(session, name)
            changed(
                session, update(WatchRow).where(WatchRow.name == name).values(checked_at=at, changed_at=at)
            )

    def troubled(self, name: str, trouble: str, tries: int, not_before: datetime, at: datetime) -> None:
        with self._database.writing() as session:
            before = _there(session, name)
            values: dict[str, object] = {
                "checked_at": at,
                "trouble": trouble,
                "tries": tries,
                "not_before": not_before,
            }
            if before.trouble_since is None:
                values["trouble_since"] = at
            if before.trouble != trouble:
                record(session, at, WATCHER, name, None, "", "", trouble)
            changed(session, update(WatchRow).where(WatchRow.name == name).values(**values))

    def answered(self, name: str, at: datetime) -> None:
        with self._database.writing() as session:
            if _there(session, name).trouble:
                _clear(session, name, at)

    def being_written(self) -> Mapping[str, datetime]:
        columns = select(DatasetWatchRow.dataset_key, DatasetWatchRow.pending_since)
        with self._database.reading() as session:
            rows = session.execute(columns.where(DatasetWatchRow.pending.is_not(None)))
            return {key: since for key, since in rows if since is not None}

    def defined_by(self, repository: str) -> Mapping[str, Pipeline]:
        mine = select(RepositoryPipelineRow).where(RepositoryPipelineRow.repository == repository)
        with self._database.reading() as session:
            rows = session.scalars(mine.order_by(RepositoryPipelineRow.pipeline))
            return {row.pipeline: from_plain(Pipeline, row.definition) for row in rows}

    def define(self, repository: str, pipelines: Mapping[str, Pipeline]) -> None:
        others = delete(RepositoryPipelineRow).where(
            RepositoryPipelineRow.repository == repository,
            RepositoryPipelineRow.pipeline.not_in(list(pipelines)),
        )
        with self._database.writing() as session:
            changed(session, others)
            for name in sorted(pipelines):
                row = {"repository": repository, "pipeline": name, "definition": to_plain(pipelines[name])}
                put(session, RepositoryPipelineRow(**row))


def _there(session: Session, name: str) -> Watched:
    """What is known of it, in a row that is there from now on."""
    _ROW.add(session, {"name": name, "trouble": "", "tries": 0, "note": ""})
    return _watched(session.get_one(WatchRow, name, populate_existing=True))


def _clear(session: Session, name: str, at: datetime) -> None:
    calm = {"trouble": "", "trouble_since": None, "tries": 0, "not_before": None, "checked_at": at}
    if changed(session, update(WatchRow).where(WatchRow.name == name, WatchRow.trouble != "").values(**calm)):
        record(session, at, WATCHER, name, None, "", "", "answers again")


def _watched(row: WatchRow) -> Watched:
    return Watched(
        name=row.name,
        checked_at=row.checked_at,
        changed_at=row.changed_at,
        trouble=row.trouble,
        trouble_since=row.trouble_since,
        tries=row.tries,
        not_before=row.not_before,
        note=row.note,
    )
