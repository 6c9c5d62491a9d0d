"""MLflow's SQLite database, with its write-ahead log.

The file is somebody else's: it is copied to a folder of our own, and nothing that its schema could make
SQLite compute is followed. Views, virtual tables and triggers are not used, and a query has a time to end in.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orchestrator.adapters.collectors.common import (
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_METRICS,
    MOST_POINTS,
    Findings,
    seconds,
)
from orchestrator.adapters.collectors.mlflow_runs import TrackedRun, prefixes
from orchestrator.domain.collected import Reading, Series
from orchestrator.domain.errors import InvalidInput
from orchestrator.ports.collecting import LeftFile

NAME: Final = "mlflow"
_EXPECTED: Final = "expected the database that MLflow writes with MLFLOW_TRACKING_URI=sqlite:///…/mlflow.db"
_PATIENCE: Final = 60.0
"""Seconds within which all of a database has to be read."""
_STEPS_BETWEEN_LOOKS: Final = 100_000
_LONGEST_VALUE: Final = 1 << 20
_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100
_LARGEST: Final = 1.7976931348623157e308
"""How MLflow stores infinity."""
_MOST_RUNS: Final = 1_000
_NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "runs": frozenset({"run_uuid", "name", "start_time", "lifecycle_stage"}),
    "metrics": frozenset({"key", "value", "timestamp", "run_uuid", "step", "is_nan"}),
    "params": frozenset({"key", "value", "run_uuid"}),
}


def read_database(files: Sequence[LeftFile], scratch: Path | None = None) -> Reading:
    """All runs in a database that are not deleted. Raises InvalidInput when it is none of MLflow's, and when
    it holds too much. ``scratch``: where its copy lies meanwhile; without it, the system's temporary folder.
    """
    main = next((file for file in files if not file.path.endswith(("-wal", "-shm"))), None)
    if main is None:
        raise InvalidInput(f"{files[0].path}: there is a log without its database", _EXPECTED)
    with main.open() as stream:
        head = stream.read(_HEADER)
    if not head.startswith(_MAGIC):
        what = "this is no SQLite database" if head else "the file is empty"
        raise InvalidInput(f"{main.path}: {what}", _EXPECTED)
    if main.size < _size(head) and len(files) == 1:
        raise InvalidInput(
            f"{main.path}: it is cut off: {main.size} bytes of {_size(head)} are there", _EXPECTED
        )
    found = Findings(NAME, main.path)
    with _opened(main, files, scratch) as database:
        runs = _runs(database, main.path)
        points = 0
        for run, prefix in prefixes(runs).items():
            points += _note(found, database, run, prefix, main.path, points)
        _note_datasets(found, database)
    return found.reading()


def _size(head: bytes) -> int:
    """How many bytes a database has, as its header tells; 0 where it does not."""
    if len(head) < _HEADER or head[24:28] != head[92:96]:
        return 0
    page = int.from_bytes(head[16:18])
    return (65536 if page == 1 else page) * int.from_bytes(head[28:32])


@contextmanager
def _opened(main: LeftFile, files: Sequence[LeftFile], scratch: Path | None) -> Iterator[sqlite3.Connection]:
    """The database, from a copy. Translates SQLite's errors."""
    with tempfile.TemporaryDirectory(prefix="collect-", dir=scratch) as folder:
        place = Path(folder) / "mlflow.db"
        for suffix in ("", "-wal"):
            file = next((each for each in files if each.path == main.path + suffix), None)
            if file is not None:
                with file.open() as source, Path(f"{place}{suffix}").open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
        try:
            database = sqlite3.connect(place, isolation_level=None)
            try:
                _restrict(database)
                yield database
            finally:
                database.close()
        except (sqlite3.Error, OverflowError) as error:
            raise InvalidInput(f"{main.path}: it cannot be read: {error}", _EXPECTED) from None


def _restrict(database: sqlite3.Connection) -> None:
    until = time.monotonic() + _PATIENCE
    database.set_progress_handler(lambda: int(time.monotonic() > until), _STEPS_BETWEEN_LOOKS)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
    database.text_factory = lambda raw: raw.decode("utf-8", "replace")
    for pragma in (
        "trusted_schema = OFF",
        "query_only = ON",
        "cell_size_check = ON",
        "mmap_size = 0",
        "temp_store = MEMORY",
    ):
        database.execute(f"PRAGMA {pragma}")


def _has(database: sqlite3.Connection, table: str, columns: frozenset[str]) -> bool:
    """Whether there is an ordinary table with these columns."""
    row = database.execute(
        "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ? AND rootpage > 0", (table,)
    ).fetchone()
    if row is None:
        return False
    # Columns that are computed have a hidden mark, and could be made to compute for ever.
    there = database.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", (table,))
    return columns <= {name for (name,) in there}


