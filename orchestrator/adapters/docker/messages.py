"""The JSON messages that an engine streams while it pulls, builds or loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypedDict

from orchestrator.adapters.docker.errors import translate
from orchestrator.adapters.docker.streams import body_of

if TYPE_CHECKING:
    from requests import Response

_CHUNK = 1 << 16


class Detail(TypedDict, total=False):
    """Bytes of one layer, or a failed command's exit code."""

    current: int
    total: int
    code: int
    message: str


class Message(TypedDict, total=False):
    """One message; ``error`` is how a failure shows, for the status was sent long before."""

    id: str
    status: str
    stream: str
    error: str
    errorDetail: Detail
    progressDetail: Detail
    aux: dict[str, str]


def messages(response: Response, what: str) -> Iterator[Message]:
    """The messages of a streamed response, one JSON object a line; the response is closed at the end."""
    rest = b""
    try:
        while True:
            with translate(what):
                data = body_of(response).read1(_CHUNK)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines if data else [*lines, rest]:
                if line.strip():
                    yield json.loads(line)
            if not data:
                return
    finally:
        response.close()
