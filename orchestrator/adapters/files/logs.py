"""Logs of attempts: one file each, every line ``<timestamp> <text>``.

Each line is written in one system call as soon as it comes, so that readers see it at once and a kill finds
nothing waiting in memory.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from orchestrator.adapters.files.failures import facts_of, storing
from orchestrator.domain.text import readable
from orchestrator.observe import MASK_ADDED
from orchestrator.ports.engine import LogLine
from orchestrator.ports.retention import FileFacts
from orchestrator.ports.world import LogMask

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

    def writer(self, attempt_id: int, mask: LogMask) -> FileLogWriter:
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

    def drop(self, attempt_id: int) -> int | None:
        """Remove a log; its bytes, None when there is none."""
        path = self._path(attempt_id)
        try:
            size = path.stat().st_size
            with storing("that a log was removed", self._root):
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return None
        return size

    def _path(self, attempt_id: int) -> Path:
        return self._root / f"{attempt_id:d}.log"


class FileLogWriter:
    """A LogWriter. Raises StoreUnavailable when the disk is full; what was written before stays whole."""

    def __init__(self, path: Path, mask: LogMask) -> None:
        self._folder = path.parent
        self._mask = mask
        self._on_file: Counter[tuple[str, bytes]] = Counter()
        self._known_until = ""
        self._resume: str | None = None
        mask.begin()
        with storing("a log", self._folder):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
            with path.open("rb") as written:
                found = _measure(written)
                self._end = found.end
                if found.last is not None:
                    self._go_on(written, found, found.last)
            self._file.truncate(self._end)

    def _go_on(self, written: BinaryIO, found: _Measured, last: str) -> None:
        """Find out what is on file, and from where on to read again."""
        since = _earlier(last)
        self._known_until = _sortable(since)
        before, lines = _lines_around(written, self._end, since)
        self._on_file = Counter((_sortable(line.timestamp), line.text) for line in lines)
        # How the first of these was masked depends on the bytes before it, and on all that was asked for.
        self._resume = _reaching_back(before, self._mask.context, since)
        if found.requests > self._mask.requests:
            self._resume = min(self._resume, found.first_request, key=_sortable)

    @property
    def last_timestamp(self) -> str | None:
        """A second before the last whole line, for late lines of the other stream, or what the mask needs."""
        return self._resume

    @property
    def size(self) -> int:
        """Bytes on file: the output with the timestamp and newline of each line."""
        return self._end

    def write(self, line: LogLine) -> None:
        """Mask and append a line; as many equal ones as lay on file already are skipped."""
        text = self._mask.line(line.text, line.stream, cut=line.cut).replace(b"\n", b" ")
        key = (_sortable(line.timestamp), text)
        if key[0] < self._known_until:
            return
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


@dataclass
class _Measured:
    """A log on file: where its last whole line ends, with that line's time; requests to mask a value."""

    end: int = 0
    last: str | None = None
    requests: int = 0
    first_request: str = ""


def _measure(file: BinaryIO) -> _Measured:
    found = _Measured()
    last = b""
    for raw in file:
        if raw.endswith(b"\n"):
            found.end += len(raw)
            last = raw
            if MASK_ADDED in raw and _parse(raw).text.startswith(MASK_ADDED):
                found.requests += 1
                found.first_request = found.first_request or _parse(raw).timestamp
    found.last = _parse(last).timestamp if last else None
    return found


def _lines_around(file: BinaryIO, end: int, since: str) -> tuple[list[LogLine], list[LogLine]]:
    """Some lines that come before all those stamped at ``since`` or later; and the latter.

    Lines are out of order by less than a second.
    """
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
    lines = [_parse(line) for line in raw.split(b"\n")[:-1]]
    late = [number for number, line in enumerate(lines) if _sortable(line.timestamp) >= first]
    return lines[: late[0]], [lines[number] for number in late]


def _reaching_back(before: list[LogLine], size: int, since: str) -> str:
    """The time from which on at least ``size`` bytes come before ``since``, or all that there are."""
    earliest = since
    while size > 0 and before:
        line = before.pop()
        size -= len(line.text)
        earliest = min(earliest, line.timestamp, key=_sortable)
    return earliest


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
