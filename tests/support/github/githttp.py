"""Real Git over http for the stand-in's repositories."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.support.gitserver import Asked, backend


def token_of(request: BaseHTTPRequestHandler) -> str:
    """The token that git was given as a password; empty when there is none."""
    login = _asked(request, "", "", b"").login
    return login[1] if login is not None else ""


def serve(
    request: BaseHTTPRequestHandler, repository: Path, rest: str, query: str, then: Callable[[], None]
) -> None:
    """Answer one request of git's; ``then`` comes between what it does and the answer."""
    body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    if request.headers.get("Transfer-Encoding", "").lower() == "chunked":
        body = _chunks(request)
    answer = backend(repository.parent, _asked(request, f"/{repository.name}{rest}", query, body))
    then()
    request.send_response(answer.status)
    for name, value in answer.headers:
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(answer.body)))
    request.end_headers()
    request.wfile.write(answer.body)


def _asked(request: BaseHTTPRequestHandler, path: str, query: str, body: bytes) -> Asked:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Asked(request.command, path, query, headers, body)


def _chunks(request: BaseHTTPRequestHandler) -> bytes:
    parts = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)
