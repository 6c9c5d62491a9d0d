"""Requests whose answers are read to their end, over a Unix socket. Imported only when a connection is made.

A trivial run makes nine of them. Python reads headers as those of e-mails, and urllib3 and requests build
much around an answer: together most of the time of each.
"""

from __future__ import annotations

import http.client
import socket
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Final

from requests import Response
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3.util.wait import wait_for_read

_IDLE: Final = 16
"""So many idle connections are kept for later."""
_LONGEST: Final = 1 << 16
_MOST: Final = 100
"""Bytes of a header and headers of an answer, as Python's own client limits them."""
_NO_BODY: Final = frozenset({204, 304})


class Lines:
    """Connections to one socket, for one request after the other. Thread-safe.

    ``ready`` is called before each connection, and may raise.
    """

    def __init__(self, path: str, ready: Callable[[], None] | None) -> None:
        self._path = path
        self._ready = ready
        # Taken and put back at one end; both are atomic.
        self._idle: list[_Line] = []
        weakref.finalize(self, _close, self._idle)

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Iterator[bytes] | None,
        timeout: tuple[float | None, float | None],
    ) -> Response:
        """The whole answer to a request; ``timeout`` to connect and to read, in seconds.

        Raises OSError and HTTPException.
        """
        line = self._line()
        try:
            reply = line.ask(method, target, headers, body, timeout)
        except BaseException:
            line.close()
            raise
        if line.sock is not None:
            if len(self._idle) < _IDLE:
                self._idle.append(line)
            else:
                line.close()
        return reply

    def close(self) -> None:
        """Close what is idle. A later request connects anew."""
        _close(self._idle)

    def _line(self) -> _Line:
        while True:
            try:
                line = self._idle.pop()
            except IndexError:
                return _Line(self._path, self._ready)
            # What can be read while nothing was asked is the end.
            if line.sock is not None and not wait_for_read(line.sock, timeout=0.0):
                return line
            line.close()


def _close(idle: list[_Line]) -> None:
    while idle:
        idle.pop().close()


class _Reply:
    """What a connection of ``http.client`` makes of an answer: all of it, at once."""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        self._sock = sock
        self._method = method
        self.will_close = False
        self.response = Response()

    def begin(self) -> None:
        """Read it. Raises OSError, and HTTPException when it is none, or breaks off."""
        with self._sock.makefile("rb") as file:
            version, status, reason = self._status(file)
            headers = self._headers(file)
            while 100 <= status < 200:
                version, status, reason = self._status(file)
                headers = self._headers(file)
            self.will_close = version != b"HTTP/1.1" or "close" in headers.get("Connection", "").lower()
            body = b"" if self._method == "HEAD" or status in _NO_BODY else self._body(file, headers)
        if "Content-Encoding" in headers:
            body = zlib.decompress(body, zlib.MAX_WBITS | 32)
        answer = self.response
        answer.status_code, answer.reason, answer.headers = status, reason, headers
        answer.encoding = get_encoding_from_headers(headers)
        answer._content, answer._content_consumed = body, True  # type: ignore[attr-defined]  # as requests does

    def _status(self, file: BinaryIO) -> tuple[bytes, int, str]:
        line = file.readline(_LONGEST)
        if not line:
            raise http.client.RemoteDisconnected("Remote end closed connection without response")
        version, _, rest = line.strip().partition(b" ")
        status, _, reason = rest.partition(b" ")
        if not version.startswith(b"HTTP/1.") or len(status) != 3 or not status.isdigit():
            raise http.client.BadStatusLine(repr(line[:100]))
        return version, int(status), reason.decode("latin-1")

    def _headers(self, file: BinaryIO) -> CaseInsensitiveDict[str]:
        found: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        for _ in range(_MOST):
            line = file.readline(_LONGEST)
            if line in (b"\r\n", b"\n"):
                return found
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not line.endswith(b"\n"):
                raise http.client.HTTPException(f"the answer has no header where one is due: {line[:100]!r}")
            before = found.get(name)
            found[name] = value.strip() if before is None else f"{before}, {value.strip()}"
        raise http.client.HTTPException(f"the answer has more than {_MOST} headers")

    def _body(self, file: BinaryIO, headers: Mapping[str, str]) -> bytes:
        if "chunked" in headers.get("Transfer-Encoding", "").lower():
            return b"".join(self._chunks(file))
        if "Content-Length" in headers:
            return _exactly(file, _number(headers["Content-Length"], 10))
        self.will_close = True
        return file.read()

    def _chunks(self, file: BinaryIO) -> Iterator[bytes]:
        while True:
            line = file.readline(_LONGEST)
            size = _number(line.partition(b";")[0].decode("latin-1").strip(), 16)
            if size == 0:
                self._headers(file)
                return
            yield _exactly(file, size)
            file.readline(_LONGEST)

    def isclosed(self) -> bool:
        """Nothing of it is left to be read."""
        return True

    def close(self) -> None:
        """Nothing to do: the file was closed when all was read."""


def _number(text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        raise http.client.HTTPException(f"the answer tells no length: {text[:100]!r}") from None


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise http.client.IncompleteRead(data, size - len(data))
    return data


class _Line(http.client.HTTPConnection):
    response_class = _Reply  # type: ignore[assignment]  # any object, says its documentation

    def __init__(self, path: str, ready: Callable[[], None] | None) -> None:
        super().__init__("localhost")
        self._path = path
        self._ready = ready

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Iterator[bytes] | None,
        timeout: tuple[float | None, float | None],
    ) -> Response:
        self.timeout, reading = timeout
        if self.sock is None:
            self.connect()
        self.sock.settimeout(reading)
        self.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            self.putheader(name, value)
        if isinstance(body, bytes):
            self.putheader("Content-Length", str(len(body)))
        elif body is not None:
            self.putheader("Transfer-Encoding", "chunked")
        try:
            self.endheaders(body, encode_chunked=not isinstance(body, bytes))
        except BrokenPipeError:
            # Who refuses while we still send has said why.
            reply = self.getresponse()
            self.close()
        else:
            reply = self.getresponse()
        return reply.response  # type: ignore[attr-defined,no-any-return]  # it is a _Reply

    def connect(self) -> None:
        if self._ready is not None:
            self._ready()
        attempt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            attempt.settimeout(self.timeout)
            attempt.connect(self._path)
        except OSError:
            attempt.close()
            raise
        self.sock = attempt
