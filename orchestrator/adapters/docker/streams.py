"""What flows out of an engine for long: logs and archives. Each has a connection of its own."""

from __future__ import annotations

import contextlib
import io
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from orchestrator.adapters.docker.errors import translate
from orchestrator.adapters.docker.frames import LineParser
from orchestrator.domain.errors import EngineUnavailable
from orchestrator.ports.world import LogLine

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response
    from urllib3.response import BaseHTTPResponse

_CHUNK = 1 << 16


def body_of(response: Response) -> BaseHTTPResponse:
    """The bytes behind a streamed response."""
    raw: BaseHTTPResponse = response.raw
    return raw


class LogLines:
    """The lines of one connection, an iterator. Only :meth:`close` may be called from another thread.

    ``ended`` tells, once the stream is over, whether the container is: an unfinished last line is kept back
    when it is not, because it comes again when the log is resumed.
    """

    def __init__(self, client: APIClient, response: Response, ended: Callable[[], bool]) -> None:
        self._client = client
        self._response = response
        self._ended = ended
        self._parser = LineParser()
        self._lines: deque[LogLine] = deque()
        self._over = False
        self._closed = threading.Event()
        self._reading = threading.Lock()
        self._chunks = _chunks(body_of(response), self._reading, self._closed)

    def __iter__(self) -> LogLines:
        return self

    def __next__(self) -> LogLine:
        while not self._lines:
            if self._over or self._closed.is_set():
                self.close()
                raise StopIteration
            self._read()
        return self._lines.popleft()

    def close(self) -> None:
        """Free the connection, and wake a thread that waits for a line. Repeating is fine."""
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

    def __del__(self) -> None:
        self.close()

    def _read(self) -> None:
        try:
            data = next(self._chunks, b"")
        except EngineUnavailable:
            # The end of a log says nothing about the container, whichever way it came.
            data = b""
        if self._closed.is_set():
            self.close()
        if data:
            self._lines.extend(self._parser.feed(data))
            return
        self._over = True
        if self._parser.pending and not self._closed.is_set() and self._ended():
            self._lines.extend(self._parser.finish())


def _chunks(body: BaseHTTPResponse, reading: threading.Lock, closed: threading.Event) -> Iterator[bytes]:
    # One translation around the loop: each line is a chunk, and entering it costs as much as parsing one.
    with translate("reading a log"):
        while True:
            with reading:
                data = b"" if closed.is_set() else body.read1(_CHUNK)
            if not data:
                return
            yield data


class _Body(io.RawIOBase):
    def __init__(self, client: APIClient, response: Response, what: str) -> None:
        super().__init__()
        self._client = client
        self._response = response
        self._what = what

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
            self._client.close()
        super().close()


def archive_stream(client: APIClient, response: Response, what: str) -> io.BufferedReader:
    """A file over a response's body. EngineUnavailable when it breaks off; closing ends the transfer."""
    return io.BufferedReader(_Body(client, response, what), _CHUNK)