def _runs(database: sqlite3.Connection, path: str) -> list[TrackedRun]:
    for table, columns in _NEEDED.items():
        if not _has(database, table, columns):
            raise InvalidInput(f"{path}: it has no table {table!r} as MLflow makes it", _EXPECTED)
    rows = database.execute(
        f"SELECT substr(run_uuid, 1, {LONGEST_NAME}), substr(name, 1, {LONGEST_NAME}),"  # noqa: S608 - of our own constants
        f" {_number('start_time')} AS started FROM runs WHERE lifecycle_stage = 'active'"
        " ORDER BY started, 1 LIMIT ?",
        (_MOST_RUNS,),
    )
    runs = {str(run): (str(name or ""), float(start or 0)) for run, name, start in rows}
    parents: dict[str, str] = {}
    if _has(database, "tags", frozenset({"key", "value", "run_uuid"})):
        for run, parent in database.execute(
            f"SELECT substr(run_uuid, 1, {LONGEST_NAME}), substr(value, 1, {LONGEST_NAME}) FROM tags"  # noqa: S608 - of our own constants
            " WHERE key = 'mlflow.parentRunId'"
        ):
            if str(run) in runs:
                parents[str(run)] = str(parent or "")
    return [TrackedRun(run, name, parents.get(run, ""), start) for run, (name, start) in runs.items()]


def _number(column: str) -> str:
    """A column where it is a number, else NULL: a text in its place could be of any length."""
    return f"CASE WHEN typeof({column}) IN ('integer', 'real') THEN {column} END"


def _note(
    found: Findings, database: sqlite3.Connection, run: str, prefix: str, path: str, before: int
) -> int:
    """Note one run, and tell how many points it has; ``before`` are those of the runs before it.

    Rows are put in order here: in a file made by hand a few pages give rows without end, and SQLite would
    write all of them down before the first comes out. InvalidInput when there are too many.
    """
    params = database.execute(
        f"SELECT substr(key, 1, {LONGEST_NAME + 1}), substr(value, 1, {LONGEST_TEXT + 1}) FROM params"  # noqa: S608 - of our own constants
        " WHERE run_uuid = ? LIMIT ?",
        (run, MOST_METRICS + 1),
    )
    for key, text in sorted((str(key), str(text)) for key, text in params):
        found.param(f"{prefix}{key}", text)
    rows = database.execute(
        f"SELECT substr(key, 1, {LONGEST_NAME + 1}), {_number('step')}, {_number('value')},"  # noqa: S608 - of our own constants
        f" {_number('timestamp')}, is_nan IS NOT NULL AND is_nan <> 0 FROM metrics WHERE run_uuid = ?",
        (run,),
    )
    tracks: dict[str, tuple[array[float], array[float], array[float]]] = {}
    count = 0
    for key, step, value, moment, is_nan in rows:
        count += 1
        if before + count > MOST_POINTS:
            raise InvalidInput(
                f"{path}: it holds more than {MOST_POINTS} values",
                "fewer steps",
            )
        name = str(key)
        if name not in tracks:
            if len(tracks) >= MOST_METRICS:
                raise InvalidInput(f"{path}: a run has more than {MOST_METRICS} metrics", "fewer metrics")
            tracks[name] = (array("d"), array("d"), array("d"))
        if step is None or value is None or moment is None:
            found.warn(f"{path}: a value of {name} is no number and was passed over")
            continue
        steps, values, moments = tracks[name]
        steps.append(float(step))
        values.append(float("nan") if is_nan else _unbounded(float(value)))
        moments.append(seconds(float(moment)))
    for name in sorted(tracks):
        if tracks[name][0]:
            found.series(Series(f"{prefix}{name}", *_in_order(*tracks[name])))
    return count


def _in_order(
    steps: array[float], values: array[float], moments: array[float]
) -> tuple[array[float], array[float], array[float]]:
    """Points by their steps, then by their moments, then by their values."""
    order = sorted(range(len(steps)), key=lambda at: (steps[at], moments[at], values[at]))
    return (
        array("d", [steps[at] for at in order]),
        array("d", [values[at] for at in order]),
        array("d", [moments[at] for at in order]),
    )


def _unbounded(value: float) -> float:
    if abs(value) >= _LARGEST:
        return float("inf") if value > 0 else float("-inf")
    return value


def _note_datasets(found: Findings, database: sqlite3.Connection) -> None:
    if _has(database, "datasets", frozenset({"name", "digest"})):
        for name, digest in database.execute(
            f"SELECT substr(name, 1, {LONGEST_NAME}), substr(digest, 1, {LONGEST_NAME}) FROM datasets"  # noqa: S608 - of our own constants
            " ORDER BY 1 LIMIT 1000"
        ):
            found.param(f"dataset/{name}", str(digest))
