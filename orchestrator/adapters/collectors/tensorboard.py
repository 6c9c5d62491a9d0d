"""TensorBoard's event files: the scalars of all runs below one folder, with embedded pictures.

A record has its wall time, its step and its value at places that only its layout decides. Records of one
length are therefore grouped by what else they hold, one of each group is parsed, and the others are decoded
together.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.adapters.collectors.common import MOST_METRICS, Findings
from orchestrator.adapters.collectors.events import (
    Event,
    Picture,
    Scalar,
    parse_event,
    picture_type,
    scalar_value,
)
from orchestrator.adapters.collectors.tfrecords import Bytes, batches
from orchestrator.domain.collected import Plot, PlotKind, Reading, Series
from orchestrator.domain.errors import InvalidInput
from orchestrator.ports.collecting import LeftFile

NAME: Final = "tensorboard"
_LAYOUTS: Final = 64
"""So many layouts of records of one length are decoded together; the rest one by one."""
_WIDEST: Final = 4096
_FEW: Final = 4
"""Of records that are wider, or are fewer, each is parsed."""
_MOST_PICTURES: Final = 50
_PICTURES_SIZE: Final = 32 << 20
_MOST_ALONE: Final = 1_000_000
"""Records of one file that are parsed each by itself, some ten microseconds each."""
_WITHOUT_NAMES: Final = 16
"""Bytes of the shortest record that can hold a number."""

Floats = NDArray[np.float64]


@dataclass(slots=True)
class _Points:
    """Pieces of one tag's series, as they were decoded: places in the file, steps, values, moments."""

    pieces: list[tuple[NDArray[np.int64], Floats, Floats, Floats]] = field(default_factory=list)
    single: bool = True
    """Whether the values were written with single precision."""
    alone: tuple[array[int], array[float], array[float], array[float]] = field(
        default_factory=lambda: (array("q"), array("d"), array("d"), array("d"))
    )
    """The same of records that were parsed by themselves, with a few bytes for each."""

    def joined(self) -> tuple[Floats, Floats, Floats]:
        """Steps, values and moments in the file's order."""
        places, *columns = self.alone
        alone = (np.array(places, np.int64), *(np.array(column, np.float64) for column in columns))
        pieces = [*self.pieces, alone]
        order = np.concatenate([piece[0] for piece in pieces])
        sort = np.argsort(order, kind="stable")
        steps, values, walls = (np.concatenate([p[n] for p in pieces])[sort] for n in (1, 2, 3))
        return steps, values, walls


@dataclass(slots=True)
class _File:
    """What one file says."""

    points: dict[str, _Points] = field(default_factory=dict)
    pictures: dict[str, tuple[int, Picture]] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    broken: int = 0
    """Records that are no events."""
    parsed: int = 0
    """Records that were parsed by themselves."""


def read_events(files: Sequence[LeftFile]) -> Reading:
    """All runs together. A run's name precedes its tags where there are several.

    Files of one folder are one run, in the order of their names, which begin with the time; where a later one
    goes back to earlier steps, its points replace those.
    """
    folders: dict[str, list[LeftFile]] = {}
    for file in sorted(files, key=lambda each: each.path):
        folders.setdefault(str(PurePosixPath(file.path).parent), []).append(file)
    found = Findings(NAME, files[0].path)
    root = _common(list(folders))
    empty = True
    for folder, those in folders.items():
        prefix = "/".join(PurePosixPath(folder).parts[len(root) :])
        for file in those:
            if file.size == 0:
                found.warn(f"{file.path}: the file is empty")
        read = [(file, _read(file, found)) for file in those if file.size]
        empty = empty and not any(each.points or each.pictures or each.params for _, each in read)
        _note(found, read, prefix)
    reading = found.reading()
    if empty:
        raise InvalidInput(
            f"{files[0].path}: no event could be read{''.join(f'; {each}' for each in reading.warnings[:1])}",
            "expected a file that TensorBoard's writer flushed or closed",
        )
    return reading


def _common(folders: Sequence[str]) -> tuple[str, ...]:
    parts = [PurePosixPath(folder).parts for folder in folders]
    shared = 0
    while all(len(each) > shared and each[shared] == parts[0][shared] for each in parts):
        shared += 1
    return parts[0][:shared]


