"""What flows out of an engine for long: logs and archives. Each has a connection of its own."""

from __future__ import annotations

import contextlib
import io
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from orchestrator.adapters.docker.convert import whole_second
from orchestrator.adapters.docker.errors import translate
from orchestrator.adapters.docker.frames import LineParser
from orchestrator.domain.errors import EngineError, EngineUnavailable
from orchestrator.ports.engine import Container, LogLine

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response
    from urllib3.response import BaseHTTPResponse

_CHUNK = 1 << 16
_SECONDS = len("2026-01-01T00:00:00")
_MICROSECONDS = len("2026-01-01T00:00:00.000000")


def body_of(response: Response) -> BaseHTTPResponse:
    """The bytes behind a streamed response."""
    raw: BaseHTTPResponse = response.raw
    return raw


class Connection:
    """A streamed response and the client that it came by. Any thread may close it, which wakes the reader."""

    def __init__(self, client: APIClient, response: Response) -> None:
        self._client = client
        self._response = response
        self._closed = threading.Event()
        self._reading = threading.Lock()

    def chunks(self, what: str) -> Iterator[bytes]:
        """The body as it arrives. EngineUnavailable when it breaks off."""
        body = body_of(self._response)
        # One translation around the loop: a line of a log is a chunk, and entering costs as much as parsing.
        with translate(what):
            while True:
                with self._reading:
                    data = b"" if self._closed.is_set() else body.read1(_CHUNK)
                if self._closed.is_set():
                    self.close()
                if not data:
                    return
                yield data

    def end(self) -> APIClient:
        """End this answer, for the reading thread alone; the client, for the next request."""
        self._response.close()
        return self._client

    def close(self) -> None:
        """Free the connection. Repeating is fine."""
        self._closed.set()
        if self._reading.acquire(blocking=False):
            try:
                self._response.close()
                self._client.close()
            finally:
                self._reading.release()
        else:
            # Only the reading thread may close the file under its own feet; it does once it sees the end.
            with contextlib.suppress(ValueError, RuntimeError, OSError):
                body_of(self._response).shutdown()


class LogSource(Protocol):
    """A container whose log is read."""

    def open(self, since: str | None, follow: bool, client: APIClient | None = None) -> Connection:
        """Ask for the log from a timestamp on, by a client of its own or this one."""

    def ended(self) -> Container | None:
        """The container, if it is known to have ended."""


class LogLines:
    """The lines of a container, an iterator. Only :meth:`close` may be called from another thread.

    A busy engine now and then ends a log that it follows together with the container, before it has sent all
    of it. So once the container has ended, the log is asked for again from the second of the last line on,
    without following, and as many lines are skipped as have come since then.
    A line that is unfinished when the engine goes away is kept back; it comes when the log is resumed.
    """

    def __init__(self, source: LogSource, since: str | None) -> None:
        self._source = source
        self._connection = source.open(since, follow=True)
        self._chunks = self._connection.chunks("following a log")
        self._parser = LineParser()
        self._lines: deque[LogLine] = deque()
        self._closed = False
        self._following = True
        self._over = False
        self._resume = since
        self._mark = since[:_MICROSECONDS] if since else ""
        self._latest = self._mark[:_SECONDS]
        self._since_mark = 0
        self._to_skip = 0
        self._last: Container | None = None
        self.ended: Container | None = None

    def __iter__(self) -> LogLines:
        return self

    def __next__(self) -> LogLine:
        while not self._lines:
            if self._over or self._closed:
                self.close()
                raise StopIteration
            self._read()
        return self._lines.popleft()

    def close(self) -> None:
        """Free the connection, and wake a thread that waits for a line. Repeating is fine."""
        self._closed = True
        self._connection.close()

    def __del__(self) -> None:
        if hasattr(self, "_connection"):
            self.close()

    def _read(self) -> None:
        try:
            data = next(self._chunks, b"")
        except EngineUnavailable:
            # The end of a log says nothing about the container, whichever way it came.
            self._over = True
            return
        if data:
            lines = self._parser.feed(data)
            if self._following:
                self._note(lines)
            elif self._to_skip:
                skipped = min(self._to_skip, len(lines))
                self._to_skip -= skipped
                lines = lines[skipped:]
            self._lines.extend(lines)
        elif self._following and not self._closed and (ended := self._source.ended()) is not None:
            self._last = ended
            self._catch_up()
        else:
            self._over = True
            if not self._following and not self._closed:
                self._lines.extend(self._parser.finish())
                self.ended = self._last

    def _note(self, lines: list[LogLine]) -> None:
        # While a line is unfinished the mark stays before its beginning, however many others pass.
        settled = not self._parser.pending
        for line in lines:
            second = line.timestamp[:_SECONDS]
            if settled and second > self._latest:
                self._mark, self._since_mark = second, 1
                self._resume = whole_second(line.timestamp)
            elif line.timestamp >= self._mark:
                self._since_mark += 1
            self._latest = max(self._latest, second)

    def _catch_up(self) -> None:
        self._following = False
        try:
            self._connection = self._source.open(self._resume, False, self._connection.end())
        except EngineError:
            self._over = True
            return
        if self._closed:
            self._connection.close()
        self._chunks = self._connection.chunks("reading the end of a log")
        self._parser = LineParser()
        self._to_skip = self._since_mark


class _Body(io.RawIOBase):
    def __init__(self, response: Response, what: str, client: APIClient | None) -> None:
        super().__init__()
        self._response = response
        self._what = what
        self._client = client

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub names a private protocol
        with translate(self._what):
            data = body_of(self._response).read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._response.close()
            if self._client is not None:
                self._client.close()
        super().close()


def archive_stream(response: Response, what: str, client: APIClient | None = None) -> io.BufferedReader:
    """A file over a response's body. EngineUnavailable when it breaks off; closing ends the transfer.

    Closes ``client`` with it.
    """
    return io.BufferedReader(_Body(response, what, client), _CHUNK)
