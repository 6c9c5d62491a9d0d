"""The stand-in's web server: who asks, what it costs, what has not changed, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode

from tests.support.github import githttp
from tests.support.github.api import DOCS, LIMITS, Answer, Api, Call
from tests.support.github.apps import App, Credential, Identities, Installation, Quota
from tests.support.github.hooks import Hook, Hooks
from tests.support.github.plumbing import NOTHING
from tests.support.github.shapes import Json, Shapes
from tests.support.github.world import RefChange, Repository, World

API: Final = "/api/v3"
_PER_PAGE: Final = 30
_MOST_PER_PAGE: Final = 100


@dataclass
class Fault:
    """Something that goes wrong with the requests whose ``METHOD path`` fits.

    ``times`` requests are hit; None: all until it is taken back. ``delay`` seconds pass first; a status of 0
    cuts the connection then, and of None answers as usual. With ``lost``, what was asked for is done, and
    the connection is cut in place of the answer.
    """

    match: str = ""
    status: int | None = 500
    body: Mapping[str, object] = field(default_factory=lambda: {"message": "Server Error"})
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None
    delay: float = 0.0
    lost: bool = False


@dataclass(frozen=True)
class Request:
    """What was asked and answered. ``path`` is without /api/v3; ``charged``: whether it cost quota."""

    method: str
    path: str
    status: int
    conditional: bool
    charged: bool
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None
    answer: Json | list[Json] | None = None


class GitHubStandIn:
    """GitHub on 127.0.0.1, as a context manager: its REST API as an Enterprise server has it, and real Git.

    ``traffic`` counts the bytes of requests to the API and of their answers, headers included.

    Repositories are made and changed by ``repository()`` and its result, or by pushing to ``clone_url``.
    """

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.hub = self  # type: ignore[attr-defined]
        scheme = "http" if tls is None else "https"
        self.web_url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self.api_url = f"{self.web_url}{API}"
        self.world = World(folder)
        self.world.web_url = self.web_url
        self.identities = Identities()
        self.shapes = Shapes(self.api_url, self.web_url)
        self.api = Api(self.world, self.identities, self.shapes)
        self.hooks = Hooks(self.world, self.shapes)
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.traffic = 0
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> GitHubStandIn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def repository(self, full_name: str, *, private: bool = False) -> Repository:
        """An empty repository; ``push`` puts something into it."""
        return self.world.repository(full_name, private=private)

    def token(self, login: str, *, writes: bool = True) -> str:
        """A personal token of somebody; what it may do is in each repository's ``permissions``."""
        return self.identities.token(self.world.user(login), writes=writes)

    def revoke(self, token: str) -> None:
        """Let a token be known to nobody from now on."""
        self.identities.credentials[token].revoked = True

    def app(self, slug: str, owner: str) -> tuple[App, str]:
        """A GitHub App and its private key (PEM)."""
        return self.identities.app(slug, self.world.user(owner, "Organization"))

    def install(self, app: App, account: str) -> Installation:
        """Install an App for all repositories of an account."""
        return self.identities.install(app, self.world.user(account))

    def quota(self, token: str) -> Quota:
        """What a token has left; may be changed."""
        return self.identities.credentials[token].quota

    def hook(self, repository: Repository, url: str, secret: str, events: tuple[str, ...] = ("*",)) -> Hook:
        """Send what happens in a repository to ``url`` from now on, in the thread in which it happens."""
        return self.hooks.add(repository, url, secret, events)

    def fault(
        self,
        match: str = "",
        status: int | None = 500,
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        times: int | None = None,
        delay: float = 0.0,
    ) -> Fault:
        """Let something go wrong; ``faults.remove`` takes it back."""
        told = {"message": "Server Error"} if body is None else body
        made = Fault(match, status, told, headers or {}, times, delay)
        self.faults.append(made)
        return made

    def lost(self, match: str, *, times: int | None = None) -> Fault:
        """Do what is asked for, and cut the connection before the answer."""
        made = Fault(match, None, times=times, lost=True)
        self.faults.append(made)
        return made

    def secondary_limit(self, seconds: int | None = 30, *, times: int | None = None) -> Fault:
        """Answer as when too much was asked in a short time; without seconds, no header says for how long."""
        message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        body = {"message": message, "documentation_url": f"{LIMITS}#about-secondary-rate-limits"}
        headers = {} if seconds is None else {"Retry-After": str(seconds)}
        return self.fault("", 403, body=body, headers=headers, times=times)

    def asked(self, match: str = "") -> list[Request]:
        """The requests to the API so far whose ``METHOD path`` fits."""
        return [r for r in self.requests if re.search(match, f"{r.method} {r.path}")]

    @property
    def charged(self) -> int:
        """How many requests cost quota so far."""
        return sum(request.charged for request in self.requests)

    def striking(self, method: str, path: str) -> Fault | None:
        """The fault that hits this request."""
        with self.world.lock:
            for fault in self.faults:
                if fault.times != 0 and re.search(fault.match, f"{method} {path}"):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Who hangs up before the answer is told nothing; all else is printed."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    """One request after another of a connection."""

    protocol_version = "HTTP/1.1"
    # Head and body are two writes: the second would wait for the client's late acknowledgement of the first.
    disable_nagle_algorithm = True
    server_version = "GitHub.com"
    sys_version = ""
    timeout = 60

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name for it
        """Nothing is printed."""

    @property
    def hub(self) -> GitHubStandIn:
        hub = self.server.hub  # type: ignore[attr-defined]
        assert isinstance(hub, GitHubStandIn)
        return hub

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        fault = self.hub.striking(self.command, path.removeprefix(API))
        if fault is not None:
            time.sleep(fault.delay)
            if fault.status == 0:
                self.close_connection = True
                return
        if path == API or path.startswith(f"{API}/"):
            self._rest(unquote(path.removeprefix(API)), query, fault)
        elif fault is not None and fault.status is not None:
            self._body()
            self._send(fault.status, json.dumps(fault.body).encode(), dict(fault.headers))
        else:
            self._git(unquote(path), query)

    def _rest(self, path: str, query: str, fault: Fault | None) -> None:
        hub = self.hub
        raw = self._body()
        credential, jwt, refused = self._identify()
        quota = credential.quota if credential is not None else hub.identities.nobody
        with hub.world.lock:
            quota.renew()
            body = json.loads(raw) if raw else None
            asked = dict(parse_qsl(query))
            if refused is None and jwt is None and quota.remaining <= 0 and path != "/rate_limit":
                refused = _used_up(quota)
            if fault is not None and fault.status is not None:
                answer = Answer(fault.status, dict(fault.body), fault.headers)
            elif refused is not None:
                answer = refused
            else:
                call = Call(self.command, path, asked, body or {}, credential, jwt or "")
                answer = hub.api.answer(call)
                if answer.paged:
                    answer = self._paged(answer, path, asked)
            content = b"" if answer.body is None else json.dumps(answer.body).encode()
            headers = {"Content-Type": "application/json; charset=utf-8", **answer.headers}
            unchanged = False
            if self.command == "GET" and answer.status == 200:
                # As GitHub does it: another token is another representation.
                told = content + (credential.token.encode() if credential else b"")
                headers["ETag"] = f'W/"{hashlib.sha256(told).hexdigest()}"'
                headers["Vary"] = "Accept, Authorization, Cookie, X-GitHub-OTP"
                unchanged = headers["ETag"] == self.headers.get("If-None-Match")
            status = 304 if unchanged else answer.status
            free = jwt is not None or path == "/rate_limit" or (unchanged and credential is not None)
            charged = not free and status != 401 and quota.remaining > 0
            quota.remaining -= charged
            if jwt is None:
                headers |= _limits(quota)
            conditional = "If-None-Match" in self.headers
            hub.requests.append(
                Request(self.command, path, status, conditional, charged, asked, body, answer.body)
            )
        if fault is not None and fault.lost:
            self.close_connection = True
            return
        told = b"" if unchanged else content
        with hub.world.lock:
            lines = (*self.headers.items(), *headers.items())
            hub.traffic += sum(len(name) + len(value) + 4 for name, value in lines)
            hub.traffic += len(self.requestline) + 2 + len(raw) + len(told)
        self._send(status, told, headers)

    def _identify(self) -> tuple[Credential | None, str | None, Answer | None]:
        """Who asks: a token's owner, or the text of an App's JWT; or why it is not believed."""
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        if not self.headers.get("User-Agent"):
            return None, None, Answer(403, {"message": "Request forbidden by administrative rules."})
        if kind.lower() == "bearer" and value.count(".") == 2:
            return None, value, None
        if kind.lower() not in ("bearer", "token"):
            return None, None, None
        credential = self.hub.identities.credentials.get(value)
        if credential is None or not credential.valid:
            told: Json = {"message": "Bad credentials", "documentation_url": DOCS, "status": "401"}
            return None, None, Answer(401, told)
        return credential, None, None

    def _paged(self, answer: Answer, path: str, query: Mapping[str, str]) -> Answer:
        assert isinstance(answer.body, list)
        size = min(int(query.get("per_page", _PER_PAGE)), _MOST_PER_PAGE)
        page = int(query.get("page", 1))
        last = max(-(-len(answer.body) // size), 1)
        links = {"prev": page - 1, "first": 1} if page > 1 else {}
        links |= {"next": page + 1, "last": last} if page < last else {}
        url = f"{self.hub.api_url}{path}"
        told = ", ".join(
            f'<{url}?{urlencode({**query, "page": number})}>; rel="{rel}"' for rel, number in links.items()
        )
        part = answer.body[(page - 1) * size : page * size]
        return Answer(answer.status, part, {"Link": told} if told else {})

    def _git(self, path: str, query: str) -> None:
        hub = self.hub
        found = re.fullmatch(r"/([^/]+/[^/]+?)(?:\.git)?(/(?:info/refs|HEAD|git-[a-z-]+|objects/.*))", path)
        if found is None:
            self._body()
            self._send(404, b"Not Found", {})
            return
        token = githttp.token_of(self)
        credential = hub.identities.credentials.get(token)
        if token and (credential is None or not credential.valid):
            self._ask_for_login()
            return
        repository = hub.world.find(found[1])
        moved = hub.world.moved_away(found[1]) if repository is None else None
        if moved is not None:
            self._body()
            location = f"{moved.clone_url}{found[2]}{'?' if query else ''}{query}"
            self._send(301, b"", {"Location": location})
            return
        hidden = repository is None or (
            repository.private and not hub.api.may(credential, repository, "read")
        )
        writing = "receive-pack" in f"{found[2]}{query}"
        if repository is None or hidden or (writing and not hub.api.may(credential, repository, "write")):
            if credential is None:
                self._ask_for_login()
            else:
                self._body()
                self._send(404, b"Repository not found.\n", {"Content-Type": "text/plain"})
            return
        before = repository.refs() if writing else {}

        def told() -> None:
            after = repository.refs() if writing else {}
            by = credential.user if credential is not None else repository.owner
            hub.world.moved(
                RefChange(repository, ref, before.get(ref, NOTHING), after.get(ref, NOTHING), False, by)
                for ref in sorted(before.keys() | after.keys())
                if before.get(ref) != after.get(ref)
            )

        githttp.serve(self, repository.path, found[2], query, told)

    def _ask_for_login(self) -> None:
        self._body()
        self._send(401, b"", {"WWW-Authenticate": 'Basic realm="GitHub"'})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status != 304:
            self.wfile.write(content)


def _limits(quota: Quota) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(quota.limit),
        "X-RateLimit-Remaining": str(quota.remaining),
        "X-RateLimit-Used": str(quota.limit - quota.remaining),
        "X-RateLimit-Reset": str(quota.reset),
        "X-RateLimit-Resource": "core",
    }


def _used_up(quota: Quota) -> Answer:
    return Answer(403, {"message": "API rate limit exceeded for user ID 1.", "documentation_url": LIMITS})