def _note(found: Findings, read: Sequence[tuple[LeftFile, _File]], prefix: str) -> None:
    """One run's files."""
    joined: dict[str, tuple[LeftFile, bool, list[tuple[Floats, Floats, Floats]]]] = {}
    pictures: dict[str, tuple[LeftFile, int, Picture]] = {}
    for file, said in read:
        for name, text in said.params.items():
            found.param(_under(prefix, name), text, file.path)
        for tag, points in said.points.items():
            steps, values, walls = points.joined()
            _, _, before = joined.get(tag, (file, True, []))
            # A writer that goes on from a checkpoint writes again what came after it.
            before = [tuple(column[old[0] < steps[0]] for column in old) for old in before]
            joined[tag] = (file, points.single, [*before, (steps, values, walls)])
        for tag, (step, picture) in said.pictures.items():
            pictures[tag] = (file, step, picture)
        if said.broken:
            found.warn(f"{file.path}: {said.broken} records are no events and were passed over")
    for tag, (file, single, pieces) in sorted(joined.items()):
        steps, values, walls = (np.concatenate([piece[n] for piece in pieces]) for n in range(3))
        name = _under(prefix, tag)
        found.series(Series(name, _array(steps), _array(values), _known(walls), file.path))
        found.metric(
            name,
            _shortest(float(values[-1])) if single else float(values[-1]),
            source=file.path,
            step=float(steps[-1]),
            timestamp=None if math.isnan(walls[-1]) else float(walls[-1]),
        )
    _note_pictures(found, pictures, prefix)


def _note_pictures(
    found: Findings, pictures: Mapping[str, tuple[LeftFile, int, Picture]], prefix: str
) -> None:
    size = 0
    for count, (tag, (file, step, picture)) in enumerate(pictures.items()):
        size += len(picture.content)
        if count >= _MOST_PICTURES or size > _PICTURES_SIZE:
            found.warn(f"{file.path}: {len(pictures) - count} of its pictures were left out")
            return
        name = _under(prefix, tag)
        found.plot(
            Plot(
                f"{file.path}#{name}.{picture_type(picture.content)}",
                PlotKind.IMAGE,
                f"{name} at step {step}",
                source=file.path,
                content=picture.content,
            )
        )


