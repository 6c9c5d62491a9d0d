"""What all readers need: reading with bounds, numbers as people write them, and gathering what was found."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.domain.collected import Param, Plot, Reading, Series
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Direction, Metric
from orchestrator.domain.text import clean
from orchestrator.ports.collecting import LeftFile

READ_WHOLE: Final = 32 << 20
"""Bytes of the largest file of a format that can only be read as a whole, such as JSON."""
LONGEST_LINE: Final = 4 << 20
"""Bytes of one line of a file that is read line by line."""
MOST_METRICS: Final = 10_000
"""So many numbers one file, or one layout's files, may hold."""
MOST_POINTS: Final = 5_000_000
"""So many points of series are kept of one file, or of one layout's files."""
LONGEST_NAME: Final = 500
LONGEST_TEXT: Final = 2_000
"""Characters of a parameter that are kept."""
MOST_WARNINGS: Final = 20

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_SPECIAL: Final[Mapping[str, float]] = {
    "nan": math.nan,
    "inf": math.inf,
    "infinity": math.inf,
    "-inf": -math.inf,
    "-infinity": -math.inf,
    "+inf": math.inf,
    "+infinity": math.inf,
    ".nan": math.nan,
    ".inf": math.inf,
    "+.inf": math.inf,
    "-.inf": -math.inf,
}
_MILLISECONDS: Final = 1e11
"""Moments from here on are told in milliseconds: as seconds they would lie in the year 5138."""


def number(text: str) -> float | None:
    """A number as text, NaN and the infinities included; None for all else."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    return _SPECIAL.get(text.lower())


def as_float(value: float) -> float:
    """A float; an integer beyond what one holds is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def whole_number(value: float | None) -> int | None:
    """A step as an integer; None for one that is none."""
    return int(value) if value is not None and math.isfinite(value) and value == int(value) else None


def seconds(moment: float) -> float:
    """A moment since 1970 in seconds, whether it was told in those or in milliseconds."""
    return moment / 1000 if abs(moment) >= _MILLISECONDS else moment


def read_whole(file: LeftFile, expected: str) -> bytes:
    """A file's content. InvalidInput for one that is empty or too large."""
    if file.size > READ_WHOLE:
        raise InvalidInput(
            f"{file.path}: it has {file.size} bytes, and a file of this kind may have {READ_WHOLE}",
            "write single numbers here, and series as CSV or JSON lines, which are read line by line",
        )
    with file.open() as stream:
        content = stream.read(READ_WHOLE + 1)
    if not content.strip():
        raise InvalidInput(f"{file.path}: the file is empty", expected)
    return content


def read_text(file: LeftFile, expected: str) -> str:
    """A file's text. InvalidInput for one that is empty, too large or not UTF-8."""
    return decoded(file.path, read_whole(file, expected))


def decoded(path: str, content: bytes) -> str:
    """Bytes as text. InvalidInput saying which byte is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path}: byte {error.start + 1} is not UTF-8", "write the file as UTF-8"
        ) from None


def lines_of(file: LeftFile) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers from 1, one after the other. InvalidInput as said above."""
    with file.open() as stream:
        at = 0
        while line := stream.readline(LONGEST_LINE + 1):
            at += 1
            if len(line) > LONGEST_LINE:
                raise InvalidInput(
                    f"{file.path}:{at}: the line has more than {LONGEST_LINE} bytes",
                    "is it a text? Write one record on each line",
                )
            try:
                text = line.decode("utf-8-sig" if at == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InvalidInput(
                    f"{file.path}:{at}: byte {error.start + 1} of the line is not UTF-8",
                    "write the file as UTF-8",
                ) from None
            yield at, text.rstrip("\r\n")


@dataclass(slots=True)
class _Track:
    source: str
    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))
    timestamps: array[float] = field(default_factory=lambda: array("d"))


