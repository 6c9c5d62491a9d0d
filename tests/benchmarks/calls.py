"""The calls that a program makes to a Docker engine: recorded beside it, and repeated by bare docker-py."""

from __future__ import annotations

import http.client
import re
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import docker

_VERSION = re.compile(r"^/v[0-9.]+")
_LONG_ID = re.compile(rb"\b[0-9a-f]{64}\b")


@dataclass
class Call:
    """One request: its headers and its body as they went over the wire."""

    method: str
    target: str
    raw: bytearray = field(default_factory=bytearray)

    @cached_property
    def body(self) -> bytes:
        """The body, freed of the chunks that it came in."""
        headers, _, rest = bytes(self.raw).partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" not in headers.lower():
            return rest
        whole = bytearray()
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            whole += rest[:length]
            rest = rest[length + 2 :]
        return bytes(whole)

    @cached_property
    def header(self) -> dict[str, str]:
        """What the engine must be told of the body."""
        found = re.search(rb"(?im)^content-type: *([^\r\n]+)", bytes(self.raw).partition(b"\r\n\r\n")[0])
        return {"Content-Type": found[1].decode()} if found else {}


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Every request that this process sends over HTTP meanwhile, in the order in which they began."""
    calls: list[Call] = []
    current: dict[int, Call] = {}
    lock = threading.Lock()
    begin, send = http.client.HTTPConnection.putrequest, http.client.HTTPConnection.send

    def putrequest(self: http.client.HTTPConnection, method: str, url: str, *rest: Any, **named: Any) -> None:  # noqa: ANN401 - passed on as they come
        with lock:
            call = current[id(self)] = Call(method, _VERSION.sub("", url))
            calls.append(call)
        begin(self, method, url, *rest, **named)

    def noting_send(self: http.client.HTTPConnection, data: Any) -> None:  # noqa: ANN401 - the same
        if id(self) in current and isinstance(data, bytes | bytearray | memoryview):
            current[id(self)].raw += data
        send(self, data)

    http.client.HTTPConnection.putrequest = putrequest  # type: ignore[method-assign]
    http.client.HTTPConnection.send = noting_send  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        http.client.HTTPConnection.putrequest = begin  # type: ignore[method-assign]
        http.client.HTTPConnection.send = send  # type: ignore[method-assign]


@dataclass(frozen=True)
class Plan:
    """What one run asks of the engine, to be repeated under other names."""

    calls: Sequence[Call]
    container: str
    volume: str

    def shapes(self) -> dict[str, int]:
        """How often each kind of call is made."""
        return dict(Counter(self._shape(call) for call in self.calls))

    def _shape(self, call: Call) -> str:
        path, _, query = call.target.partition("?")
        wanted = [f"{k}={v}" for k, v in urllib.parse.parse_qsl(query) if k in ("path", "follow")]
        path = _LONG_ID.sub(b"ID", path.encode()).decode()
        path = path.replace(self.container, "NAME").replace(self.volume, "NAME")
        return " ".join([call.method, path, *wanted])

    def repeat(self, client: docker.APIClient, name: str) -> None:
        """Make the same calls with the same options for a container of another name."""
        made = b""
        for call in self.calls:
            target = self._renamed(call.target.encode(), name)
            target = _LONG_ID.sub(made, target) if made and b"/containers/" in target else target
            response = client.request(
                call.method,
                f"{client.base_url}/v{client.api_version}{target.decode()}",
                data=call.body if _is_tar(call.body) else self._renamed(call.body, name),
                headers=call.header,
                stream=True,
                timeout=60,
            )
            content = response.content
            if call.target.startswith("/containers/create"):
                response.raise_for_status()
                made = str(response.json()["Id"]).encode()
            if response.status_code >= 500:
                raise RuntimeError(f"{call.method} {target.decode()}: {content[:200]!r}")

    def _renamed(self, text: bytes, name: str) -> bytes:
        return text.replace(self.container.encode(), name.encode()).replace(
            self.volume.encode(), f"{name}-checkpoint".encode()
        )


def _is_tar(body: bytes) -> bool:
    return body[257:262] == b"ustar"