def _under(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name


def _shortest(value: float) -> float:
    """The number with the fewest digits that single precision stores as this one: 0.9, not 0.89999998."""
    return float(str(np.float32(value)))


def _array(values: Floats) -> array[float]:
    made = array("d")
    made.frombytes(np.ascontiguousarray(values, np.float64).tobytes())
    return made


def _known(walls: Floats) -> array[float]:
    return array("d") if np.isnan(walls).any() else _array(walls)


def _read(file: LeftFile, found: Findings) -> _File:
    said = _File()
    for batch in batches(file, found.warn):
        if batch.rows.shape[1] >= _WITHOUT_NAMES:
            _Decoder(said, file).decode(batch.order, batch.rows)
    return said


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where an event has what differs between events that say the same things."""

    wall: int
    step: tuple[int, int]
    values: tuple[tuple[int, str], ...]

    @staticmethod
    def of(event: Event) -> _Layout | None:
        """That of an event; None when it has something that no place can tell."""
        if event.wall_at < 0 or event.pictures or event.params or not event.scalars:
            return None
        if any(scalar.at < 0 for scalar in event.scalars):
            return None
        return _Layout(
            event.wall_at,
            (event.step_at, event.step_end),
            tuple((scalar.at, scalar.format) for scalar in event.scalars),
        )

    def constant(self, width: int) -> NDArray[np.bool_]:
        """Which bytes are the same in all events that have this layout and these tags."""
        mask = np.ones(width, bool)
        mask[self.wall : self.wall + 8] = False
        if self.step[0] >= 0:
            mask[slice(*self.step)] = False
        for at, form in self.values:
            mask[at : at + int(form[-1])] = False
        return mask

    def has_steps(self, rows: Bytes) -> NDArray[np.bool_]:
        """Which rows have at that place a number of just that length."""
        if self.step[0] < 0:
            return np.ones(len(rows), bool)
        more = rows[:, slice(*self.step)] >= 0x80
        return np.asarray(more[:, :-1].all(axis=1) & ~more[:, -1])

    def walls(self, rows: Bytes) -> Floats:
        """When each was written."""
        return _numbers(rows, self.wall, "<f8")

    def steps(self, rows: Bytes) -> Floats:
        """The step of each."""
        if self.step[0] < 0:
            return np.zeros(len(rows))
        total = np.zeros(len(rows), np.uint64)
        for shift, column in enumerate(rows[:, slice(*self.step)].T):
            total |= (column & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * shift)
        return total.view(np.int64).astype(np.float64)


def _numbers(rows: Bytes, at: int, form: str) -> Floats:
    taken = np.ascontiguousarray(rows[:, at : at + int(form[-1])])
    return taken.view(form).ravel().astype(np.float64)


class _Decoder:
    """Decodes records of one length into what a file says."""

    def __init__(self, said: _File, file: LeftFile) -> None:
        self._said = said
        self._file = file

    def decode(self, order: NDArray[np.int64], rows: Bytes) -> None:
        """Note what the rows say."""
        for _ in range(_LAYOUTS if rows.shape[1] <= _WIDEST else 0):
            if len(rows) < _FEW:
                break
            left = self._some(order, rows)
            order, rows = order[left], rows[left]
        for at, row in zip(order, rows, strict=True):
            self._one(int(at), row)

    def _some(self, order: NDArray[np.int64], rows: Bytes) -> NDArray[np.bool_]:
        """Note the rows that have the layout of the first; which are left. The first never is."""
        left = np.ones(len(rows), bool)
        left[0] = False
        event = self._event(rows[0])
        layout = _Layout.of(event) if event else None
        if event is None or layout is None:
            if event is not None:
                self._keep(int(order[0]), rows[0], event)
            return left
        fixed = layout.constant(rows.shape[1])
        same = rows[:, fixed]
        candidates = np.flatnonzero(layout.has_steps(rows))
        marks = _marks(same[candidates])
        _, firsts, groups = np.unique(marks, return_index=True, return_inverse=True)
        by_group = np.argsort(groups, kind="stable")
        ends = np.cumsum(np.bincount(groups))
        for group, first in enumerate(firsts):
            members = candidates[by_group[(ends[group - 1] if group else 0) : ends[group]]]
            example = rows[candidates[first]]
            event = self._event(example)
            if event is None or _Layout.of(event) != layout:
                continue
            members = members[(same[members] == same[candidates[first]]).all(axis=1)]
            self._together(order[members], rows[members], layout, event.scalars)
            left[members] = False
        return left

    def _together(
        self, order: NDArray[np.int64], rows: Bytes, layout: _Layout, scalars: Sequence[Scalar]
    ) -> None:
        steps, walls = layout.steps(rows), layout.walls(rows)
        for scalar in scalars:
            values = _numbers(rows, scalar.at, scalar.format)
            self._points(scalar).pieces.append((order, steps, values, walls))

    def _one(self, at: int, row: Bytes) -> None:
        event = self._event(row)
        if event is not None:
            self._keep(at, row, event)

    def _event(self, row: Bytes) -> Event | None:
        self._said.parsed += 1
        if self._said.parsed > _MOST_ALONE:
            raise InvalidInput(
                f"{self._file.path}: it has more than {_MOST_ALONE} records that differ in more than numbers",
                "write fewer of them: text, images and integers are the slow ones",
            )
        try:
            return parse_event(row.tobytes())
        except ValueError:
            self._said.broken += 1
            return None

    def _keep(self, at: int, row: Bytes, event: Event) -> None:
        """Note one event by itself."""
        for scalar in event.scalars:
            places, steps, values, walls = self._points(scalar).alone
            places.append(at)
            steps.append(float(event.step))
            values.append(scalar_value(row.tobytes(), scalar))
            walls.append(event.wall)
        self._said.params |= event.params
        for picture in event.pictures:
            known = self._said.pictures.get(picture.tag)
            if known is None or known[0] <= event.step:
                self._said.pictures[picture.tag] = (event.step, picture)

    def _points(self, scalar: Scalar) -> _Points:
        points = self._said.points.get(scalar.tag)
        if points is None:
            if len(self._said.points) >= MOST_METRICS:
                raise InvalidInput(
                    f"{self._file.path}: it has more than {MOST_METRICS} tags", "fewer names for numbers"
                )
            points = self._said.points[scalar.tag] = _Points()
        points.single &= scalar.format == "<f4"
        return points


@lru_cache(maxsize=64)
def _weights(width: int) -> NDArray[np.uint64]:
    """Factors that nobody who writes a file can know."""
    return np.random.default_rng().integers(1, 1 << 63, width, np.uint64) * np.uint64(2) + np.uint64(1)


def _marks(rows: Bytes) -> NDArray[np.uint64]:
    """A number for each row that is the same for the same rows, and hardly ever for others."""
    total = np.zeros(len(rows), np.uint64)
    for weight, column in zip(_weights(rows.shape[1]), rows.T, strict=True):
        total += column * weight
    return total
