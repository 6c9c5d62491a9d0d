"""What was seen of sources and datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, exists, func, insert, select
from sqlalchemy.orm import Session

from orchestrator.domain.change import DatasetVersion, FileEntry
from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.errors import NotFound, StoreUnavailable
from orchestrator.domain.manifest import Manifest, ManifestPart, manifest_of
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.tabular import TableFacts
from orchestrator.ports.records import DatasetWatch
from orchestrator.store.engine import Database
from orchestrator.store.tables import (
    ChangeRow,
    DataHeadRow,
    DatasetVersionRow,
    DatasetWatchRow,
    HeadRow,
    ManifestPartRow,
    ManifestRow,
    VersionTableRow,
)
from orchestrator.store.transitions import changed, inserted, put

_NUMBERING_TRIES = 10


class SqlDetection:
    """Implements ``ports.store.Detection``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def heads(self, pipeline: str, source: str) -> Mapping[str, str]:
        with self._database.reading() as session:
            rows = session.execute(
                select(HeadRow.branch, HeadRow.commit).where(
                    HeadRow.pipeline == pipeline, HeadRow.source == source
                )
            )
            return {branch: commit for branch, commit in rows if commit is not None}

    def head_counts(self, pipeline: str, source: str) -> Mapping[str, tuple[str | None, int]]:
        mine = (HeadRow.pipeline == pipeline, HeadRow.source == source)
        with self._database.reading() as session:
            rows = session.execute(select(HeadRow.branch, HeadRow.commit, HeadRow.moves).where(*mine))
            return {branch: (commit, moves) for branch, commit, moves in rows}

    def data_counts(self, pipeline: str) -> Mapping[str, tuple[str, int]]:
        columns = select(DataHeadRow.dataset, DataHeadRow.fingerprint, DataHeadRow.moves)
        with self._database.reading() as session:
            rows = session.execute(columns.where(DataHeadRow.pipeline == pipeline))
            return {dataset: (fingerprint, moves) for dataset, fingerprint, moves in rows}

    def data_heads(self, pipeline: str) -> Mapping[str, str]:
        with self._database.reading() as session:
            rows = session.execute(
                select(DataHeadRow.dataset, DataHeadRow.fingerprint).where(DataHeadRow.pipeline == pipeline)
            )
            return dict(rows.all())

    def dataset_watch(self, dataset: DatasetSpec) -> DatasetWatch | None:
        with self._database.reading() as session:
            row = session.get(DatasetWatchRow, dataset.key)
            if row is None:
                return None
            return DatasetWatch(row.signature, row.fingerprint, row.pending, row.pending_since)

    def save_dataset_watch(self, dataset: DatasetSpec, watch: DatasetWatch) -> None:
        with self._database.writing() as session:
            put(
                session,
                DatasetWatchRow(
                    dataset_key=dataset.key,
                    signature=watch.signature,
                    fingerprint=watch.fingerprint,
                    pending=watch.pending,
                    pending_since=watch.pending_since,
                ),
            )

    def record_version(
        self, dataset: DatasetSpec, fingerprint: str, entries: Sequence[FileEntry], at: datetime
    ) -> DatasetVersion:
        manifest = manifest_of(entries)
        size = sum(entry.size for entry in manifest)
        with self._database.writing() as session:
            # Another process may take the number first, where writers are not one after the other.
            for _ in range(_NUMBERING_TRIES):
                if (known := _row(session, dataset, fingerprint)) is not None:
                    return _version(dataset, known)
                last = session.scalar(
                    select(func.max(DatasetVersionRow.number)).where(
                        DatasetVersionRow.dataset_key == dataset.key
                    )
                )
                row = DatasetVersionRow(
                    dataset_key=dataset.key,
                    number=(last or 0) + 1,
                    fingerprint=fingerprint,
                    files=len(manifest),
                    size=size,
                    created_at=at,
                )
                if inserted(session, row):
                    for number, part in enumerate(manifest.parts):
                        values = {"version_id": row.id, "part": number, "files": part.files}
                        session.execute(insert(ManifestPartRow), values | {"content": part.content})
                    return _version(dataset, row)
        raise StoreUnavailable(f"no number could be had for a version of {dataset.name}", "ask again")

    def version(self, dataset: DatasetSpec, fingerprint: str) -> DatasetVersion | None:
        with self._database.reading() as session:
            row = _row(session, dataset, fingerprint)
            return _version(dataset, row) if row else None

    def versions(self, dataset: DatasetSpec, newest: int | None = None) -> Sequence[DatasetVersion]:
        with self._database.reading() as session:
            rows = session.scalars(
                select(DatasetVersionRow)
                .where(DatasetVersionRow.dataset_key == dataset.key)
                .order_by(DatasetVersionRow.number.desc())
                .limit(newest)
            )
            return [_version(dataset, row) for row in reversed(rows.all())]

    def manifest(self, dataset: DatasetSpec, fingerprint: str) -> Manifest:
        with self._database.reading() as session:
            version = _row(session, dataset, fingerprint)
            if version is None:
                raise NotFound(f"no version {fingerprint[:8]} of dataset {dataset.name} is stored")
            parts = session.execute(
                select(ManifestPartRow.files, ManifestPartRow.content)
                .where(ManifestPartRow.version_id == version.id)
                .order_by(ManifestPartRow.part)
            ).all()
            if parts or not version.files:
                return Manifest(ManifestPart(files, content) for files, content in parts)
            plain = session.scalar(select(ManifestRow.entries).where(ManifestRow.version_id == version.id))
        return manifest_of(from_plain(FileEntry, entry) for entry in plain or ())

    def tables(self, dataset: DatasetSpec, fingerprint: str) -> Mapping[str, TableFacts]:
        with self._database.reading() as session:
            rows = session.execute(
                select(VersionTableRow.path, VersionTableRow.facts)
                .join(DatasetVersionRow, DatasetVersionRow.id == VersionTableRow.version_id)
                .where(
                    DatasetVersionRow.dataset_key == dataset.key, DatasetVersionRow.fingerprint == fingerprint
                )
                .order_by(VersionTableRow.path)
            )
            return {path: from_plain(TableFacts, facts) for path, facts in rows}

    def record_tables(self, dataset: DatasetSpec, fingerprint: str, tables: Mapping[str, TableFacts]) -> None:
        with self._database.writing() as session:
            version = _row(session, dataset, fingerprint)
            if version is None:
                return
            for path, facts in tables.items():
                put(session, VersionTableRow(version_id=version.id, path=path, facts=to_plain(facts)))


def _row(session: Session, dataset: DatasetSpec, fingerprint: str) -> DatasetVersionRow | None:
    return session.scalar(
        select(DatasetVersionRow).where(
            DatasetVersionRow.dataset_key == dataset.key, DatasetVersionRow.fingerprint == fingerprint
        )
    )


def _version(dataset: DatasetSpec, row: DatasetVersionRow) -> DatasetVersion:
    return DatasetVersion(dataset.name, row.fingerprint, row.files, row.size, dataset.role, row.number)


def forget_gone(session: Session, places: Iterable[tuple[str, str]]) -> None:
    """Remove what was seen of these branches of pipelines, where they are gone and no change is left of them.

    While there is one its key has the count of moves, which is not to begin anew.
    """
    for pipeline, branch in places:
        left = exists().where(ChangeRow.pipeline == pipeline, ChangeRow.branch == branch)
        here = (HeadRow.pipeline == pipeline, HeadRow.branch == branch, HeadRow.commit.is_(None))
        changed(session, delete(HeadRow).where(*here, ~left))
