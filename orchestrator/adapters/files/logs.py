"""Logs of attempts: one file each, every line ``<timestamp> <text>``.

Each line is written in one system call as soon as it comes, so that readers see it at once and a kill finds
nothing waiting in memory.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from orchestrator.adapters.files.failures import facts_of, storing
from orchestrator.domain.text import readable
from orchestrator.ports.engine import LogLine
from orchestrator.ports.retention import FileFacts

_BLOCK = 1 << 16
_ID = re.compile(r"[1-9][0-9]{0,17}")
_TAIL_BYTES: Final = 4 << 20
_OVERLAP: Final = timedelta(seconds=1)
"""A container's two streams are stamped apart: a line may come after a younger one of the other stream."""


class FolderLogs:
    """LogFiles in a folder that only its owner can read."""

    def __init__(self, root: Path) -> None:
        self._root = root
        with storing("logs", root):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def writer(self, attempt_id: int, mask: Callable[[bytes], bytes]) -> FileLogWriter:
        """Open an attempt's log to append. Raises StoreUnavailable when it cannot be written."""
        return FileLogWriter(self._path(attempt_id), mask)

    def lines(self, attempt_id: int, offset: int = 0) -> Iterator[tuple[int, LogLine]]:
        """Whole lines from a byte offset on, which is 0 or one that this method gave."""
        try:
            file = self._path(attempt_id).open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(offset)
            for raw in file:
                if not raw.endswith(b"\n"):
                    return
                offset += len(raw)
                yield offset, _parse(raw)

    def tail(self, attempt_id: int, count: int) -> Sequence[str]:
        """The last lines as a person would see them; of more than 4 MB only the end."""
        try:
            file = self._path(attempt_id).open("rb")
        except FileNotFoundError:
            return ()
        with file:
            raw = _last_lines(file, count)
        return tuple(readable(_parse(line).text) for line in raw)

    def files(self) -> Sequence[FileFacts]:
        """All logs, named by their attempts' ids."""
        return facts_of(self._root, _ID, ".log")

    def drop(self, attempt_id: int) -> int:
        """Remove a log; its bytes, 0 when there is none."""
        path = self._path(attempt_id)
        try:
            size = path.stat().st_size
            with storing("that a log was removed", self._root):
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return 0
        return size

    def _path(self, attempt_id: int) -> Path:
        return self._root / f"{attempt_id:d}.log"


class FileLogWriter:
    """A LogWriter. Raises StoreUnavailable when the disk is full; what was written before stays whole."""

    def __init__(self, path: Path, mask: Callable[[bytes], bytes]) -> None:
        self._folder = path.parent
        self._mask = mask
        self._on_file: Counter[tuple[str, bytes]] = Counter()
        self._resume: str | None = None
        with storing("a log", self._folder):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
            with path.open("rb") as written:
                self._end, last = _measure(written)
                if last is not None:
                    self._resume = _earlier(last)
                    self._on_file = _lines_since(written, self._end, self._resume)
            self._file.truncate(self._end)

    @property
    def last_timestamp(self) -> str | None:
        """Where to resume: a second before the last whole line, for late lines of the other stream."""
        return self._resume

    @property
    def size(self) -> int:
        """Bytes on file: the output with the timestamp and newline of each line."""
        return self._end

    def write(self, line: LogLine) -> None:
        """Mask and append a line; as many equal ones as lay on file from the resume point on are skipped."""
        text = self._mask(line.text).replace(b"\n", b" ")
        key = (_sortable(line.timestamp), text)
        if key in self._on_file:
            self._on_file[key] -= 1
            if self._on_file[key] == 0:
                del self._on_file[key]
            return
        raw = b"%s %s\n" % (line.timestamp.encode(), text)
        with storing("a log", self._folder):
            self._append(raw)
        self._end += len(raw)

    def close(self) -> None:
        """Close the file; may be repeated."""
        self._file.close()

    def _append(self, raw: bytes) -> None:
        left = memoryview(raw)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.truncate(self._end)
            raise


def _parse(raw: bytes) -> LogLine:
    timestamp, _, text = raw.removesuffix(b"\n").partition(b" ")
    return LogLine(timestamp.decode("ascii", "replace"), text)


def _measure(file: BinaryIO) -> tuple[int, str | None]:
    """Where the last whole line ends, and that line's timestamp."""
    end = 0
    last = b""
    for raw in file:
        if raw.endswith(b"\n"):
            end += len(raw)
            last = raw
    return end, _parse(last).timestamp if last else None


def _lines_since(file: BinaryIO, end: int, since: str) -> Counter[tuple[str, bytes]]:
    """The lines stamped at ``since`` or later. Lines are out of order by less than a second."""
    edge, first = _sortable(_earlier(since)), _sortable(since)
    window = 1 << 20
    while True:
        start = max(0, end - window)
        file.seek(start)
        raw = file.read(end - start)
        if start > 0:
            raw = raw[raw.find(b"\n") + 1 :]
        if start == 0 or (raw and _sortable(_parse(raw[:64]).timestamp) < edge):
            break
        window *= 4
    lines = (_parse(line) for line in raw.split(b"\n")[:-1])
    found = ((_sortable(line.timestamp), line.text) for line in lines)
    return Counter(key for key in found if key[0] >= first)


def _last_lines(file: BinaryIO, count: int) -> list[bytes]:
    """The last ``count`` whole lines, read from the end."""
    end = position = file.seek(0, os.SEEK_END)
    held = b""
    while position > 0 and held.count(b"\n") <= count and end - position < _TAIL_BYTES:
        step = min(_BLOCK, position)
        position -= step
        file.seek(position)
        held = file.read(step) + held
    lines = held.split(b"\n")[:-1]
    if position > 0 and len(lines) > 1:
        lines = lines[1:]
    return lines[-count:] if count > 0 else []


def _sortable(timestamp: str) -> str:
    """A timestamp with its fraction at full length, so that text order is time order."""
    whole, _, fraction = timestamp.removesuffix("Z").partition(".")
    return f"{whole}.{fraction.ljust(9, '0')}"


def _earlier(timestamp: str) -> str:
    """The timestamp a second before, cut to microseconds but at full length."""
    whole, _, fraction = timestamp.removesuffix("Z").partition(".")
    try:
        moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    except ValueError:
        return timestamp
    return f"{moment - _OVERLAP:%Y-%m-%dT%H:%M:%S}.{fraction[:6].ljust(9, '0')}Z"
