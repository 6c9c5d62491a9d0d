"""What was seen of sources and datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from orchestrator.domain.change import DatasetVersion, FileEntry
from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.errors import NotFound, StoreUnavailable
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.ports.records import DatasetWatch
from orchestrator.store.engine import Database
from orchestrator.store.tables import DataHeadRow, DatasetVersionRow, DatasetWatchRow, HeadRow, ManifestRow
from orchestrator.store.transitions import inserted, put

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
        plain = [to_plain(entry) for entry in entries]
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
                    files=len(entries),
                    size=sum(entry.size for entry in entries),
                    created_at=at,
                )
                if inserted(session, row):
                    session.add(ManifestRow(version_id=row.id, entries=plain))
                    return _version(dataset, row)
        raise StoreUnavailable(f"no number could be had for a version of {dataset.name}", "ask again")

    def version(self, dataset: DatasetSpec, fingerprint: str) -> DatasetVersion | None:
        with self._database.reading() as session:
            row = _row(session, dataset, fingerprint)
            return _version(dataset, row) if row else None

    def versions(self, dataset: DatasetSpec) -> Sequence[DatasetVersion]:
        with self._database.reading() as session:
            rows = session.scalars(
                select(DatasetVersionRow)
                .where(DatasetVersionRow.dataset_key == dataset.key)
                .order_by(DatasetVersionRow.number)
            )
            return [_version(dataset, row) for row in rows]

    def manifest(self, dataset: DatasetSpec, fingerprint: str) -> tuple[FileEntry, ...]:
        with self._database.reading() as session:
            plain = session.scalar(
                select(ManifestRow.entries)
                .join(DatasetVersionRow, DatasetVersionRow.id == ManifestRow.version_id)
                .where(
                    DatasetVersionRow.dataset_key == dataset.key, DatasetVersionRow.fingerprint == fingerprint
                )
            )
        if plain is None:
            raise NotFound(f"no version {fingerprint[:8]} of dataset {dataset.name} is stored")
        return tuple(from_plain(FileEntry, entry) for entry in plain)


def _row(session: Session, dataset: DatasetSpec, fingerprint: str) -> DatasetVersionRow | None:
    return session.scalar(
        select(DatasetVersionRow).where(
            DatasetVersionRow.dataset_key == dataset.key, DatasetVersionRow.fingerprint == fingerprint
        )
    )


def _version(dataset: DatasetSpec, row: DatasetVersionRow) -> DatasetVersion:
    return DatasetVersion(dataset.name, row.fingerprint, row.files, row.size, dataset.role, row.number)
