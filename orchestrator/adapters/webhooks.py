"""Calls hooks: one POST to an address that was checked, signed, within a time."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from orchestrator.adapters.addresses import may_be_asked
from orchestrator.domain.errors import ActionRejected, ActionUnavailable, NotFound
from orchestrator.domain.text import clean

SIGNATURE = "X-MLCI-Signature-256"
_LATER = frozenset({408, 425, 429})
_READ = 4096
"""Bytes of an answer that are read."""
_SHOWN = 200
"""Characters of an answer that are shown."""


@dataclass(frozen=True, slots=True)
class Target:
    """A hook with its secrets, as it is at the moment of a call."""

    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 30.0
    allow_private: bool = False
    ca_file: str | None = None


class WebHooks:
    """Implements ``ports.messengers.Hooks``. ``targets`` are read anew for each call."""

    def __init__(self, targets: Mapping[str, Callable[[], Target]], mask: Callable[[str], str]) -> None:
        self._targets = targets
        self._mask = mask

    def call(self, hook: str, key: str, event: str, body: bytes, timeout: float) -> str:
        """One request to one address. No redirect is followed."""
        if hook not in self._targets:
            raise NotFound(f"there is no hook {hook}", "hooks: in orchestrator.yaml")
        target = self._targets[hook]()
        headers = {
            "User-Agent": "ml-ci-orchestrator",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "X-MLCI-Event": event,
            "Connection": "close",
            **target.headers,
        }
        if target.secret:
            headers[SIGNATURE] = f"sha256={signature(target.secret, body)}"
        with _translated(hook):
            status, said = _post(hook, target, headers, body, timeout or target.timeout)
        # Masked whole and then cut: half a secret would be known by nobody.
        shown = self._mask(clean(self._mask(said)))[:_SHOWN].strip()
        told = f"HTTP {status} {shown}".rstrip()
        if 200 <= status < 300:
            return f"HTTP {status}"
        if status in _LATER or status >= 500:
            raise ActionUnavailable(f"the hook {hook} answered {told}")
        remedy = "write the address that it redirects to" if 300 <= status < 400 else ""
        raise ActionRejected(f"the hook {hook} answered {told}", remedy)


def signature(secret: str, body: bytes) -> str:
    """What a receiver compares: HMAC-SHA256 over the bytes of the body, in hexadecimal."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _post(
    hook: str, target: Target, headers: Mapping[str, str], body: bytes, timeout: float
) -> tuple[int, str]:
    parts = urlsplit(target.url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    if parts.scheme not in ("http", "https") or not host:
        raise ActionRejected(f"the hook {hook} has no address that can be called", "https://HOST/PATH")
    if not secure and not target.allow_private:
        raise ActionRejected(f"the hook {hook} would be told in the clear", "https, or allow_private: true")
    port = parts.port or (443 if secure else 80)
    address = _address(hook, host, port, target.allow_private)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    over = threading.Event()
    plain = socket.create_connection((address, port), timeout)
    sock = _secured(plain, host, target.ca_file) if secure else plain

    def end() -> None:
        # A server that sends a byte now and then would else never be too slow.
        over.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout, end)
    timer.start()
    try:
        connection.sock = sock
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, {**headers, "Host": parts.netloc.rpartition("@")[2]})
        answer = connection.getresponse()
        return answer.status, answer.read(_READ).decode("utf-8", "replace")
    except (http.client.HTTPException, OSError) as error:
        if over.is_set():
            raise ActionUnavailable(f"the hook {hook} did not answer within {timeout:g} s") from error
        raise
    finally:
        timer.cancel()
        connection.close()
        sock.close()


def _address(hook: str, host: str, port: int, allow_private: bool) -> str:
    """Where the name leads, checked; the connection goes to just that, whatever the name says later."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ActionUnavailable(f"the hook {hook}: the name {host} is not known") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if may_be_asked(address, allow_private=allow_private):
            return address
    remedy = "" if allow_private else "with allow_private: true, private addresses may be called"
    raise ActionRejected(
        f"the hook {hook}: {host} is {addresses[0]}, an address that may not be called", remedy
    )


def _secured(plain: socket.socket, host: str, ca_file: str | None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)


@contextmanager
def _translated(hook: str) -> Iterator[None]:
    """Turn what the library says into our errors."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise ActionRejected(
            f"the hook {hook} cannot be trusted: {error.verify_message}",
            "with ca_file: the certificates of your own authority are trusted",
        ) from error
    except TimeoutError as error:
        raise ActionUnavailable(f"the hook {hook} does not answer") from error
    except (ValueError, http.client.InvalidURL):
        # What is said of it holds the value, which may be a secret.
        raise ActionRejected(
            f"the hook {hook}: its address or one of its headers cannot be sent",
            "an address without spaces, its port at most 65535; headers on one line, in Latin-1",
        ) from None
    except http.client.HTTPException as error:
        raise ActionUnavailable(f"the hook {hook} broke off: {type(error).__name__}") from error
    except OSError as error:
        raise ActionUnavailable(f"the hook {hook}: {error.strerror or type(error).__name__}") from error
