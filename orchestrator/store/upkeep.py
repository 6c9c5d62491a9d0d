"""What is remembered of repositories and data, and its removal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, select, union
from sqlalchemy.orm import Session

from orchestrator.domain.retention import Going, told_of
from orchestrator.domain.upkeep import VersionFacts
from orchestrator.ports.upkeep import Uses
from orchestrator.store.engine import Database
from orchestrator.store.tables import (
    ChangeRow,
    DataHeadRow,
    DatasetVersionRow,
    DatasetWatchRow,
    HeadRow,
    ManifestPartRow,
    ManifestRow,
    MetaRow,
    Plain,
    ScheduleRow,
    UpstreamRow,
    VersionTableRow,
    WatchRow,
)
from orchestrator.store.transitions import REMOVED, changed, put, record

_ROWS: Final = 2000
_GONE: Final = "gone since: "
"""What the names of facts begin with that tell since when something is gone."""
_SEEN: Final = (HeadRow, DataHeadRow, ScheduleRow, UpstreamRow)
_OF_A_VERSION: Final = (ManifestPartRow, ManifestRow, VersionTableRow)


class SqlUpkeep:
    """Implements ``ports.upkeep.Upkeep``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def versions(self) -> Sequence[VersionFacts]:
        row = DatasetVersionRow
        columns = select(row.id, row.dataset_key, row.number, row.fingerprint, row.created_at)
        with self._database.connected() as connection:
            rows = connection.execution_options(yield_per=_ROWS).execute(
                columns.order_by(row.dataset_key, row.number)
            )
            return [VersionFacts(*values) for values in rows]

    def uses(self) -> Uses:
        with self._database.connected() as connection:
            heads = connection.scalars(select(HeadRow.commit))
            commits = {commit for commit in heads if commit is not None}
            fingerprints, newest = _looked_at(connection), 0
            rows = connection.execution_options(yield_per=_ROWS).execute(
                select(ChangeRow.id, ChangeRow.revision, ChangeRow.datasets).order_by(ChangeRow.id)
            )
            for change, revision, datasets in rows:
                commits |= _commits(revision)
                fingerprints |= _fingerprints(datasets)
                newest = change
            return Uses(frozenset(fingerprints), frozenset(commits), newest)

    def remembered(self) -> tuple[AbstractSet[str], AbstractSet[str]]:
        with self._database.reading() as session:
            pipelines = set(session.scalars(union(*(select(row.pipeline) for row in _SEEN))))
            pipelines -= set(session.scalars(select(ChangeRow.pipeline).distinct()))
            return pipelines, set(session.scalars(select(DatasetWatchRow.dataset_key)))

    def gone_since(self) -> Mapping[str, datetime]:
        with self._database.reading() as session:
            return _gone_since(session)

    def note_gone(self, names: AbstractSet[str], at: datetime) -> None:
        with self._database.writing() as session:
            known = _gone_since(session)
            back = [f"{_GONE}{name}" for name in known.keys() - names]
            if back:
                changed(session, delete(MetaRow).where(MetaRow.name.in_(back)))
            for name in sorted(names - known.keys()):
                put(session, MetaRow(name=f"{_GONE}{name}", value=at.isoformat()))

    def remove_versions(self, going: Sequence[Going], change: int, who: str, at: datetime) -> int:
        with self._database.writing() as session:
            used = _looked_at(session.connection())
            for datasets in session.scalars(select(ChangeRow.datasets).where(ChangeRow.id > change)):
                used |= _fingerprints(datasets)
            ids = [int(thing.key) for thing in going]
            here = select(DatasetVersionRow.id, DatasetVersionRow.fingerprint)
            rows = session.execute(here.where(DatasetVersionRow.id.in_(ids))).all()
            doomed = {version_id for version_id, fingerprint in rows if fingerprint not in used}
            for row in _OF_A_VERSION:
                changed(session, delete(row).where(row.version_id.in_(doomed)))
            changed(session, delete(DatasetVersionRow).where(DatasetVersionRow.id.in_(doomed)))
            _note(session, [thing for thing in going if thing.key in doomed], "data", who, at)
            return len(doomed)

    def remove_pipelines(self, going: Sequence[Going], who: str, at: datetime) -> int:
        with self._database.writing() as session:
            names = {str(thing.key) for thing in going}
            names -= set(session.scalars(select(ChangeRow.pipeline).where(ChangeRow.pipeline.in_(names))))
            for row in _SEEN:
                changed(session, delete(row).where(row.pipeline.in_(names)))
            _note(session, [thing for thing in going if thing.key in names], "pipeline", who, at)
            return len(names)

    def remove_watches(self, keys: Collection[str], unseen_since: datetime) -> int:
        with self._database.writing() as session:
            changed(session, delete(DatasetWatchRow).where(DatasetWatchRow.dataset_key.in_(keys)))
            return changed(session, delete(WatchRow).where(WatchRow.checked_at < unseen_since))


def _gone_since(session: Session) -> dict[str, datetime]:
    rows = session.execute(select(MetaRow.name, MetaRow.value).where(MetaRow.name.startswith(_GONE)))
    return {name.removeprefix(_GONE): datetime.fromisoformat(value) for name, value in rows}


def _looked_at(connection: Connection) -> set[str]:
    """The data that pipelines and looks see now."""
    seen = connection.scalars(select(DatasetWatchRow.fingerprint))
    return {*connection.scalars(select(DataHeadRow.fingerprint)), *(one for one in seen if one is not None)}


def _fingerprints(datasets: Plain) -> set[str]:
    return {str(version["fingerprint"]) for version in datasets or ()}


def _commits(revision: Plain) -> set[str]:
    """All that a revision says of commits: its own, and those of a pull request."""
    pull = revision.get("pull") or {}
    said = (revision.get("commit"), *(value for key, value in pull.items() if "commit" in key))
    return {str(commit) for commit in said if commit}


def _note(session: Session, things: Sequence[Going], what: str, who: str, at: datetime) -> None:
    for thing in things:
        record(session, at, who, f"{what} {thing.title}", None, "", REMOVED, told_of(thing))
