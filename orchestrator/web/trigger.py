"""``POST /api/v1/pipelines/NAME/trigger``: runs that programs ask for, with a token."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from orchestrator.domain.errors import (
    DatasetError,
    DatasetUnavailable,
    InvalidInput,
    NotFound,
    OrchestratorError,
    SecretMissing,
    SourceError,
    SourceUnavailable,
    StoreError,
)
from orchestrator.domain.pace import LONGEST_ASKED
from orchestrator.domain.run import Run
from orchestrator.web.refusals import Refusals

log = logging.getLogger(__name__)

PATH: Final = "/api/v1/pipelines/{name}/trigger"
LARGEST: Final = 16 * 1024
"""Bytes of a body."""
LONGEST_REF: Final = 255
LONGEST_REASON: Final = 500
SHORTEST_TOKEN: Final = 16
_AT_ONCE: Final = 4
_SECONDS: Final = 10.0
_KEYS: Final = ("ref", "reason")
_CLOSE: Final = {"Connection": "close"}


@dataclass(slots=True)
class Triggers:
    """What starts runs. ``token`` is asked for anew each time; ``start`` gives a run, or seconds to wait."""

    token: Callable[[], str]
    start: Callable[[str, str | None, str], Run | float]
    url: Callable[[Run], str]
    mask: Callable[[str], str]
    refusals: Refusals = field(
        default_factory=lambda: Refusals("a request to start a run was refused for its token"), init=False
    )


class _Unusable(Exception):
    """The body is not what is expected."""


def add_trigger(app: FastAPI, triggers: Triggers) -> None:
    """Let programs start runs."""
    busy = asyncio.Semaphore(_AT_ONCE)

    @app.post(PATH)
    async def trigger(name: str, request: Request) -> Response:
        if (refused := await run_in_threadpool(_refused, request, triggers)) is not None:
            return refused
        if busy.locked():
            return _told("too many requests at once, ask again later", 503, {"Retry-After": "5"})
        async with busy:
            return await _take(name, request, triggers)


def _refused(request: Request, triggers: Triggers) -> Response | None:
    """The answer to whoever shows no token or a wrong one: nothing of the body is read for them."""
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not shown:
        return _told(
            "a token is expected: Authorization: Bearer …", 401, {"WWW-Authenticate": "Bearer", **_CLOSE}
        )
    try:
        right = triggers.token()
    except SecretMissing as error:
        log.error("no run can be started by the API: %s", error)
        return _told("the token cannot be read here", 503, _CLOSE)
    if len(right) < SHORTEST_TOKEN:
        log.error(
            "no run can be started by the API: web.trigger_token has fewer than %d characters", SHORTEST_TOKEN
        )
        return _told("the token is too short here to be of use", 503, _CLOSE)
    # Of equal length, whatever is shown: the time that this takes tells nothing of the right one.
    if not hmac.compare_digest(_digest(shown.strip()), _digest(right)):
        triggers.refusals.tell(request)
        return _told(
            "the token is wrong", 401, {"WWW-Authenticate": 'Bearer error="invalid_token"', **_CLOSE}
        )
    return None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


async def _take(name: str, request: Request, triggers: Triggers) -> Response:
    try:
        async with asyncio.timeout(_SECONDS):
            body = await _read(request)
    except TimeoutError:
        return _told("the body did not come in time", 408, _CLOSE)
    except ClientDisconnect:
        return _told("the sender has gone", 400, _CLOSE)
    if body is None:
        return _told(f"a body has at most {LARGEST} bytes", 413, _CLOSE)
    try:
        ref, reason = _asked(request, body)
    except _Unusable as error:
        return _told(str(error), 422)
    return await run_in_threadpool(_start, name, ref, reason, triggers)


async def _read(request: Request) -> bytes | None:
    """The whole body, or None as soon as it is too large."""
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length[:20]) > LARGEST:
        return None
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > LARGEST:
            return None
        body += chunk
    return bytes(body)


def _asked(request: Request, body: bytes) -> tuple[str | None, str]:
    if not body:
        return None, ""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _Unusable("application/json is expected, or no body")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise _Unusable("the body is no JSON") from None
    if not isinstance(asked, dict) or not set(asked) <= set(_KEYS):
        raise _Unusable('an object is expected with nothing but "ref" and "reason"')
    ref, reason = asked.get("ref"), asked.get("reason") or ""
    if ref is not None and not (isinstance(ref, str) and 0 < len(ref) <= LONGEST_REF and ref.isprintable()):
        raise _Unusable(
            f'"ref" is the name of a branch or a tag, or a commit, of at most {LONGEST_REF} characters'
        )
    if not isinstance(reason, str) or len(reason) > LONGEST_REASON:
        raise _Unusable(f'"reason" is text of at most {LONGEST_REASON} characters')
    return ref, reason


def _start(name: str, ref: str | None, reason: str, triggers: Triggers) -> Response:
    try:
        found = triggers.start(name, ref, reason)
    except StoreError:
        raise
    except OrchestratorError as error:
        return _trouble(error, triggers.mask)
    if isinstance(found, float):
        wait = {"Retry-After": str(math.ceil(found))}
        return _told("too many runs of this pipeline were asked for in the last minute", 429, wait)
    url = triggers.url(found)
    told = {
        "id": found.id,
        "reference": f"{found.pipeline}#{found.number}",
        "pipeline": found.pipeline,
        "state": found.state.value,
        "commit": found.change.revision.commit,
        "branch": found.change.revision.branch,
        "url": url,
    }
    return JSONResponse(told, 201, {"Location": url} if url else None)


def _trouble(error: OrchestratorError, mask: Callable[[str], str]) -> Response:
    match error:
        case NotFound():
            return _told(mask(str(error)), 404)
        case InvalidInput():
            return _told(mask(str(error)), 422)
        case SourceUnavailable(retry_after=float(seconds)) | DatasetUnavailable(retry_after=float(seconds)):
            return _told(mask(str(error)), 503, {"Retry-After": str(math.ceil(min(seconds, LONGEST_ASKED)))})
        case SourceError() | DatasetError():
            return _told(mask(str(error)), 503, {"Retry-After": "30"})
    log.error("a run could not be started by the API: %s", error)
    return _told("the run could not be started; the server's log says why", 500)


def _told(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status, headers)
