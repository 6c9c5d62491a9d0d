"""Real Git over http for the stand-in's repositories, by git's own program for web servers."""

from __future__ import annotations

import base64
import gzip
import os
import subprocess
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.support.github.apps import Credential


def token_of(header: str | None) -> str:
    """The token that git was given as a password; empty when there is none."""
    kind, _, value = (header or "").partition(" ")
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value).decode().partition(":")[2]
    except ValueError:
        return ""


def serve(
    request: BaseHTTPRequestHandler,
    repository: Path,
    rest: str,
    query: str,
    by: Credential | None,
    then: Callable[[], None],
) -> None:
    """Answer one request of git's; ``then`` comes between what it does and the answer."""
    body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    if request.headers.get("Transfer-Encoding", "").lower() == "chunked":
        body = _chunks(request)
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_PROJECT_ROOT": str(repository.parent),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "PATH_INFO": f"/{repository.name}{rest}",
        "QUERY_STRING": query,
        "REQUEST_METHOD": request.command,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "127.0.0.1",
    }
    if by is not None:
        environment["REMOTE_USER"] = by.user.login
    said = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True).stdout
    head, _, content = said.partition(b"\r\n\r\n")
    headers = [line.partition(": ")[::2] for line in head.decode("latin-1").splitlines() if ": " in line]
    status = next((int(value[:3]) for name, value in headers if name == "Status"), 200)
    then()
    request.send_response(status)
    for name, value in headers:
        if name != "Status":
            request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


def _chunks(request: BaseHTTPRequestHandler) -> bytes:
    parts = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)
