"""The only way by which data are asked for over HTTP: to addresses that may be asked, and to no others.

A name is resolved once for each request, what it stands for is checked, and the connection goes to just that
address: a name that changes its mind in between changes nothing. Redirects are checked in the same way, and
carry no login to another server.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Final
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from orchestrator.adapters.addresses import may_be_asked
from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.answers import number_of, time_of
from orchestrator.adapters.datasets.patience import Patience, TooSlow
from orchestrator.domain.errors import DatasetRefused, DatasetUnavailable
from orchestrator.domain.text import clean

CONNECT: Final = 10.0
"""Seconds to connect."""
SILENCE: Final = 60.0
"""Seconds of silence that end an answer."""
CHUNK: Final = 1 << 20
_PIECE: Final = 128 << 10
"""Bytes of an answer that have to come within two silences."""
_PAGE: Final = 16 << 20
"""Bytes that an answer may have which is no file."""
_PATIENCE: Final = Patience()
_REDIRECTS: Final = 5
_POOLS: Final = 64
_NOT_OURS: Final = frozenset({"authorization", "cookie", "x-amz-security-token"})


@dataclass(frozen=True, slots=True)
class Origin:
    """A server as it is asked: scheme, name and port."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for what, for messages and rules: the dataset's name and how its place is entered."""

    dataset: str
    access: Access = field(repr=False)


