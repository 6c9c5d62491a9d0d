"""A real Git server over http or https: ``git http-backend`` behind a web server that can misbehave.

It serves the bare repositories below a folder, with what Git LFS needs.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What a server says to a request."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def login(self) -> tuple[str, str] | None:
        """Who asks, and with which password."""
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user, password


def backend(root: Path, asked: Asked) -> Answer:
    """What Git's own http-backend answers for the repositories below ``root``; pushes are allowed."""
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "http.receivepack",
        "GIT_CONFIG_VALUE_0": "true",
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": asked.path,
        "QUERY_STRING": asked.query,
        "REQUEST_METHOD": asked.method,
        "CONTENT_TYPE": asked.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(asked.body)),
        "HTTP_CONTENT_ENCODING": asked.headers.get("content-encoding", ""),
        "GIT_PROTOCOL": asked.headers.get("git-protocol", ""),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_USER": "somebody",
    }
    done = subprocess.run(
        ["git", "http-backend"], env=environment, input=asked.body, capture_output=True, check=False
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    status, headers = 200, Headers()
    for line in head.decode().split("\r\n"):
        name, _, value = line.partition(": ")
        if name == "Status":
            status = int(value.split()[0])
        elif name:
            headers.append((name, value))
    return Answer(status, headers, body)


@dataclass
class GitServer:
    """Where the server is, what it wants, and what it was asked. All may be changed while it runs."""

    root: Path
    url: str = ""
    logins: dict[str, str] = field(default_factory=dict)
    """Passwords of users; none: everybody may come in."""
    fault: Callable[[Asked], Answer | None] | None = None
    """Answers in place of the server where it gives an answer."""
    asked: list[Asked] = field(default_factory=list)
    large_files: dict[str, bytes] = field(default_factory=dict)
    """What Git LFS may fetch, by SHA-256."""

    def store(self, content: bytes) -> str:
        """Keep a large file; its SHA-256."""
        oid = hashlib.sha256(content).hexdigest()
        self.large_files[oid] = content
        return oid

    def fails_with(self, status: int, headers: Headers | None = None) -> None:
        """Answer everything with a status from now on."""
        self.fault = lambda asked: Answer(status, headers or [], b"")

    def answer(self, asked: Asked) -> Answer:
        """What is said to a request."""
        self.asked.append(asked)
        if self.fault is not None and (found := self.fault(asked)) is not None:
            return found
        if self.logins and (asked.login is None or self.logins.get(asked.login[0]) != asked.login[1]):
            return Answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
        if asked.path.endswith("/info/lfs/objects/batch"):
            return self._batch(asked)
        if "/lfs-objects/" in asked.path:
            content = self.large_files.get(asked.path.rpartition("/")[2])
            return Answer(404, [], b"") if content is None else Answer(200, [], content)
        return backend(self.root, asked)

    def _batch(self, asked: Asked) -> Answer:
        wanted = cast("dict[str, list[dict[str, object]]]", json.loads(asked.body))
        objects: list[dict[str, object]] = []
        for one in wanted["objects"]:
            if one["oid"] in self.large_files:
                login = asked.headers.get("authorization")
                header = {"Authorization": login} if login else {}
                link = {"href": f"{self.url}/lfs-objects/{one['oid']}", "header": header}
                objects.append({**one, "authenticated": True, "actions": {"download": link}})
            else:
                objects.append({**one, "error": {"code": 404, "message": "Object does not exist"}})
        body = json.dumps({"transfer": "basic", "objects": objects}).encode()
        return Answer(200, [("Content-Type", "application/vnd.git-lfs+json")], body)


@contextmanager
def git_server(root: Path, certificate: Path | None = None) -> Iterator[GitServer]:
    """Serve the repositories below ``root``; over https with a ``certificate`` that holds its key too."""
    served = GitServer(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = _body(cast("BinaryIO", self.rfile), headers)
            answer = served.answer(Asked(self.command, parts.path, parts.query, headers, body))
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up, as one does that trusts no certificate, is no failure of a test."""

    server = Server(("127.0.0.1", 0), Handler)
    scheme, host = "http", "127.0.0.1"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # The handshake is made by the thread of the request.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        scheme, host = "https", "localhost"
    served.url = f"{scheme}://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _body(stream: BinaryIO, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return stream.read(int(headers.get("content-length") or 0))
    parts = []
    while size := int(stream.readline().split(b";")[0], 16):
        parts.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(parts)


@dataclass(frozen=True)
class Authority:
    """A certificate authority that nobody knows, and a server's certificate of it, with its key."""

    certificate: Path
    server: Path


def make_authority(folder: Path) -> Authority:
    """Make one for ``localhost`` and ``git.example.org``."""
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test CA"
    )
    openssl("req", *curve, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost,DNS:git.example.org\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "own.csr", *signing, "-out", "own.pem")
    server = folder / "server.pem"
    server.write_bytes((folder / "own.pem").read_bytes() + (folder / "own.key").read_bytes())
    return Authority(folder / "ca.pem", server)


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that takes connections and never says a word; its address."""
    import socket

    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
