"""What is taken at ``/webhooks/github`` and what is not, asked in process: no socket is opened."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from orchestrator.domain.errors import SecretMissing, StoreUnavailable
from orchestrator.services.hooks import Delivery, Taking
from orchestrator.web import refusals, webhooks
from orchestrator.web.webhooks import Webhooks, add_webhooks

SECRET = "the secret of acme/wine"
PUSH = {"ref": "refs/heads/main", "repository": {"full_name": "acme/wine"}}


class Endpoint:
    """The route alone, and what came through it."""

    def __init__(self) -> None:
        self.secret = SECRET
        self.taken: list[Delivery] = []
        self.answer = Taking.TAKEN
        self.fault: Exception | None = None
        self.app = FastAPI()
        add_webhooks(self.app, Webhooks(self._secret, self._receive))

    def _secret(self) -> str:
        if isinstance(self.fault, SecretMissing):
            raise self.fault
        return self.secret

    def _receive(self, delivery: Delivery) -> Taking:
        if self.fault is not None:
            raise self.fault
        self.taken.append(delivery)
        return self.answer

    def send(
        self, body: bytes | AsyncIterator[bytes], headers: dict[str, str] | None = None
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://ci.example.org") as client:
                return await client.post("/webhooks/github", content=body, headers=headers or {})

        return asyncio.run(ask())


def signed(body: bytes, event: str = "push", secret: str = SECRET, **headers: str) -> dict[str, str]:
    return {
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-GitHub-Event": event,
        "Content-Type": "application/json",
    } | {name.replace("_", "-"): value for name, value in headers.items()}


def body_of(payload: object) -> bytes:
    return json.dumps(payload).encode()


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def test_a_signed_delivery_is_taken_with_the_digest_of_its_body(endpoint: Endpoint) -> None:
    body = body_of(PUSH)
    answer = endpoint.send(body, signed(body))
    assert (answer.status_code, answer.text) == (202, "taken\n")
    assert endpoint.taken == [
        Delivery(
            "72d3162e-cc78-11e3-81ab-4c9367dc0958", hashlib.sha256(body).hexdigest(), "push", "acme/wine"
        )
    ]


def test_the_signature_is_over_the_bytes_and_not_over_what_they_mean(endpoint: Endpoint) -> None:
    body = body_of(PUSH)
    same = body.replace(b": ", b":")
    assert json.loads(same) == json.loads(body)
    assert endpoint.send(same, signed(body)).status_code == 401
    assert endpoint.taken == []


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        "sha256=" + "A" * 64,
        "sha1=" + hmac.new(SECRET.encode(), body_of(PUSH), hashlib.sha1).hexdigest(),
        hmac.new(SECRET.encode(), body_of(PUSH), hashlib.sha256).hexdigest(),
        "sha256=" + hmac.new(b"", body_of(PUSH), hashlib.sha256).hexdigest(),
        "sha256=" + hmac.new(b"another secret", body_of(PUSH), hashlib.sha256).hexdigest(),
    ],
)
def test_no_other_signature_is_taken(endpoint: Endpoint, signature: str) -> None:
    body = body_of(PUSH)
    answer = endpoint.send(body, signed(body) | {"X-Hub-Signature-256": signature})
    assert answer.status_code == 401
    assert endpoint.taken == []


def test_an_unsigned_body_is_not_even_read(endpoint: Endpoint) -> None:
    read = []

    async def endless() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    headers = signed(b"") | {"X-Hub-Signature-256": "none"}
    assert endpoint.send(endless(), headers).status_code == 401
    assert read == []


def test_a_secret_that_is_empty_signs_nothing(endpoint: Endpoint) -> None:
    endpoint.secret = ""
    body = body_of(PUSH)
    assert endpoint.send(body, signed(body, secret="")).status_code == 503
    assert endpoint.taken == []


def test_a_secret_that_cannot_be_read_now_takes_nothing_and_is_not_told(endpoint: Endpoint) -> None:
    endpoint.fault = SecretMissing("${{ file:/run/secrets/hook }}: permission denied")
    body = body_of(PUSH)
    answer = endpoint.send(body, signed(body))
    assert answer.status_code == 503
    assert "/run/secrets" not in answer.text


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_larger_than_github_sends_is_refused(
    endpoint: Endpoint, announced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "LARGEST", 1000)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    whole = b"x" * 1100
    answer = endpoint.send(whole if announced else parts(), signed(whole))
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert endpoint.taken == []


def test_a_body_that_does_not_come_is_not_waited_for(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_USUAL_SECONDS", 0.01)
    monkeypatch.setattr(webhooks, "_LARGE_SECONDS", 0.01)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    assert endpoint.send(never(), signed(b"{")).status_code == 408


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"X-GitHub-Event": ""}, 400),
        ({"X-GitHub-Delivery": "../../etc"}, 400),
        ({"X-GitHub-Delivery": "x" * 100}, 400),
    ],
)
def test_what_github_does_not_send_so_is_refused(
    endpoint: Endpoint, changed: dict[str, str], status: int
) -> None:
    body = body_of(PUSH)
    assert endpoint.send(body, signed(body) | changed).status_code == status


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b'"push"'])
def test_a_signed_body_that_is_no_object_is_refused(endpoint: Endpoint, body: bytes) -> None:
    assert endpoint.send(body, signed(body)).status_code == 400
    assert endpoint.taken == []


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"repository": None},
        {"repository": "acme/wine"},
        {"repository": {"full_name": 7}},
        {"repository": {"full_name": "acme/wine\n"}},
        {"repository": {"full_name": "acme/wine/../beer"}},
    ],
)
def test_a_repository_that_cannot_be_is_nobody_s(endpoint: Endpoint, payload: object) -> None:
    body = body_of(payload)
    endpoint.send(body, signed(body))
    assert [delivery.repository for delivery in endpoint.taken] == [""]


def comment(text: str = "/mlci run", **changes: object) -> dict[str, object]:
    return {
        "action": "created",
        "repository": {"full_name": "acme/wine"},
        "issue": {"number": 7, "pull_request": {"url": "https://api.github.com/…/pulls/7"}},
        "comment": {"id": 99, "body": text, "user": {"login": "ana"}},
    } | changes


@pytest.mark.parametrize("text", ["/mlci run", "Hm.\n/mlci approve 1a2b3c4", "/mlci", "/mlci\r\nand more"])
def test_a_new_comment_that_asks_is_noted_by_its_id(endpoint: Endpoint, text: str) -> None:
    body = body_of(comment(text))
    endpoint.send(body, signed(body, "issue_comment"))
    assert [delivery.comment for delivery in endpoint.taken] == [99]


@pytest.mark.parametrize(
    "payload",
    [
        comment("please /mlci run"),
        comment("/mlcirun"),
        comment(action="edited"),
        comment(action="deleted"),
        comment(issue={"number": 7}),
        comment(comment={"id": "99", "body": "/mlci run"}),
        comment(comment={"id": -1, "body": "/mlci run"}),
        comment(comment={"id": True, "body": "/mlci run"}),
        comment(comment={"id": 1 << 63, "body": "/mlci run"}),
        comment(comment={"id": 99, "body": ["/mlci run"]}),
    ],
)
def test_no_other_comment_is_noted(endpoint: Endpoint, payload: object) -> None:
    body = body_of(payload)
    endpoint.send(body, signed(body, "issue_comment"))
    assert [delivery.comment for delivery in endpoint.taken] == [None]


@pytest.mark.parametrize(
    ("association", "outsider"), [("OWNER", False), ("COLLABORATOR", False), ("NONE", True), (None, True)]
)
def test_a_comment_says_whether_its_author_seems_to_have_no_part_in_it(
    endpoint: Endpoint, association: str | None, outsider: bool
) -> None:
    body = body_of(comment(comment={"id": 99, "body": "/mlci run", "author_association": association}))
    endpoint.send(body, signed(body, "issue_comment"))
    assert [delivery.outsider for delivery in endpoint.taken] == [outsider]


def test_who_sends_slowly_from_one_address_leaves_places_to_others(endpoint: Endpoint) -> None:
    body = body_of(PUSH)
    begun: list[None] = []

    async def ask() -> tuple[list[int], int]:
        held, full = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            begun.append(None)
            if len(begun) == 16:
                full.set()
            await held.wait()
            yield body

        def client(address: str) -> httpx.AsyncClient:
            transport = httpx.ASGITransport(endpoint.app, client=(address, 4000))
            return httpx.AsyncClient(transport=transport, base_url="http://ci.example.org")

        headers = signed(body) | {"Content-Length": str(len(body))}
        async with client("1.1.1.1") as one, client("8.8.8.8") as other, client("10.0.0.1") as proxy:
            post = "/webhooks/github"
            waiting = [
                asyncio.create_task(one.post(post, content=slow(), headers=headers)) for _ in range(16)
            ]
            await full.wait()
            refused = await one.post(post, content=body, headers=signed(body))
            taken = [await by.post(post, content=body, headers=signed(body)) for by in (other, proxy)]
            held.set()
            ended = [answer.status_code for answer in await asyncio.gather(*waiting)]
        assert [answer.status_code for answer in taken] == [202, 202]
        return ended, refused.status_code

    ended, refused = asyncio.run(ask())
    assert (set(ended), refused) == ({202}, 503)


def test_a_push_that_looks_like_a_comment_asks_for_nothing(endpoint: Endpoint) -> None:
    body = body_of(comment())
    endpoint.send(body, signed(body, "push"))
    assert [delivery.comment for delivery in endpoint.taken] == [None]


@pytest.mark.parametrize(
    ("taking", "status"),
    [(Taking.TAKEN, 202), (Taking.PONG, 200), (Taking.REPLAYED, 200), (Taking.NOT_WATCHED, 200)],
)
def test_github_shows_what_became_of_a_delivery(endpoint: Endpoint, taking: Taking, status: int) -> None:
    endpoint.answer = taking
    body = body_of(PUSH)
    answer = endpoint.send(body, signed(body))
    assert (answer.status_code, answer.text) == (status, f"{taking.value}\n")


def test_a_delivery_that_could_not_be_written_down_is_not_said_to_be_taken(endpoint: Endpoint) -> None:
    endpoint.fault = StoreUnavailable("the database is locked")
    body = body_of(PUSH)
    assert endpoint.send(body, signed(body)).status_code >= 500


def test_a_wrong_signature_is_told_in_the_log_once_and_without_secrets(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    body = body_of(PUSH)
    for _ in range(5):
        endpoint.send(body, signed(body, secret="wrong"))
    told = [record.getMessage() for record in caplog.records if record.name == refusals.__name__]
    assert len(told) == 1
    assert "wrong signature" in told[0]
    assert SECRET not in caplog.text


def test_only_posts_are_answered(endpoint: Endpoint) -> None:
    async def ask() -> list[int]:
        transport = httpx.ASGITransport(endpoint.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://ci.example.org") as client:
            methods = ("GET", "PUT", "PATCH", "DELETE", "OPTIONS")
            return [(await client.request(method, "/webhooks/github")).status_code for method in methods]

    assert asyncio.run(ask()) == [405] * 5


def test_the_page_says_what_the_code_takes() -> None:
    page = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
    assert webhooks.PATH in page
    assert f"{webhooks.LARGEST // 1024**2} MB" in page
