"""Versions of models and the stages that they have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, insert, select, update
from sqlalchemy.orm import Session

from orchestrator.domain.model_registry import ModelVersion, Stage, moves
from orchestrator.domain.run import Purpose, RunState
from orchestrator.store.engine import Database
from orchestrator.store.tables import ModelAliasRow, ModelVersionRow, PipelineRow, RunRow
from orchestrator.store.transitions import Once, changed, record

_VERSIONS = Once(ModelVersionRow)


class SqlModels:
    """Implements ``ports.store.Models``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def versions(self, pipeline: str | None = None, limit: int = 50) -> Sequence[ModelVersion]:
        self._complete(pipeline)
        with self._database.reading() as session:
            wanted = select(ModelVersionRow).order_by(ModelVersionRow.run_id.desc()).limit(limit)
            if pipeline is not None:
                wanted = wanted.where(ModelVersionRow.pipeline == pipeline)
            rows = session.scalars(wanted).all()
            held = _stages(session, [row.id for row in rows])
            return [_version(row, held.get(row.id, ())) for row in rows]

    def of_run(self, run_id: int) -> ModelVersion | None:
        self._complete(None)
        with self._database.reading() as session:
            row = session.scalar(select(ModelVersionRow).where(ModelVersionRow.run_id == run_id))
            return None if row is None else _version(row, _stages(session, [row.id]).get(row.id, ()))

    def _complete(self, pipeline: str | None) -> None:
        """Looks hold no writer up: what is written is only what is missing."""
        with self._database.reading() as session:
            missing = session.execute(_lacking(pipeline).limit(1)).first() is not None
        if missing:
            with self._database.writing() as session:
                _add_missing(session, pipeline)

    def history(self, run_id: int) -> Sequence[tuple[Stage, datetime, datetime | None, str]]:
        with self._database.reading() as session:
            rows = session.scalars(
                select(ModelAliasRow)
                .join(ModelVersionRow, ModelVersionRow.id == ModelAliasRow.version_id)
                .where(ModelVersionRow.run_id == run_id)
                .order_by(ModelAliasRow.id)
            )
            return [(Stage(row.alias), row.since, row.until, row.reason) for row in rows]

    def move(self, run_id: int, stage: Stage, who: str, reason: str, at: datetime) -> None:
        with self._database.writing() as session:
            run = session.execute(select(RunRow.pipeline).where(RunRow.id == run_id)).one_or_none()
            if run is None:
                return
            # Two deployments that move the stages of a pipeline at once wait for each other.
            session.execute(
                select(PipelineRow.name).where(PipelineRow.name == run.pipeline).with_for_update()
            ).all()
            _add_missing(session, run.pipeline)
            version = session.scalar(select(ModelVersionRow.id).where(ModelVersionRow.run_id == run_id))
            if version is None:
                return
            held = session.execute(
                select(ModelAliasRow.alias, ModelAliasRow.version_id).where(
                    ModelAliasRow.pipeline == run.pipeline, ModelAliasRow.until.is_(None)
                )
            ).all()
            holders = {each: frozenset(v for alias, v in held if alias == each) for each in Stage}
            for moved in moves(version, stage, holders):
                if moved.gone:
                    _end(session, moved.version, moved.stage, at)
                else:
                    _begin(session, run.pipeline, moved.version, moved.stage, who, reason, at)
            record(session, at, who, f"model {run.pipeline}", run_id, "", stage.value, reason)


def _begin(
    session: Session, pipeline: str, version: int, stage: Stage, who: str, reason: str, at: datetime
) -> None:
    values = {
        "version_id": version,
        "pipeline": pipeline,
        "alias": stage.value,
        "who": who,
        "reason": reason,
        "since": at,
        "until": None,
    }
    session.connection().execute(insert(ModelAliasRow), values)


def _end(session: Session, version: int, stage: Stage, at: datetime) -> None:
    changed(
        session,
        update(ModelAliasRow)
        .where(
            ModelAliasRow.version_id == version,
            ModelAliasRow.alias == stage.value,
            ModelAliasRow.until.is_(None),
        )
        .values(until=at),
    )


def _lacking(pipeline: str | None) -> Select[int, str, int, datetime | None, datetime]:
    """Passed runs without a version."""
    lacking = (
        select(RunRow.id, RunRow.pipeline, RunRow.number, RunRow.finished_at, RunRow.created_at)
        .outerjoin(ModelVersionRow, ModelVersionRow.run_id == RunRow.id)
        .where(
            RunRow.state == RunState.PASSED,
            RunRow.purpose == Purpose.TRAIN,
            ModelVersionRow.id.is_(None),
        )
        .order_by(RunRow.id)
    )
    return lacking if pipeline is None else lacking.where(RunRow.pipeline == pipeline)


def _add_missing(session: Session, pipeline: str | None) -> None:
    """A version for each passed run that has none yet."""
    for run_id, name, number, finished, created in session.execute(_lacking(pipeline)).all():
        values = {"run_id": run_id, "pipeline": name, "number": number, "created_at": finished or created}
        _VERSIONS.add(session, values)


def _stages(session: Session, versions: Sequence[int]) -> dict[int, tuple[Stage, ...]]:
    found: dict[int, tuple[Stage, ...]] = {}
    rows = session.execute(
        select(ModelAliasRow.version_id, ModelAliasRow.alias)
        .where(ModelAliasRow.version_id.in_(versions), ModelAliasRow.until.is_(None))
        .order_by(ModelAliasRow.id)
    )
    for version, alias in rows:
        found[version] = (*found.get(version, ()), Stage(alias))
    return found


def _version(row: ModelVersionRow, stages: tuple[Stage, ...]) -> ModelVersion:
    return ModelVersion(row.id, row.run_id, row.pipeline, row.number, row.created_at, stages)
