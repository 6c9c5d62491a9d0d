"""JSON lines: each number is a series over the lines, and its last value the metric."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final, cast

from orchestrator.adapters.collectors.common import Findings, lines_of, seconds
from orchestrator.adapters.collectors.documents import numbers
from orchestrator.domain.collected import Reading
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Json
from orchestrator.ports.collecting import LeftFile

STEPS: Final = ("step", "global_step", "_step", "iteration", "iter", "epoch")
_MOMENTS: Final = ("timestamp", "wall_time", "_timestamp")
_EXPECTED: Final = 'expected an object on each line, such as {"step": 1, "accuracy": 0.93}'


def read_json_lines(file: LeftFile) -> Reading:
    """All lines. A last line that was cut off is a warning; InvalidInput for any other that is no object."""
    found = Findings("jsonl", file.path)
    count, bad = 0, 0
    for at, line in lines_of(file):
        if not line.strip():
            continue
        if bad:
            raise InvalidInput(f"{file.path}:{bad}: this is no JSON object", _EXPECTED)
        document = parse_line(line)
        if document is None:
            bad = at
            continue
        note_record(found, document, count)
        count += 1
    if bad and not count:
        raise InvalidInput(f"{file.path}:{bad}: this is no JSON object", _EXPECTED)
    if bad:
        found.warn(f"{file.path}:{bad}: its last line is no JSON object, as if it were cut off")
    if not count:
        raise InvalidInput(f"{file.path}: the file is empty", _EXPECTED)
    return found.reading()


def parse_line(line: str) -> Mapping[str, Json] | None:
    """The object on a line, if there is one."""
    try:
        document = json.loads(line, parse_int=float)
    except (ValueError, RecursionError):
        return None
    return cast("Mapping[str, Json]", document) if isinstance(document, dict) else None


def note_record(
    found: Findings, record: Mapping[str, Json], count: int, *, without: tuple[str, ...] = ()
) -> None:
    """Note the numbers of one record; ``count`` is its step when it tells none."""
    step = _first(record, STEPS)
    moment = _first(record, _MOMENTS)
    aside = {*STEPS, *_MOMENTS, *without}
    body = {name: value for name, value in record.items() if name not in aside}
    for name, value in numbers(body):
        found.point(
            name,
            float(count) if step is None else step,
            value,
            math.nan if moment is None else seconds(moment),
        )


def _first(record: Mapping[str, Json], names: tuple[str, ...]) -> float | None:
    for name in names:
        value = record.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None