class Web:
    """Asks servers. Thread-safe. Connections are used again.

    Raises DatasetUnavailable when a server does not answer, DatasetRefused when it may not be asked or cannot
    be trusted. What it answers, also 404, is an answer.
    """

    def __init__(self, connect: float = CONNECT, silence: float = SILENCE) -> None:
        self._timeout = urllib3.Timeout(connect=connect, read=silence)
        self._silence = silence
        self._pools: OrderedDict[tuple[Origin, str, str], urllib3.HTTPConnectionPool] = OrderedDict()
        self._lock = threading.Lock()

    def send(
        self,
        asked: Asked,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """One request and its answer, whose content is still to be read; nothing is followed."""
        parts = urlsplit(url)
        origin = origin_of(url)
        if origin is None:
            raise DatasetRefused(
                f"dataset {asked.dataset}: {clean(url)} is no address that may be asked",
                "only http:// and https:// are",
            )
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Accept-Encoding": "identity", "User-Agent": "ml-ci-orchestrator", **headers}
        sent["Host"] = parts.netloc.rpartition("@")[2]
        last: DatasetUnavailable | None = None
        for address in self._addresses(asked, origin):
            try:
                with reaching(asked.dataset, origin, self._silence):
                    return self._pool(origin, address, asked.access).urlopen(
                        method,
                        target,
                        body=body,
                        headers=sent,
                        retries=False,
                        redirect=False,
                        preload_content=False,
                        decode_content=False,
                        timeout=self._timeout,
                    )
            except DatasetRefused:
                raise
            except _NotConnected as error:
                # A server with several addresses may be reached by another one of them.
                last = error
        raise last or _unknown(asked.dataset, origin)

    def get(
        self, asked: Asked, url: str, headers: Mapping[str, str], method: str = "GET"
    ) -> urllib3.BaseHTTPResponse:
        """An answer, of whatever it redirects to; a login goes to the first server alone."""
        first = origin_of(url)
        for _ in range(_REDIRECTS + 1):
            own = origin_of(url) == first
            answer = self.send(asked, method, url, headers if own else _without_login(headers))
            target = answer.get_redirect_location()
            if not target:
                return answer
            # What else comes is not read: it may never end.
            answer.close()
            following = urljoin(url, target)
            if urlsplit(url).scheme == "https" and urlsplit(following).scheme != "https":
                raise DatasetRefused(
                    f"dataset {asked.dataset}: {urlsplit(url).hostname} redirects from https to"
                    f" {clean(urlsplit(following).scheme)}, where anybody could change what comes",
                    "write the address that it is to come from",
                )
            url = following
        raise DatasetRefused(
            f"dataset {asked.dataset}: {urlsplit(url).hostname} redirects more than {_REDIRECTS} times",
            "write the address where the data are",
        )

    def text(self, asked: Asked, answer: urllib3.BaseHTTPResponse, limit: int = _PAGE) -> bytes:
        """A whole answer of at most ``limit`` bytes, which must not come for longer than five silences."""
        content = bytearray()
        until = time.monotonic() + 5 * self._silence
        for chunk in self.chunks(asked, answer):
            content += chunk
            if len(content) > limit or time.monotonic() > until:
                answer.close()
                raise DatasetUnavailable(
                    f"dataset {asked.dataset}: an answer is too long, or takes too long",
                    f"at most {limit} bytes within {5 * self._silence:g} s",
                )
        return bytes(content)

    def chunks(self, asked: Asked, answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """An answer's content as it comes, which must not be slower than 1 KiB a second for long."""
        with reaching(asked.dataset, None, self._silence):
            try:
                yield from self._pieces(answer)
            finally:
                answer.release_conn()

    def _pieces(self, answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        pieces = answer.stream(_PIECE, decode_content=False)
        left, came = 2 * self._silence, 0
        while True:
            began = time.monotonic()
            with _PATIENCE.within(left, answer.shutdown) as wait:
                try:
                    piece = next(pieces, b"")
                except (HTTPError, OSError, ValueError):
                    if not wait.over:
                        raise
            if wait.over:
                # Its end may look like that of the content.
                answer.close()
                raise TooSlow
            if not piece:
                return
            left, came = left - (time.monotonic() - began), came + len(piece)
            if came >= _PIECE:
                left, came = 2 * self._silence, 0
            yield piece

    def _addresses(self, asked: Asked, origin: Origin) -> list[str]:
        try:
            found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _unknown(asked.dataset, origin) from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [a for a in addresses if may_be_asked(a, allow_private=asked.access.allow_private)]
        if not allowed:
            resolved = "" if addresses == [origin.host.strip("[]")] else f"{', '.join(addresses)}, "
            remedy = "with allow_private: true, private addresses may be asked"
            raise DatasetRefused(
                f"dataset {asked.dataset}: {origin.host} is {resolved}an address that may not be asked",
                "" if asked.access.allow_private else remedy,
            )
        return allowed

    def _pool(self, origin: Origin, address: str, access: Access) -> urllib3.HTTPConnectionPool:
        trusted = access.settings.get("ca_file", "")
        key = (origin, address, trusted)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = _connected(origin, address, trusted)
                while len(self._pools) > _POOLS:
                    self._pools.popitem(last=False)[1].close()
            self._pools.move_to_end(key)
            return pool


def origin_of(url: str) -> Origin | None:
    """The server of an address; None when it is none of the web's."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return Origin(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


def _without_login(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_OURS}


class _Connection(HTTPConnection):
    """One whose answers begin within two silences."""

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as in the library
        with _begun(self):
            return super().getresponse()


class _SecureConnection(HTTPSConnection):
    """The same, by https."""

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as in the library
        with _begun(self):
            return super().getresponse()


@contextmanager
def _begun(connection: HTTPConnection) -> Iterator[None]:
    silence = connection.timeout if isinstance(connection.timeout, int | float) else SILENCE
    with _PATIENCE.within(2 * silence, partial(connection.sock.shutdown, socket.SHUT_RDWR)) as wait:
        try:
            yield
        except (HTTPError, HTTPException, OSError, ValueError):
            if not wait.over:
                raise
    if wait.over:
        raise TooSlow


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def _connected(origin: Origin, address: str, trusted: str) -> urllib3.HTTPConnectionPool:
    if origin.scheme == "http":
        return _Pool(address, origin.port, maxsize=4, retries=False)
    return _SecurePool(
        address,
        origin.port,
        maxsize=4,
        retries=False,
        server_hostname=origin.host,
        assert_hostname=origin.host,
        ca_certs=trusted or None,
        cert_reqs="CERT_REQUIRED",
        ssl_minimum_version=ssl.TLSVersion.TLSv1_2,
    )


class _NotConnected(DatasetUnavailable):
    """Nothing was sent yet."""


@contextmanager
def reaching(dataset: str, origin: Origin | None, silence: float) -> Iterator[None]:
    """Turn what the library says into our errors."""
    where = "the server" if origin is None else f"{origin.host}:{origin.port}"
    begin = f"dataset {dataset}: {where}"
    try:
        yield
    except SSLError as error:
        raise DatasetRefused(
            f"{begin} cannot be trusted: {clean(_reason(error))}",
            "with ca_file: the certificates of your own authority are trusted",
        ) from error
    except NameResolutionError as error:
        raise _NotConnected(f"{begin} is not known") from error
    except urllib3.exceptions.NewConnectionError as error:
        raise _NotConnected(f"{begin} cannot be reached: {clean(_reason(error))}") from error
    except ConnectTimeoutError as error:
        raise _NotConnected(f"{begin} does not answer") from error
    except ReadTimeoutError as error:
        slow = isinstance(error.__cause__, TooSlow)
        what = "answers too slowly" if slow else f"was silent for {silence:g} s"
        raise DatasetUnavailable(f"{begin} {what}") from error
    except TooSlow as error:
        raise DatasetUnavailable(f"{begin} sends too slowly: less than 1 KiB a second") from error
    except ProtocolError as error:
        raise DatasetUnavailable(f"{begin} broke off: {clean(_reason(error))}") from error
    except HTTPError as error:
        raise DatasetUnavailable(f"{begin} did not answer: {clean(_reason(error))}") from error
    except OSError as error:
        raise DatasetUnavailable(f"{begin} broke off: {error.strerror or error}") from error


def _reason(error: BaseException) -> str:
    """What the system says at the bottom of it, without the library's wrapping."""
    inner = error.__cause__ or error.__context__
    if isinstance(inner, ssl.SSLCertVerificationError):
        return inner.verify_message or str(inner)
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(error.args[-1] if error.args else error)


def _unknown(dataset: str, origin: Origin) -> DatasetUnavailable:
    return DatasetUnavailable(f"dataset {dataset}: the name {origin.host} is not known")


def refused(dataset: str, what: str, answer: urllib3.BaseHTTPResponse) -> DatasetUnavailable:
    """What an answer that is not the one hoped for means; its content is left."""
    answer.close()
    status = answer.status
    told = f"dataset {dataset}: {what}"
    if status in (401, 403):
        return DatasetRefused(
            f"{told} may not be read: the server answers {status}", "check the login, and what it may read"
        )
    if status in (404, 410):
        return DatasetUnavailable(f"{told} is not there: the server answers {status}")
    wait = retry_after(answer)
    return DatasetUnavailable(f"{told} is not to be had now: the server answers {status}", retry_after=wait)


def retry_after(answer: urllib3.BaseHTTPResponse) -> float | None:
    """For how many seconds the server asks to be left alone."""
    text = answer.headers.get("Retry-After", "")
    seconds = number_of(text)
    if seconds is not None:
        return float(seconds)
    moment = time_of(text)
    return None if moment is None else max(0.0, moment.timestamp() - time.time())