class Findings:
    """What a reader finds, within the bounds. Not for two threads.

    A series without a metric of its name has its last value as one.
    """

    def __init__(self, reader: str, source: str) -> None:
        self.reader = reader
        self.source = source
        self._metrics: dict[str, Metric] = {}
        self._tracks: dict[str, _Track] = {}
        self._series: dict[str, Series] = {}
        self._params: dict[str, Param] = {}
        self._plots: dict[str, Plot] = {}
        self._warnings: list[str] = []
        self._unsaid = 0
        self._refused = 0
        self._points = 0
        self._cut = 0

    def warn(self, message: str) -> None:
        """Say what could not be read; beyond a few, how many more there are."""
        message = clean(message)
        if len(self._warnings) < MOST_WARNINGS:
            self._warnings.append(message)
        else:
            self._unsaid += 1

    def metric(
        self,
        name: str,
        value: float,
        *,
        source: str = "",
        step: float | None = None,
        timestamp: float | None = None,
        stderr: float | None = None,
        direction: Direction | None = None,
        unit: str = "",
    ) -> None:
        """Note a value; a later one of the same name replaces it. InvalidInput when there are too many."""
        name = self._named(name, source)
        if not name:
            return
        if name not in self._metrics and len(self._metrics) >= MOST_METRICS:
            raise self._too_many()
        self._metrics[name] = Metric(
            name,
            as_float(value),
            source or self.source,
            self.reader,
            whole_number(step),
            timestamp,
            stderr,
            direction,
            unit,
        )

    def metrics(self) -> Mapping[str, Metric]:
        """Those noted so far, by name."""
        return self._metrics

    def point(
        self, name: str, step: float, value: float, timestamp: float = math.nan, source: str = ""
    ) -> None:
        """Note a point of a series; a later one comes later in it."""
        track = self._tracks.get(name)
        if track is None:
            if len(self._tracks) >= MOST_METRICS:
                raise self._too_many()
            track = self._tracks[name] = _Track(source or self.source)
        if self._points >= MOST_POINTS:
            # The last value is the metric's, and so it is kept whatever is left out before it.
            self._cut += 1
            track.steps[-1:], track.values[-1:] = array("d", [step]), array("d", [value])
            track.timestamps[-1:] = array("d", [timestamp])
            return
        self._points += 1
        track.steps.append(step)
        track.values.append(value)
        track.timestamps.append(timestamp)

    def series(self, series: Series) -> None:
        """Note a series as a whole."""
        name = self._named(series.name, series.source)
        if not name:
            return
        if len(self._series) >= MOST_METRICS:
            raise self._too_many()
        if (room := MOST_POINTS - self._points) < len(series.values):
            self._cut += len(series.values) - room
            keep = max(room - 1, 0)
            series = replace(
                series,
                steps=series.steps[:keep] + series.steps[-1:],
                values=series.values[:keep] + series.values[-1:],
                timestamps=series.timestamps[:keep] + series.timestamps[-1:],
            )
        self._points += len(series.values)
        self._series[name] = replace(
            series, name=name, source=series.source or self.source, reader=self.reader
        )

    def param(self, name: str, text: str, source: str = "") -> None:
        """Note a parameter. Beyond the bounds it is left out with a warning."""
        name = self._named(name, source)
        if not name:
            return
        if len(self._params) >= MOST_METRICS:
            self.warn(f"{source or self.source}: there are more than {MOST_METRICS} parameters")
            return
        if len(text) > LONGEST_TEXT:
            text = text[: LONGEST_TEXT - 1] + "…"
        self._params[name] = Param(name, clean(text), source or self.source, self.reader)

    def plot(self, plot: Plot) -> None:
        """Note something to look at; one of the same path replaces it."""
        if plot.path in self._plots or len(self._plots) < MOST_METRICS:
            self._plots[plot.path] = replace(plot, source=plot.source or self.source, reader=self.reader)

    def reading(self) -> Reading:
        """All of it."""
        for name, track in self._tracks.items():
            known = any(not math.isnan(moment) for moment in track.timestamps)
            self._series[name] = Series(
                self._named(name, track.source),
                track.steps,
                track.values,
                track.timestamps if known else array("d"),
                track.source,
                self.reader,
            )
        kept = [series for series in self._series.values() if series.name and len(series.values)]
        for series in kept:
            if series.name not in self._metrics:
                moment = series.timestamps[-1] if series.timestamps else math.nan
                self.metric(
                    series.name,
                    series.values[-1],
                    source=series.source,
                    step=series.steps[-1],
                    timestamp=None if math.isnan(moment) else moment,
                )
        warnings = list(self._warnings)
        if self._cut:
            warnings.append(
                f"{self.source}: {self._cut} points of its series were left out; {MOST_POINTS} are kept"
            )
        if self._unsaid:
            warnings.append(f"{self.source}: and {self._unsaid} more such warnings")
        return Reading(
            tuple(self._metrics.values()),
            tuple(series for series in kept if len(series.values) > 1),
            tuple(self._params.values()),
            tuple(self._plots.values()),
            tuple(warnings),
        )

    def _named(self, name: str, source: str) -> str:
        """A name that can be shown; empty, with a warning, for one that is too long.

        InvalidInput when there are too many of these.
        """
        if len(name) > LONGEST_NAME:
            self._refused += 1
            if self._refused > MOST_METRICS:
                raise self._too_many()
            start = clean(name[:60])
            self.warn(f"{source or self.source}: the name {start!r}... is too long and was left out")
            return ""
        return clean(name).strip().strip("/")

    def _too_many(self) -> InvalidInput:
        return InvalidInput(
            f"{self.source}: it holds more than {MOST_METRICS} numbers with a name of their own",
            "write single numbers here, and series or predictions to a file of their own",
        )
