"""Charts of a report, as numbers: what is drawn, not how."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.domain.run import RunState


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One run of a metric's history. ``spread`` is the standard deviation over its replicates, 0 with one."""

    run: int
    label: str
    """Such as ``#42``."""
    value: float
    spread: float = 0.0
    state: RunState = RunState.PASSED


@dataclass(frozen=True, slots=True)
class TrendChart:
    """A metric over the runs of a branch, oldest first, with this run last.

    ``low`` and ``high`` bound the band of the baseline: its mean and what its noise explains; NaN where there
    is none. ``limit`` is a bound that the gate names, NaN without one. ``direction`` is ``higher``, ``lower``
    or empty.
    """

    metric: str
    points: tuple[TrendPoint, ...]
    unit: str = ""
    direction: str = ""
    baseline: float = float("nan")
    baseline_label: str = ""
    low: float = float("nan")
    high: float = float("nan")
    limit: float = float("nan")


@dataclass(frozen=True, slots=True)
class CurveLine:
    """One line of a curve chart; values may be NaN or infinite, and are then gaps."""

    name: str
    x: array[float]
    y: array[float]


@dataclass(frozen=True, slots=True)
class CurveChart:
    """Lines over a common axis: a series over its steps, or a curve that the run left, such as ROC."""

    title: str
    lines: tuple[CurveLine, ...]
    x_label: str = "step"
    y_label: str = ""
    unit: str = ""
    diagonal: bool = False
    """Whether the line from corner to corner means something: chance for ROC, perfection for calibration."""


@dataclass(frozen=True, slots=True)
class ConfusionChart:
    """How often an actual class (rows) was predicted as which (columns)."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that the run left. ``sha256`` names its stored content."""

    title: str
    path: str
    sha256: str
    size: int


Chart: TypeAlias = TrendChart | CurveChart | ConfusionChart | Picture


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart as a PNG. ``alt`` says in words what it shows; ``width`` and ``height`` in CSS pixels, half of
    the file's own where it was drawn for dense screens.
    """

    name: str
    """Unique in its report, of letters, digits and dashes: ``trend-accuracy``."""
    png: bytes
    alt: str
    width: int
    height: int
