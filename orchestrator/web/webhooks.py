"""``POST /webhooks/github``: signed deliveries, checked over their raw bytes before they are read."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from orchestrator.domain.errors import SecretMissing
from orchestrator.services.hooks import Delivery, Taking
from orchestrator.web.refusals import Refusals

log = logging.getLogger(__name__)

PATH = "/webhooks/github"
LARGEST = 25 * 1024 * 1024
"""Bytes that GitHub sends at most."""
_USUAL = 256 * 1024
"""Bytes that nearly no delivery has more of: their senders never wait for those who send much, and slowly."""
_USUAL_AT_ONCE = 64
_LARGE_AT_ONCE = 4
_OF_AN_ADDRESS = 16
"""Places that one address may take, so that whoever sends slowly leaves some to others."""
_USUAL_SECONDS = 5.0
_LARGE_SECONDS = 30.0
_WRONG = (
    "a webhook with a wrong signature was refused; the secret of the webhook on GitHub and "
    "github.webhook_secret must be the same"
)
_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_EVENT = re.compile(r"[a-z_]{1,64}")
_REPOSITORY = re.compile(r"[A-Za-z0-9-]{1,100}/[A-Za-z0-9._-]{1,100}")
_ASKS = re.compile(r"^/mlci\b", re.MULTILINE)
_INSIDERS = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})
"""Who has a part in a repository, as GitHub says; one whose membership is private seems to have none."""
_LARGEST_ID = (1 << 63) - 1
_CLOSE = {"Connection": "close"}
"""Of what is not read to its end: the rest is not wanted either."""


@dataclass(slots=True)
class Webhooks:
    """What takes deliveries. ``secret`` is what they are signed with, asked for anew with each."""

    secret: Callable[[], str]
    receive: Callable[[Delivery], Taking]
    refusals: Refusals = field(default_factory=lambda: Refusals(_WRONG), init=False)


class _Unusable(Exception):
    """The body is signed, and still not what GitHub sends."""


def add_webhooks(app: FastAPI, hooks: Webhooks) -> None:
    """Answer GitHub's deliveries."""
    usual, large = asyncio.Semaphore(_USUAL_AT_ONCE), asyncio.Semaphore(_LARGE_AT_ONCE)
    places = _Places()

    @app.post(PATH)
    async def github(request: Request) -> Response:
        refused = _refused_unread(request)
        if refused is not None:
            return refused
        # What does not say its length may be of any.
        busy = usual if int(request.headers.get("content-length", LARGEST)) <= _USUAL else large
        if busy.locked():
            return _told("too many deliveries at once, send it again later", 503, {"Retry-After": "10"})
        with places.of(request) as free:
            if not free:
                return _told("too many deliveries at once from there", 503, {"Retry-After": "10"})
            async with busy:
                return await _take(request, hooks, _USUAL_SECONDS if busy is usual else _LARGE_SECONDS)


def _refused_unread(request: Request) -> Response | None:
    """The answer to what need not be read to be refused."""
    headers = request.headers
    if not _SIGNATURE.fullmatch(headers.get("x-hub-signature-256", "")):
        return _told("there is no signature: X-Hub-Signature-256 is expected", 401)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return _told("choose application/json as the webhook's content type", 415)
    named = _ID.fullmatch(headers.get("x-github-delivery", ""))
    if not named or not _EVENT.fullmatch(headers.get("x-github-event", "")):
        return _told("X-GitHub-Delivery and X-GitHub-Event are expected", 400)
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        return _told("Content-Length is no number", 400)
    return _too_large() if int(length[:20]) > LARGEST else None


class _Places:
    """How many deliveries are read at once of each address. In one event loop."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    @contextmanager
    def of(self, request: Request) -> Iterator[bool]:
        """Whether there is a place for another one; it is free again afterwards."""
        network = _network(request)
        if network is None:
            yield True
            return
        free = self._taken[network] < _OF_AN_ADDRESS
        self._taken[network] += 1
        try:
            yield free
        finally:
            self._taken[network] -= 1
            if not self._taken[network]:
                del self._taken[network]


def _network(request: Request) -> str | None:
    """Who sends, as others cannot pretend to be many; None for a proxy of ours, which sends for everybody."""
    try:
        address = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return None
    if not address.is_global:
        return None
    return str(ipaddress.ip_network((address, 64 if address.version == 6 else 32), strict=False))


async def _take(request: Request, hooks: Webhooks, seconds: float) -> Response:
    try:
        async with asyncio.timeout(seconds):
            body = await _read(request)
    except TimeoutError:
        return _told("the body did not come in time", 408, _CLOSE)
    except ClientDisconnect:
        return _told("the sender has gone", 400, _CLOSE)
    if body is None:
        return _too_large()
    try:
        secret = await run_in_threadpool(hooks.secret)
    except SecretMissing as error:
        log.error("webhooks cannot be checked: %s", error)
        return _told("the webhook's secret cannot be read here", 503)
    if not secret:
        log.error("webhooks cannot be checked: github.webhook_secret is empty")
        return _told("the webhook's secret is empty here", 503)
    if not await run_in_threadpool(_is_signed, body, secret, request.headers["x-hub-signature-256"]):
        hooks.refusals.tell(request)
        return _told("the signature is wrong", 401)
    try:
        delivery = await run_in_threadpool(_delivery, request, body)
    except _Unusable as error:
        return _told(f"the body is not what GitHub sends: {error}", 400)
    taking = await run_in_threadpool(hooks.receive, delivery)
    return _told(taking.value, 202 if taking is Taking.TAKEN else 200)


async def _read(request: Request) -> bytes | None:
    """The whole body, or None as soon as it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > LARGEST:
            return None
        body += chunk
    return bytes(body)


def _is_signed(body: bytes, secret: str, signature: str) -> bool:
    right = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"sha256={right}".encode(), signature.encode())


def _delivery(request: Request, body: bytes) -> Delivery:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        raise _Unusable("it is no JSON") from None
    if not isinstance(payload, dict):
        raise _Unusable("it is no object")
    event = request.headers["x-github-event"]
    repository = _text(payload, "repository", "full_name")
    comment = _asking_comment(payload) if event == "issue_comment" else None
    return Delivery(
        request.headers["x-github-delivery"],
        hashlib.sha256(body).hexdigest(),
        event,
        repository if _REPOSITORY.fullmatch(repository) else "",
        comment,
        comment is not None and _text(payload, "comment", "author_association") not in _INSIDERS,
    )


def _asking_comment(payload: object) -> int | None:
    """The id of a comment that seems to ask us for something: new, and under a pull request."""
    asks = _ASKS.search(_text(payload, "comment", "body"))
    if _text(payload, "action") != "created" or not asks:
        return None
    if not isinstance(_at(payload, "issue", "pull_request"), dict):
        return None
    number = _at(payload, "comment", "id")
    return number if type(number) is int and 0 < number <= _LARGEST_ID else None


def _text(payload: object, *keys: str) -> str:
    found = _at(payload, *keys)
    return found if isinstance(found, str) else ""


def _at(payload: object, *keys: str) -> object:
    for key in keys:
        if not isinstance(payload, dict):
            return None
        payload = payload.get(key)
    return payload


def _too_large() -> Response:
    return _told(f"a delivery has at most {LARGEST} bytes", 413, _CLOSE)


def _told(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)
