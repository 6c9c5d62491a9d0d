"""A registry of images (distribution API, version 2) in this process, for a real engine to push to and pull
from. Images lie in memory; passwords are asked for as told; it can be told to be out of order.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

import docker

_MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<ref>[^/]+)")
_BLOB = re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>sha256:[0-9a-f]{64})")
_UPLOAD = re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<id>[0-9a-f-]*)")


@dataclass
class Registry:
    """A context manager. ``login`` None lets everybody in; ``token`` asks for it as public registries do."""

    login: tuple[str, str] | None = None
    token: bool = False
    broken: bool = False
    """Answer everything with 503."""
    port: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and user of every request; the user is empty where none was named."""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Answer, at the port of before when there was one."""
        registry = self

        class Handler(_Handler):
            served = registry

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def add(self, client: docker.DockerClient, name: str, files: dict[str, bytes] | None = None) -> str:
        """Make a tiny image with these files, push it here, and forget it on the engine; its full name."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path, content in (files or {"hello": name.encode()}).items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        full = f"{self.host}/{name}"
        client.api.import_image_from_data(packed.getvalue(), repository=full, tag="1")
        auth = {"username": self.login[0], "password": self.login[1]} if self.login else None
        said = client.images.push(full, tag="1", auth_config=auth)
        client.images.remove(f"{full}:1", force=True)
        assert "error" not in said, said
        return f"{full}:1"


class _Handler(BaseHTTPRequestHandler):
    served: Registry
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def do_GET(self) -> None:
        body = self._body()
        user = self._user()
        path = urlsplit(self.path).path
        self.served.asked.append((self.command, self.path, user[0] if user else ""))
        if self.served.broken:
            self._error(503, "UNAVAILABLE", "out of order")
        elif path == "/token":
            self._give_token(user)
        elif not self._may(user):
            self._ask_who()
        else:
            self._answer(path, body)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815 - the library's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _user(self) -> tuple[str, str] | None:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        if kind != "Basic":
            return None
        name, _, password = base64.b64decode(value).decode().partition(":")
        return name, password

    def _may(self, user: tuple[str, str] | None) -> bool:
        if self.served.login is None:
            return True
        if self.served.token:
            return self.headers.get("Authorization") == "Bearer let-me-in"
        return user == self.served.login

    def _give_token(self, user: tuple[str, str] | None) -> None:
        if user == self.served.login:
            self._send(200, json.dumps({"token": "let-me-in"}).encode(), {"Content-Type": "application/json"})
        elif user is None:
            self._send(200, json.dumps({"token": "nobody"}).encode(), {"Content-Type": "application/json"})
        else:
            self._error(401, "UNAUTHORIZED", "incorrect username or password")

    def _ask_who(self) -> None:
        realm = f'Bearer realm="http://{self.served.host}/token",service="test"'
        challenge = realm if self.served.token else 'Basic realm="test"'
        self._error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})

    def _answer(self, path: str, body: bytes) -> None:
        if path in ("/v2/", "/v2"):
            self._send(200, b"{}", {"Content-Type": "application/json"})
        elif found := _MANIFEST.fullmatch(path):
            self._manifest(found["name"], found["ref"], body)
        elif found := _BLOB.fullmatch(path):
            self._blob(found["digest"])
        elif found := _UPLOAD.fullmatch(path):
            self._upload(found["name"], found["id"], body)
        else:
            self._error(404, "NAME_UNKNOWN", "no such thing")

    def _manifest(self, name: str, ref: str, body: bytes) -> None:
        known = self.served.manifests
        if self.command == "PUT":
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            kind = self.headers["Content-Type"]
            known[name, ref] = known[name, digest] = (kind, body)
            self._send(201, b"", {"Docker-Content-Digest": digest, "Location": self.path})
        elif (name, ref) in known:
            kind, content = known[name, ref]
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            self._send(200, content, {"Content-Type": kind, "Docker-Content-Digest": digest})
        else:
            self._error(404, "MANIFEST_UNKNOWN", "no such image")

    def _blob(self, digest: str) -> None:
        if digest in self.served.blobs:
            self._send(
                200, self.served.blobs[digest], {"Docker-Content-Digest": digest, "Content-Type": "x/x"}
            )
        else:
            self._error(404, "BLOB_UNKNOWN", "no such blob")

    def _upload(self, name: str, identity: str, body: bytes) -> None:
        identity = identity or str(uuid.uuid4())
        so_far = self.served.uploads[identity] = self.served.uploads.get(identity, b"") + body
        place = {"Location": f"/v2/{name}/blobs/uploads/{identity}", "Docker-Upload-UUID": identity}
        if self.command == "PUT":
            (digest,) = parse_qs(urlsplit(self.path).query)["digest"]
            self.served.blobs[digest] = self.served.uploads.pop(identity)
            self._send(201, b"", {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})
        else:
            self._send(202, b"", {**place, "Range": f"0-{max(len(so_far) - 1, 0)}"})

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        content = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._send(status, content, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
