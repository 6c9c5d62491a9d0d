"""``/deployments``: what is live where, what waits for a person, and decisions by token.

Nobody logs in here, so no cookie could act for somebody else: the token is typed into the form each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import parse_qs

import jinja2
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from orchestrator.domain.deployment import Deployment
from orchestrator.domain.errors import InvalidInput, NotFound, SecretMissing
from orchestrator.domain.report import format_ago
from orchestrator.services.deploying.desk import Desk
from orchestrator.web.refusals import Refusals

log = logging.getLogger(__name__)

PATH: Final = "/deployments"
LARGEST: Final = 8 * 1024
"""Bytes of a form."""
SHORTEST_TOKEN: Final = 16
LONGEST_REASON: Final = 500
WRONG_A_MINUTE: Final = 10
"""So many wrong tokens of one address are answered in a minute; then none from there is looked at."""
_REMEMBERED: Final = 10_000
"""Wrong tokens, so that nobody fills the memory with them."""
_SECONDS: Final = 10.0
_LISTED: Final = 50
_VERBS: Final = ("approve", "reject", "rollback")
_FORMS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'"
}


@dataclass(slots=True)
class DeploymentPages:
    """What the page reads and does. ``tokens`` are read anew each time, by whose they are."""

    desk: Desk
    tokens: Mapping[str, Callable[[], str]]
    run_title: Callable[[int], str]
    now: Callable[[], datetime]
    mask: Callable[[str], str]
    refusals: Refusals = field(
        default_factory=lambda: Refusals("a decision on a deployment was refused for its token"), init=False
    )
    wrong: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED), init=False)
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)


@dataclass(frozen=True, slots=True)
class _Row:
    deployment: Deployment
    title: str
    when: str
    tone: str


class _Refused(Exception):
    """What was asked for is not done, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


_TONES: Final = {
    "active": "good",
    "failed": "bad",
    "rolled_back": "bad",
    "awaiting_approval": "unsure",
    "rejected": "unsure",
    "retired": "quiet",
    "superseded": "quiet",
    "cancelled": "quiet",
}


def add_deployments(app: FastAPI, pages: DeploymentPages, templates: jinja2.Environment) -> None:
    """Show deployments, and take decisions."""

    @app.get(PATH)
    def show() -> HTMLResponse:
        return HTMLResponse(_page(pages, templates), headers=_FORMS)

    @app.post(PATH + "/{verb}")
    async def decide(verb: str, request: Request) -> Response:
        try:
            asked = await _form(verb, request)
            told = await run_in_threadpool(_decide, verb, asked, request, pages)
        except _Refused as refused:
            html = await run_in_threadpool(_page, pages, templates, str(refused))
            return HTMLResponse(html, refused.status, headers={**_FORMS, "Connection": "close"})
        log.info("%s", told)
        # What is loaded again is the page, not the decision.
        return RedirectResponse(PATH, 303)


def _page(pages: DeploymentPages, templates: jinja2.Environment, refused: str = "") -> str:
    now = pages.now()

    def row(found: Deployment) -> _Row:
        when = format_ago((now - (found.activated_at or found.created_at or now)).total_seconds())
        tone = _TONES.get(found.state.value, "running")
        return _Row(found, pages.run_title(found.run_id), when, tone)

    live = [row(found) for found in pages.desk.live()]
    rows = [each.deployment for each in live]
    places = list(dict.fromkeys((each.environment or each.server, each.pipeline) for each in rows))
    shared = {place for place, _ in places if [other for other, _ in places].count(place) > 1}
    html = templates.get_template("deployments.html").render(
        live=live,
        places=places,
        shared=shared,
        awaiting=pages.desk.awaiting(),
        history=[row(found) for found in pages.desk.history(_LISTED)],
        decides=bool(pages.tokens),
        refused=refused,
    )
    return pages.mask(html)


async def _form(verb: str, request: Request) -> dict[str, str]:
    if verb not in _VERBS:
        raise _Refused(404, "there is no such decision")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    if origin is not None and origin.partition("://")[2] != host:
        raise _Refused(403, "this form belongs to another site")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise _Refused(415, "a form of this page is expected")
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in request.stream():
                if len(body) + len(chunk) > LARGEST:
                    raise _Refused(413, f"a form has at most {LARGEST} bytes")
                body += chunk
    except TimeoutError:
        raise _Refused(408, "the form did not come in time") from None
    except ClientDisconnect:
        raise _Refused(400, "the sender has gone") from None
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=10, errors="strict")
    except ValueError:
        raise _Refused(422, "the form cannot be read") from None
    return {name: values[0] for name, values in fields.items() if len(values) == 1}


def _decide(verb: str, asked: Mapping[str, str], request: Request, pages: DeploymentPages) -> str:
    who = _who(asked.get("token", ""), request, pages)
    reason = " ".join(asked.get("reason", "").split())
    if len(reason) > LONGEST_REASON:
        raise _Refused(422, f"a reason has at most {LONGEST_REASON} characters")
    try:
        if verb == "rollback":
            place = asked.get("place", "")
            pages.desk.roll_back(place, who, reason, asked.get("pipeline") or None, approver=who)
            return f"{who} rolls {place} back"
        number = asked.get("action", "")
        if not (number.isascii() and number.isdigit() and len(number) < 18):
            raise _Refused(422, "the number of a deployment's action is expected")
        if pages.desk.decide(int(number), verb == "approve", who, reason) is None:
            raise _Refused(409, "this deployment does not wait any more")
    except NotFound as error:
        raise _Refused(404, pages.mask(str(error))) from None
    except InvalidInput as error:
        raise _Refused(422, pages.mask(str(error))) from None
    return f"{who} said {verb} to action {number}"


def _who(shown: str, request: Request, pages: DeploymentPages) -> str:
    """Whose token it is."""
    if not pages.tokens:
        raise _Refused(403, "no token is configured: web.approval_tokens in orchestrator.yaml")
    sender = request.client.host if request.client is not None else ""
    with pages.lock:
        now = time.monotonic()
        while pages.wrong and now - pages.wrong[0][0] > 60.0:
            pages.wrong.popleft()
        if sum(address == sender for _, address in pages.wrong) >= WRONG_A_MINUTE:
            raise _Refused(429, "too many wrong tokens: wait a minute")
    found = ""
    for name, secret in pages.tokens.items():
        try:
            right = secret()
        except SecretMissing as error:
            log.error("%s can decide nothing on the page: %s", name, error)
            continue
        # Of equal length, and all of them: the time that this takes tells nothing of the right ones.
        if hmac.compare_digest(_digest(shown), _digest(right)) and len(right) >= SHORTEST_TOKEN:
            found = name
    if not found:
        with pages.lock:
            pages.wrong.append((now, sender))
        pages.refusals.tell(request)
        raise _Refused(401, "the token is wrong")
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
