"""The stand-in says what GitHub's published description says, and does what its documentation tells."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from tests.integration.github.conftest import Watched
from tests.support.git import GitRepository
from tests.support.github import GitHubStandIn
from tests.support.github.description import mistakes, wrong_deliveries

SECRET = "made-up-hook-secret"


@dataclass
class Receiver:
    """Takes webhooks. ``got`` has their headers and raw bodies."""

    url: str
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append((dict(self.headers), body))
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
            """Nothing is printed."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    made = Receiver(f"http://127.0.0.1:{server.server_port}/webhooks/github")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def test_webhooks_are_as_described_and_signed(watched: Watched, receiver: Receiver) -> None:
    repository = watched.repository
    hook = watched.hub.hook(repository, receiver.url, SECRET)
    commit = repository.push()
    repository.tag("v1", commit)
    fork = repository.fork("stranger")
    fork.push("fix", onto=commit)
    pull = repository.pull_request("fix", head=fork)
    fork.push("fix")
    repository.comment(pull.number, "/mlci run", by="ada")
    repository.close(pull.number)
    repository.push("main", onto="")
    repository.push("gone")
    repository.delete_branch("gone")
    assert [(d.event, d.payload.get("action")) for d in hook.deliveries] == [
        ("ping", None),
        ("push", None),
        ("push", None),
        ("pull_request", "opened"),
        ("pull_request", "synchronize"),
        ("issue_comment", "created"),
        ("pull_request", "closed"),
        *[("push", None)] * 3,
    ]
    assert wrong_deliveries(hook.deliveries) == []
    assert len({delivery.id for delivery in hook.deliveries}) == len(hook.deliveries)
    for headers, body in receiver.got:
        expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Hub-Signature-256"] == f"sha256={expected}"


def test_a_push_by_git_is_told_like_any_other(
    watched: Watched, receiver: Receiver, git_repository: GitRepository
) -> None:
    hook = watched.hub.hook(watched.repository, receiver.url, SECRET, ("push",))
    commit = git_repository.commit({"train.py": "1"})
    login = f"http://x-access-token:{watched.account.token}@"
    git_repository.git("push", "--quiet", watched.repository.clone_url.replace("http://", login), "HEAD:main")
    assert watched.repository.branch("main") == commit
    assert [d.payload["after"] for d in hook.deliveries if d.event == "push"] == [commit]


def test_a_redelivery_has_the_id_of_the_first(watched: Watched, receiver: Receiver) -> None:
    hook = watched.hub.hook(watched.repository, receiver.url, SECRET)
    hook.redeliver(hook.deliveries[0])
    first, second = receiver.got
    assert first[0]["X-GitHub-Delivery"] == second[0]["X-GitHub-Delivery"]
    assert first[1] == second[1]


def test_what_the_product_does_not_ask_is_as_described_as_well(watched: Watched) -> None:
    commit = watched.repository.push()
    watched.repository.push("fix")
    watched.repository.tag("v1", commit, message="One")
    number = watched.repository.pull_request("fix").number
    watched.repository.comment(number, "Hello")
    headers = {"Authorization": f"Bearer {watched.account.token}"}
    status = {"state": "success", "context": "other"}
    base = f"{watched.hub.api_url}/repos/acme/wine"
    requests.post(f"{base}/statuses/{commit}", json=status, headers=headers, timeout=10).raise_for_status()
    for path in ("branches", "tags", f"commits/{commit}/statuses", f"issues/{number}/comments"):
        answer = requests.get(f"{base}/{path}", headers=headers, timeout=10)
        assert len(answer.json()) >= 1, path
    answer = requests.get(f"{watched.hub.api_url}/rate_limit", headers=headers, timeout=10)
    assert answer.json()["rate"]["remaining"] == 4995
    assert mistakes(watched.hub.requests) == []
    assert len(watched.hub.requests) == 6


def test_the_check_against_the_description_finds_what_is_wrong(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.described = False
    watched.repository.push()
    monkeypatch.setattr(watched.hub.shapes, "branch", lambda of, name, sha: {"name": 7})
    headers = {"Authorization": f"Bearer {watched.account.token}"}
    url = f"{watched.hub.api_url}/repos/acme/wine/branches?colour=red"
    requests.get(url, headers=headers, timeout=10)
    found = "\n".join(mistakes(watched.hub.requests))
    assert "colour is no parameter" in found
    assert "'commit' is a required property" in found
    assert "7 is not of type 'string'" in found


def test_an_unchanged_answer_is_free_for_who_is_logged_in_and_for_nobody_else(github: GitHubStandIn) -> None:
    github.repository("acme/wine").push()
    url = f"{github.api_url}/repos/acme/wine"
    token = {"Authorization": f"Bearer {github.token('ada')}"}
    for headers, expected in ((token, "4999"), ({}, "58")):
        first = requests.get(url, headers=headers, timeout=10)
        second = requests.get(url, headers={**headers, "If-None-Match": first.headers["ETag"]}, timeout=10)
        assert (second.status_code, second.content) == (304, b"")
        assert second.headers["X-RateLimit-Remaining"] == expected


def test_the_quota_is_renewed_after_its_hour(github: GitHubStandIn) -> None:
    github.repository("acme/wine").push()
    token = github.token("ada")
    headers = {"Authorization": f"Bearer {token}"}
    quota = github.quota(token)
    quota.remaining = 0
    url = f"{github.api_url}/repos/acme/wine"
    assert requests.get(url, headers=headers, timeout=10).status_code == 403
    quota.reset = int(time.time()) - 1
    assert requests.get(url, headers=headers, timeout=10).status_code == 200
