"""A server of files by HTTP whose every answer a test decides: validators, redirects, faults."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast


@dataclass
class Served:
    """What lies at an address. ``cut`` is after how many bytes of an answer the connection ends, once."""

    content: bytes = b""
    etag: str = ""
    modified: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    sized: bool = True
    """Whether the answer tells its length."""
    ranges: bool = True
    cut: int | None = None
    between: Callable[[], None] | None = None
    """What happens after half of the content was sent, once."""
    rest: Callable[[], Iterable[bytes]] = tuple
    """What follows on the content."""


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    target: str
    headers: Mapping[str, str]


class DataWeb:
    """The server. ``answer`` is asked first, for whatever is no file. With a ``certificate``, by https."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.files: dict[str, Served] = {}
        self.seen: list[Seen] = []
        self.answer: Callable[[Seen, bytes], Served | None] = lambda seen, body: None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.web = self
        self._secure = certificate is not None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake is made by the thread of the request.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self._secure else f"http://127.0.0.1:{self.port}"

    def asked(self, method: str) -> list[str]:
        """What was asked for by a method, in order."""
        return [seen.target for seen in self.seen if seen.method == method]

    @contextmanager
    def serving(self) -> Iterator[DataWeb]:
        """For as long as the block lasts."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    web: DataWeb

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, as one does that trusts no certificate, is no failure of a test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing is logged."""

    def _serve(self) -> None:
        web = cast("_Server", self.server).web
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = Seen(self.command, self.path, dict(self.headers.items()))
        web.seen.append(seen)
        served = web.answer(seen, body) or web.files.get(self.path.partition("?")[0]) or Served(status=404)
        wanted = self.headers.get("If-Match")
        if wanted and served.etag and wanted != served.etag:
            served = Served(status=412)
        self._send(served)

    def _send(self, served: Served) -> None:
        content, status = served.content, served.status
        begin = self._begin() if served.ranges and status == 200 else 0
        if begin:
            content, status = content[begin:], 206
        self.send_response(status)
        if begin:
            self.send_header(
                "Content-Range", f"bytes {begin}-{len(served.content) - 1}/{len(served.content)}"
            )
        if served.etag:
            self.send_header("ETag", served.etag)
        if served.modified:
            self.send_header("Last-Modified", served.modified)
        for name, value in served.headers.items():
            self.send_header(name, value)
        if served.sized:
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        if served.cut is not None:
            content, served.cut = content[: served.cut], None
            self.close_connection = True
        half = len(content) // 2
        self.wfile.write(content[:half])
        if served.between is not None:
            happens, served.between = served.between, None
            self.wfile.flush()
            happens()
        self.wfile.write(content[half:])
        for piece in served.rest():
            self.wfile.write(piece)

    def _begin(self) -> int:
        text = self.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
        return int(text) if text.isdecimal() else 0
