"""Series, parameters and plots of attempts.

The points of a series are one blob, for nobody asks for one of them alone: steps, values and timestamps, each
column as doubles with the least significant byte first, all of it compressed by zlib.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, bindparam, insert, select
from sqlalchemy.orm import Session

from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.collected import Param, Plot, Series
from orchestrator.domain.curves import KeptSeries, SeriesFacts
from orchestrator.domain.errors import NotFound
from orchestrator.domain.metrics import Metric
from orchestrator.store.engine import Database
from orchestrator.store.tables import ParamRow, PlotRow, SeriesRow

_TOLD = ("step", "timestamp", "stderr", "direction", "unit")
_PARAMS = insert(ParamRow)
_SERIES = insert(SeriesRow)
_PLOTS = insert(PlotRow)
_FACTS = (
    select(*[column for column in SeriesRow.__table__.c if column.name not in ("attempt_id", "content")])
    .where(SeriesRow.attempt_id == bindparam("attempt_id"))
    .order_by(SeriesRow.name)
)


class SqlFindings:
    """Implements ``ports.findings.Findings``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def params(self, attempt_id: int) -> Sequence[Param]:
        of = select(ParamRow).where(ParamRow.attempt_id == attempt_id).order_by(ParamRow.name)
        with self._database.reading() as session:
            return [Param(row.name, row.text, row.source, row.reader) for row in session.scalars(of)]

    def series_facts(self, attempt_id: int) -> Sequence[SeriesFacts]:
        with self._database.connected() as connection:
            rows = connection.execute(_FACTS, {"attempt_id": attempt_id})
            return [SeriesFacts(**row._mapping) for row in rows]

    def series(self, attempt_id: int, name: str) -> Series:
        with self._database.reading() as session:
            row = session.get(SeriesRow, (attempt_id, name))
            if row is None:
                raise NotFound(f"attempt {attempt_id} left no series {name}")
            steps, values, timestamps = unpacked(row.content, row.kept)
            return Series(row.name, steps, values, timestamps, row.source, row.reader)

    def plots(self, attempt_id: int) -> Sequence[Plot]:
        of = select(PlotRow).where(PlotRow.attempt_id == attempt_id).order_by(PlotRow.position)
        with self._database.reading() as session:
            return [
                Plot(
                    row.path,
                    row.kind,
                    row.title,
                    {str(key): str(value) for key, value in row.hints.items()},
                    row.source,
                    row.reader,
                )
                for row in session.scalars(of)
            ]


def add_findings(
    session: Session,
    attempt_id: int,
    params: Sequence[Param],
    series: Sequence[KeptSeries],
    plots: Sequence[Plot],
) -> None:
    """Write what an attempt left; each name, and each position, once."""
    connection = session.connection()
    if params:
        connection.execute(
            _PARAMS,
            [
                {
                    "attempt_id": attempt_id,
                    "name": param.name,
                    "text": param.text,
                    "source": param.source,
                    "reader": param.reader,
                }
                for param in params
            ],
        )
    if series:
        connection.execute(
            _SERIES,
            [
                {
                    "attempt_id": attempt_id,
                    **{field: getattr(each.facts, field) for field in SeriesFacts.__slots__},
                    "content": packed(each.series),
                }
                for each in series
            ],
        )
    if plots:
        connection.execute(
            _PLOTS,
            [
                {
                    "attempt_id": attempt_id,
                    "position": position,
                    "path": plot.path,
                    "kind": plot.kind,
                    "title": plot.title,
                    "hints": to_plain(plot.hints),
                    "source": plot.source,
                    "reader": plot.reader,
                }
                for position, plot in enumerate(plots)
            ],
        )


def told_of(metric: Metric) -> dict[str, object] | None:
    """What a file says of a metric beside its value, as it is stored; None where it says nothing."""
    told = {name: to_plain(getattr(metric, name)) for name in _TOLD if getattr(metric, name)}
    if metric.step is not None:
        told["step"] = metric.step
    return told or None


def metric_of(row: Row[Any]) -> Metric:
    """The metric of a row with all of its columns."""
    plain = Metric(row.name, row.value, row.source, row.reader)
    return plain if row.told is None else from_plain(Metric, {**to_plain(plain), **row.told})


def packed(series: Series) -> bytes:
    """The points of a series as a blob."""
    return zlib.compress(b"".join(map(_bytes_of, (series.steps, series.values, series.timestamps))), 6)


def unpacked(content: bytes, count: int) -> tuple[array[float], array[float], array[float]]:
    """Steps, values and timestamps of a blob with so many points."""
    raw = zlib.decompress(content)
    size = count * 8
    return _doubles(raw[:size]), _doubles(raw[size : 2 * size]), _doubles(raw[2 * size :])


def _bytes_of(column: array[float]) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _doubles(raw: bytes) -> array[float]:
    column = array("d")
    column.frombytes(raw)
    if sys.byteorder == "big":
        column.byteswap()
    return column
