"""Which comments at forges are ours."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, or_, select, update

from orchestrator.ports.comments import Place, ReportComment
from orchestrator.store.engine import Database
from orchestrator.store.tables import ReportCommentRow
from orchestrator.store.transitions import Once, changed

_ROW = Once(ReportCommentRow)


class SqlReportComments:
    """Implements ``ports.comments.ReportComments``. Without an id and changed lately: it is being made."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def at(self, place: Place) -> ReportComment | None:
        with self._database.reading() as session:
            row = session.scalar(select(ReportCommentRow).where(_is(place)))
            return None if row is None else ReportComment(row.external_id, row.run_id, row.told)

    def claim(self, place: Place, run_id: int, now: datetime, seconds: float) -> ReportComment | None:
        made = ReportCommentRow.external_id != ""
        given_up = ReportCommentRow.changed_at <= now - timedelta(seconds=seconds)
        with self._database.writing() as session:
            first = {
                "repository": place.repository,
                "subject": place.subject,
                "pipeline": place.pipeline,
                "external_id": "",
                "run_id": run_id,
                "told": "",
                "changed_at": now,
            }
            if _ROW.add(session, first):
                return ReportComment("", run_id, "")
            older = and_(_is(place), ReportCommentRow.run_id < run_id, or_(made, given_up))
            changed(session, update(ReportCommentRow).where(older).values(run_id=run_id))
            taken = and_(_is(place), ReportCommentRow.external_id == "", given_up)
            mine = changed(session, update(ReportCommentRow).where(taken).values(changed_at=now))
            row = session.scalars(select(ReportCommentRow).where(_is(place))).one()
            if not row.external_id and not mine:
                return None
            return ReportComment(row.external_id, row.run_id, row.told)

    def told(self, place: Place, run_id: int, external_id: str, told: str, now: datetime) -> bool:
        with self._database.writing() as session:
            here = and_(_is(place), ReportCommentRow.run_id == run_id)
            said = {"external_id": external_id, "told": told, "changed_at": now}
            if changed(session, update(ReportCommentRow).where(here).values(**said)):
                return True
            # The comment is there all the same, and must not be made again.
            unknown = and_(_is(place), ReportCommentRow.external_id == "")
            changed(session, update(ReportCommentRow).where(unknown).values(external_id=external_id))
            return False

    def missing(self, place: Place, external_id: str, now: datetime) -> bool:
        with self._database.writing() as session:
            known = and_(_is(place), ReportCommentRow.external_id == external_id)
            gone = {"external_id": "", "changed_at": now}
            return changed(session, update(ReportCommentRow).where(known).values(**gone)) > 0

    def release(self, place: Place, now: datetime) -> None:
        with self._database.writing() as session:
            unmade = and_(_is(place), ReportCommentRow.external_id == "")
            changed(session, delete(ReportCommentRow).where(unmade))


def _is(place: Place) -> ColumnElement[bool]:
    return and_(
        ReportCommentRow.repository == place.repository,
        ReportCommentRow.subject == place.subject,
        ReportCommentRow.pipeline == place.pipeline,
    )
