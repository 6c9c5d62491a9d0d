"""Files in a folder, as readers of formats get them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.domain.collected import Reading
from orchestrator.ports.collecting import LeftFile


def left_in(folder: Path) -> dict[str, LeftFile]:
    """All files below a folder, by their paths in it."""
    return {
        str(path.relative_to(folder)): LeftFile(
            str(path.relative_to(folder)), path.stat().st_size, partial(_opened, path)
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


def left(contents: Mapping[str, bytes]) -> dict[str, LeftFile]:
    """Files with these contents, by their paths."""
    return {
        path: LeftFile(path, len(content), partial(io.BytesIO, content)) for path, content in contents.items()
    }


def readings(files: Mapping[str, LeftFile], *declared: str) -> dict[str, Reading]:
    """What is found in files, by the readers' names."""
    readers = FormatReaders()
    claims = readers.claims(files, lambda path: path in declared)
    return {claim.reader: readers.read(claim, files) for claim in claims}


def reading_of(name: str, content: bytes, *, form: str = "") -> Reading:
    """What one declared file holds."""
    files = left({name: content})
    if form:
        return FormatReaders().read_as(files[name], form)
    (reading,) = readings(files, name).values()
    return reading


def values(reading: Reading) -> dict[str, float]:
    """The metrics of a reading by their names."""
    return {metric.name: metric.value for metric in reading.metrics}


def curve(reading: Reading, name: str) -> list[tuple[float, float]]:
    """Steps and values of one series."""
    series = next(each for each in reading.series if each.name == name)
    return list(zip(series.steps, series.values, strict=True))
