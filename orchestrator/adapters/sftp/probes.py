"""Asking a service through the SSH connection: the server connects, so its ``localhost`` is meant."""

from __future__ import annotations

import http.client
import io
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import paramiko

from orchestrator.adapters.sftp.connection import Connection
from orchestrator.domain.activation import Answer, HttpRequest, TcpConnect

if TYPE_CHECKING:
    from typing_extensions import Buffer

_LIMIT = 1024 * 1024
_CHUNK = 32 * 1024
_PORTS = {"http": 80, "https": 443}


def ask_service(connection: Connection, probe: HttpRequest | TcpConnect, timeout: float) -> Answer:
    """One look, ``timeout`` seconds at most in all. What is wrong with the service is in the answer; what is
    wrong with the SSH connection is raised, as the library raises it.
    """
    deadline = time.monotonic() + timeout
    if isinstance(probe, TcpConnect):
        host, port, url = probe.host, probe.port, None
    else:
        url = urlsplit(probe.url)
        host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    try:
        channel = connection.tunnel(host, port, timeout)
    except paramiko.ChannelException as error:
        return Answer(problem=_refused(error, host, port))
    except paramiko.SSHException:
        if not connection.alive:
            raise
        return Answer(problem=f"no connection to {host}:{port} within {timeout:g} s")
    try:
        if url is None or isinstance(probe, TcpConnect):
            return Answer()
        plain = _Stream(channel, deadline)
        return _exchange(probe, url, _Tls(plain, host) if url.scheme == "https" else plain)
    except TimeoutError:
        return Answer(problem=f"no answer within {timeout:g} s")
    except ssl.SSLError as error:
        return Answer(problem=f"TLS failed: {error.reason or error}")
    except (http.client.HTTPException, ValueError) as error:
        return Answer(problem=f"what answers is not HTTP ({type(error).__name__})")
    except (OSError, EOFError):
        if not connection.alive:
            raise
        return Answer(problem="the service closed the connection")
    finally:
        channel.close()


def _refused(error: paramiko.ChannelException, host: str, port: int) -> str:
    if error.code == paramiko.common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
        return "the server's sshd opens no such connection (AllowTcpForwarding, PermitOpen)"
    return f"nothing accepts connections at {host}:{port}"


def _exchange(probe: HttpRequest, url: SplitResult, stream: _Stream | _Tls) -> Answer:
    client = http.client.HTTPConnection(url.hostname or "localhost", url.port)
    client.sock = _Socket(stream)
    headers = {"Host": url.netloc.rpartition("@")[2], "User-Agent": "mlci", "Connection": "close"}
    body = probe.body.encode() if probe.body else None
    if body is not None:
        headers["Content-Type"] = "application/json"
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    client.request("POST" if body is not None else "GET", path, body, headers | dict(probe.headers))
    with client.getresponse() as response:
        content = bytearray()
        while len(content) < _LIMIT and (data := response.read(_CHUNK)):
            content += data
        return Answer(response.status, content.decode("utf-8", "replace"))


class _Socket:
    """What the standard library's HTTP asks of a socket."""

    def __init__(self, stream: _Stream | _Tls) -> None:
        self._stream = stream

    def sendall(self, data: bytes) -> None:
        self._stream.write(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._stream)

    def close(self) -> None:
        return None


class _Stream(io.RawIOBase):
    """A channel until a moment in time, however slowly it drips."""

    def __init__(self, channel: paramiko.Channel, deadline: float) -> None:
        self._channel = channel
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        self._bound()
        view = memoryview(buffer)
        data = self._channel.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: Buffer) -> int:
        self._bound()
        content = bytes(data)
        self._channel.sendall(content)
        return len(content)

    def _bound(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._channel.settimeout(left)


class _Tls(io.RawIOBase):
    """TLS over a stream; the certificate has to be valid for the name in the address."""

    def __init__(self, stream: _Stream, host: str) -> None:
        self._stream = stream
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = ssl.create_default_context().wrap_bio(self._in, self._out, server_hostname=host)
        self._shaken = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        while True:
            try:
                data = self._tls.read(len(view))
            except ssl.SSLWantReadError:
                self._more()
                continue
            except ssl.SSLEOFError:
                data = b""
            view[: len(data)] = data
            return len(data)

    def write(self, data: Buffer) -> int:
        while not self._shaken:
            try:
                self._tls.do_handshake()
                self._shaken = True
            except ssl.SSLWantReadError:
                self._more()
        content = bytes(data)
        self._tls.write(content)
        self._stream.write(self._out.read())
        return len(content)

    def _more(self) -> None:
        """Send what is owed, and take in what comes."""
        if owed := self._out.read():
            self._stream.write(owed)
        data = bytearray(_CHUNK)
        count = self._stream.readinto(data)
        if count:
            self._in.write(data[:count])
        else:
            self._in.write_eof()
