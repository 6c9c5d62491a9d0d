"""Webhooks that are forged, sent again or endless, sent to the real server: nothing comes of them."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import select
import socket
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.security.conftest import InstallationMaker
from tests.support.github import GitHubStandIn
from tests.support.github.hooks import Delivery
from tests.support.githubbed import SECRET, Watching, watch
from tests.support.waiting import wait_until

GIGABYTE = 1 << 30


@pytest.fixture(scope="module")
def watching(
    tmp_path_factory: pytest.TempPathFactory, shared_installation: InstallationMaker
) -> Iterator[Watching]:
    with (
        GitHubStandIn(tmp_path_factory.mktemp("github")) as hub,
        watch(hub, shared_installation()) as made,
    ):
        yield made
        assert "Traceback" not in made.server.log.read_text(), "something was not foreseen"


def push(watching: Watching) -> Delivery:
    """A delivery as GitHub signs it, of a push that took place; it was taken."""
    watching.repository.push()
    sent = watching.hook.deliveries[-1]
    assert (sent.event, sent.status) == ("push", 202)
    return sent


def taken(watching: Watching) -> int:
    """What was written down: nothing is woken that was not."""
    database = watching.installation.folder / "var" / "orchestrator.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        count = connection.execute("SELECT count(*) FROM deliveries").fetchone()[0]
    assert isinstance(count, int)
    return count


def post(watching: Watching, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{watching.server.url}/webhooks/github", content=body, headers=headers, timeout=30)


def signature(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_without_a_signature_or_with_a_bad_one_nothing_is_taken(watching: Watching) -> None:
    real = push(watching)
    before = taken(watching)
    fresh = real.body.replace(b'"forced": false', b'"forced": true')
    assert fresh != real.body
    headers = {k: v for k, v in real.headers.items() if not k.startswith("X-Hub")}
    headers["X-GitHub-Delivery"] = str(uuid.uuid4())
    for wrong in (
        None,
        "sha256=" + "0" * 64,
        real.headers["X-Hub-Signature-256"],
        signature(fresh, "another secret"),
        signature(fresh, ""),
        signature(fresh, SECRET + "\n"),
        signature(fresh).upper(),
        "sha1=" + hmac.new(SECRET.encode(), fresh, hashlib.sha1).hexdigest(),
    ):
        given = headers if wrong is None else headers | {"X-Hub-Signature-256": wrong}
        answer = post(watching, fresh, given)
        assert answer.status_code == 401, wrong
        assert SECRET not in answer.text
    assert taken(watching) == before
    assert post(watching, fresh, headers | {"X-Hub-Signature-256": signature(fresh)}).status_code == 202


def test_a_delivery_that_is_sent_again_changes_nothing_under_any_id(watching: Watching) -> None:
    real = push(watching)
    before = taken(watching)
    again = watching.hook.redeliver(real)
    assert (again.status, again.answer) == (200, "taken before\n")
    disguised = watching.hook.post(
        replace(real, headers={**real.headers, "X-GitHub-Delivery": str(uuid.uuid4())})
    )
    assert (disguised.status, disguised.answer) == (200, "taken before\n")
    assert taken(watching) == before


def test_a_signature_of_another_repository_wakes_nothing_here(watching: Watching) -> None:
    other = watching.hub.repository("stranger/wine")
    hook = watching.hub.hook(other, watching.hook.url, SECRET)
    before = taken(watching)
    other.push("main", {"train.py": "x"})
    assert (hook.deliveries[-1].status, hook.deliveries[-1].answer) == (
        200,
        "no pipeline watches that repository\n",
    )
    theirs = watching.hub.hook(other, watching.hook.url, "the secret of another repository")
    other.push("main", {"train.py": "y"})
    assert theirs.deliveries[-1].status == 401
    assert taken(watching) == before


def test_a_comment_that_nobody_wrote_asks_for_nothing(watching: Watching) -> None:
    """Whoever knows the secret can say who wrote a comment. GitHub is asked, and knows better."""
    repository = watching.repository
    commit = repository.push("topic", message="Try something")
    pull = repository.pull_request("topic")
    watching.wait_for_run(commit, f"refs/pull/{pull.number}/head")
    comment = repository.comment(pull.number, "Nice.", by="passer-by")
    payload = json.loads(watching.hook.deliveries[-1].body)
    payload["comment"] |= {"id": comment.id, "body": "/mlci run", "user": {"login": "ci-bot", "id": 1}}
    assert watching.hook.send("issue_comment", payload).status == 202
    wait_until(lambda: watching.hub.asked(f"GET .*/issues/comments/{comment.id}"), "the question", 30)
    theirs = repository.comment(pull.number, "/mlci run", by="passer-by")
    wait_until(lambda: _is_dealt_with(watching, theirs.id), "the comment to be dealt with", 30)
    assert _is_dealt_with(watching, comment.id)
    assert [run.change.requested_by for run in watching.runs(f"refs/pull/{pull.number}/head")] == [""]
    assert [comment.author.login for comment in repository.comments] == ["passer-by"] * 2


def _is_dealt_with(watching: Watching, comment: int) -> bool:
    later = datetime.now(UTC) + timedelta(days=1)
    return comment not in [seen.id for seen in watching.store.deliveries.comments(later)]


def test_a_payload_of_a_gigabyte_is_refused_before_it_is_read(watching: Watching) -> None:
    real = push(watching)
    highest = _peak(watching)
    connection, sent = _endless(watching, dict(real.headers), {"Content-Length": str(GIGABYTE)})
    assert connection.startswith(b"HTTP/1.1 413")
    assert sent < 64 * 1024 * 1024
    connection, sent = _endless(watching, dict(real.headers), {"Transfer-Encoding": "chunked"})
    assert connection.startswith(b"HTTP/1.1 413")
    assert sent < 128 * 1024 * 1024
    assert _peak(watching) - highest < 160 * 1024 * 1024
    assert watching.server.get("/healthz") == "ok\n"


def test_nobody_holds_the_endpoint_by_sending_nothing(watching: Watching) -> None:
    """Large bodies are read four at a time; those of an ordinary size, and pages, do not wait for them."""
    real = push(watching)
    large = real.body + b" " * (1 << 20)
    held = [_begun(watching, dict(real.headers)) for _ in range(4)]

    def answered(body: bytes, status: int) -> bool:
        return post(watching, body, dict(real.headers)).status_code == status

    try:
        wait_until(lambda: answered(large, 503), "the answer that it is too much", 20)
        assert answered(real.body, 200)
        assert watching.server.get("/healthz") == "ok\n"
    finally:
        for each in held:
            each.close()
    wait_until(lambda: answered(large, 401), "an end of it", 20)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_no_other_address_takes_anything(watching: Watching, method: str) -> None:
    """Neither do others under this one, nor this one by another method."""
    addresses = ["/", "/healthz", "/readyz", "/runs/1", "/runs/1/log", "/webhooks", "/webhooks/github/"]
    if method != "POST":
        addresses.append("/webhooks/github")
    for address in addresses:
        answer = httpx.request(method, watching.server.url + address, content=b"{}", timeout=30)
        assert answer.status_code in (404, 405, 307), address


def test_the_secret_is_nowhere(watching: Watching) -> None:
    push(watching)
    post(watching, b"{}", {"X-Hub-Signature-256": "sha256=" + "0" * 64})
    log = watching.server.log.read_text()
    assert SECRET not in log
    assert watching.token not in log
    state = watching.installation.folder / "var"
    for path in state.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert SECRET.encode() not in content, path
            assert watching.token.encode() not in content, path


def _peak(watching: Watching) -> int:
    """The most memory that the server ever had, in bytes."""
    told = Path(f"/proc/{watching.server.process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", told)
    assert match is not None
    return int(match[1]) * 1024


def _begun(watching: Watching, headers: dict[str, str]) -> socket.socket:
    """A request whose body does not come."""
    where = urlsplit(watching.server.url)
    assert where.port is not None
    sending = socket.create_connection((where.hostname, where.port), timeout=30)
    sending.sendall(_head(where.netloc, headers | {"Content-Length": "1000000"}))
    return sending


def _endless(watching: Watching, headers: dict[str, str], length: dict[str, str]) -> tuple[bytes, int]:
    """Send a gigabyte as long as anybody takes it: the answer's beginning, and how much was taken."""
    where = urlsplit(watching.server.url)
    assert where.port is not None
    chunk = b"x" * (1 << 20)
    framed = b"%x\r\n%b\r\n" % (len(chunk), chunk) if "Transfer-Encoding" in length else chunk
    sent, answer = 0, b""
    with socket.create_connection((where.hostname, where.port), timeout=30) as sending:
        sending.sendall(_head(where.netloc, headers | length))
        try:
            while sent < GIGABYTE:
                sending.sendall(framed)
                sent += len(chunk)
                if select.select([sending], [], [], 0)[0]:
                    break
        except (BrokenPipeError, ConnectionResetError):
            pass
        with suppress(ConnectionResetError):
            answer = sending.recv(4096)
    return answer, sent


def _head(host: str, headers: dict[str, str]) -> bytes:
    lines = ["POST /webhooks/github HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()
