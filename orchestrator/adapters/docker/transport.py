"""How docker-py reaches a Unix socket. Imported only when a connection is made."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlencode

from docker import APIClient
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from requests import Response
from requests.exceptions import ConnectionError as NoConnection
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3 import Retry, Timeout
from urllib3.exceptions import HTTPError

from orchestrator.adapters.docker.errors import way_ended
from orchestrator.adapters.docker.lines import Lines

if TYPE_CHECKING:
    from urllib3._base_connection import BaseHTTPConnection
    from urllib3.response import BaseHTTPResponse

_ANY = "http+docker://localhost"
_IDLE: Final = 16
"""So many idle connections are kept for later."""
_NEVER_AGAIN: Final = Retry(0, read=False)
_PLAIN: Final = frozenset({"params", "data", "json", "headers", "timeout", "stream", "allow_redirects"})
"""What may be said of a request that needs nothing of what requests can do; the session's own methods say all
of it.
"""


class UnixClient(APIClient):
    """A docker-py client whose plain requests go to the socket directly.

    To prepare a request for a proxy, cookies, redirects and passwords, none of which a socket has, takes
    requests three times as long as all the rest. Answers are those of requests.
    ``ready`` is called before each connection, and may raise; ``over`` is what an engine on another machine
    is reached over, for people. Thread-safe; threads share its connections.
    """

    def __init__(
        self,
        url: str,
        version: str,
        timeout: float,
        ready: Callable[[], None] | None = None,
        over: str = "",
    ) -> None:
        # docker-py annotates whole seconds; every layer below it takes a float.
        super().__init__(url, version=version, timeout=timeout)  # type: ignore[arg-type]
        self._socket = OnePoolAdapter(f"http+unix://{url.removeprefix('unix://')}", timeout)  # type: ignore[arg-type]
        self._socket.ready = ready
        self._lines = Lines(self._socket.socket_path, ready)
        self._by_requests = threading.Lock()
        self._over = over
        self.mount("http+docker://", self._socket)

    def request(self, method: str, url: str, *rest: Any, **named: Any) -> Response:  # type: ignore[override]  # noqa: ANN401 - passed on as they come
        """Send a request; raises what requests would, or WayEnded."""
        try:
            return self._sent(method, url, *rest, **named)
        except (HTTPError, OSError) as error:  # also every RequestException
            if self._over and (ended := way_ended(self._over, error)) is not None:
                raise ended from error
            raise

    def _sent(self, method: str, url: str, *rest: Any, **named: Any) -> Response:  # noqa: ANN401
        body = named.get("data")
        plain = body is None or isinstance(body, str | bytes | Iterator)
        if rest or not plain or named.get("json") is not None or not named.keys() <= _PLAIN:
            # A session of requests is not meant for several threads at once.
            with self._by_requests:
                return super().request(method, url, *rest, **named)
        target = url.removeprefix(self.base_url)
        if asked := {name: value for name, value in (named.get("params") or {}).items() if value is not None}:
            target += f"?{urlencode(asked, doseq=True)}"
        # There are no bytes among them.
        headers = cast("dict[str, str]", dict(self.headers) | dict(named.get("headers") or {}))
        if body is None and method.upper() not in ("GET", "HEAD"):
            headers["Content-Length"] = "0"
        if isinstance(body, str):
            body = body.encode()
        try:
            if not named.get("stream"):
                response = self._lines.ask(method.upper(), target, headers, body, _both(named.get("timeout")))
                response.url = url
            else:
                response = self._streamed(method.upper(), url, target, headers, body, named.get("timeout"))
        except (HTTPError, HTTPException, OSError) as error:
            raise NoConnection(error) from error
        if response.is_redirect and named.get("allow_redirects"):
            response.close()
            with self._by_requests:
                return super().request(method, url, **named)
        return response

    def _streamed(
        self,
        method: str,
        url: str,
        target: str,
        headers: dict[str, str],
        body: bytes | Iterator[bytes] | None,
        timeout: float | tuple[float, float] | None,
    ) -> Response:
        raw = self._socket.get_connection(url).urlopen(
            method,
            target,
            body=body,
            headers=headers,
            retries=_NEVER_AGAIN,
            redirect=False,
            timeout=_patience(timeout),
            chunked=isinstance(body, Iterator),
            preload_content=False,
            decode_content=False,
        )
        return _answer(raw, url)

    def close(self) -> None:
        """Close what is idle. A later request connects anew."""
        super().close()
        self._lines.close()


def _both(timeout: float | tuple[float, float] | None) -> tuple[float | None, float | None]:
    """Seconds to connect and to read."""
    return timeout if isinstance(timeout, tuple) else (timeout, timeout)


def _patience(timeout: float | tuple[float, float] | None) -> Timeout:
    connect, read = _both(timeout)
    return Timeout(connect=connect, read=read)


def _answer(raw: BaseHTTPResponse, url: str) -> Response:
    response = Response()
    response.status_code = raw.status
    response.headers = CaseInsensitiveDict(raw.headers)
    response.raw = raw
    response.encoding = get_encoding_from_headers(response.headers)
    response.reason = raw.reason or ""
    response.url = url
    return response


class OnePoolAdapter(UnixHTTPAdapter):
    """One pool, where docker-py has one for each URL, with a connection for each thing looked at.

    Thread-safe. ``ready`` is called before each connection, and may raise.
    """

    ready: Callable[[], None] | None = None

    def get_connection(
        self, url: str | bytes, proxies: Mapping[str, str] | None = None
    ) -> UnixHTTPConnectionPool:
        """The one pool, whatever the URL."""
        with self.pools.lock:
            pool: UnixHTTPConnectionPool | None = self.pools.get(_ANY)
            if pool is None:
                pool = self.pools[_ANY] = _Pool(_ANY, self.socket_path, self.timeout, _IDLE)
                pool.ready = self.ready
        return pool


class _Pool(UnixHTTPConnectionPool):
    ready: Callable[[], None] | None = None

    def _put_conn(self, conn: BaseHTTPConnection | None) -> None:
        # Too many of them are nothing to warn of: so many were busy at once.
        if conn is not None and self.pool is not None and self.pool.full():
            conn.close()
        else:
            super()._put_conn(conn)

    def _new_conn(self) -> UnixHTTPConnection:  # type: ignore[override]  # as docker-py's own does
        made = _Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type]  # wants int
        made.ready = self.ready
        return made


class _Connection(UnixHTTPConnection):
    ready: Callable[[], None] | None = None

    def connect(self) -> None:
        if self.ready is not None:
            self.ready()
        # docker-py forgets the socket when nobody listens.
        attempt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            attempt.settimeout(self.timeout)
            attempt.connect(self.unix_socket)
        except OSError:
            attempt.close()
            raise
        self.sock = attempt
