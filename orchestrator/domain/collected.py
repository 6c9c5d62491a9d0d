"""What the files that a training left hold, whatever their format."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.domain.metrics import Metric


@dataclass(frozen=True, slots=True)
class Series:
    """One number over the course of a training, in the order in which it was written.

    The arrays hold doubles (``array("d")``) and are as long as each other, apart from ``timestamps`` (seconds
    since 1970 in UTC), which is empty where the file tells none. Values may be NaN or infinite. They are not
    to be changed.
    """

    name: str
    steps: array[float]
    values: array[float]
    timestamps: array[float] = field(default_factory=lambda: array("d"))
    source: str = ""
    reader: str = ""


@dataclass(frozen=True, slots=True)
class Param:
    """What a training was told, such as a learning rate, as text. ``name`` is flattened with ``/``."""

    name: str
    text: str
    source: str = ""
    reader: str = ""


class PlotKind(StrEnum):
    """How a plot is to be shown."""

    IMAGE = "image"
    """A png, jpg or gif."""
    ACTIVE = "active"
    """An html or svg: it may hold scripts, and is shown in a sandboxed frame alone."""
    VEGA = "vega"
    """A Vega-Lite document."""
    CONFUSION = "confusion"
    """Rows of an actual and a predicted class."""
    CURVE = "curve"
    """Points of y over x, from JSON or a table: ROC, precision and recall, calibration."""
    TABLE = "table"
    """A CSV, TSV, JSON or YAML file of rows."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Something to look at.

    ``path`` is the file; a picture that is embedded in it comes as ``content``, and ``path`` then ends with
    ``#`` and its name. ``hints`` say how to draw a table: ``template`` (as in dvc.yaml), ``x``, ``y``,
    ``x_label``, ``y_label``, ``key`` (below which key of the document the points are).
    """

    path: str
    kind: PlotKind
    title: str = ""
    hints: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    reader: str = ""
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """All that was read from one file, or from the files of one layout.

    ``warnings`` say what was there and could not be read, or was left out, each with its file.
    """

    metrics: tuple[Metric, ...] = ()
    series: tuple[Series, ...] = ()
    params: tuple[Param, ...] = ()
    plots: tuple[Plot, ...] = ()
    warnings: tuple[str, ...] = ()
