"""Runs that programs ask for, in process: no socket is opened."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest
from fastapi import FastAPI

from orchestrator.domain.change import Cause
from orchestrator.domain.errors import SecretMissing
from orchestrator.services.asked import A_MINUTE, AskedRuns
from orchestrator.web.trigger import LARGEST, Triggers, add_trigger
from tests.unit.services.worlds import World, commit_id, pipeline

TOKEN = "a-token-that-nobody-guesses"
PATH = "/api/v1/pipelines/wine/trigger"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Api:
    """The application with nothing but this route."""

    def __init__(self, world: World) -> None:
        self.token = TOKEN
        self.missing = False
        asked = AskedRuns({"wine": pipeline()}, world.detector, world.clock)
        self.app = FastAPI(openapi_url=None)
        url = "http://ci.example.org/runs"
        add_trigger(
            self.app,
            Triggers(
                self._token,
                asked.start,
                lambda run: f"{url}/{run.id}",
                lambda text: text.replace("/repo", "…"),
            ),
        )

    def _token(self) -> str:
        if self.missing:
            raise SecretMissing("TRIGGER_TOKEN is not set")
        return self.token

    def post(
        self,
        body: object = None,
        headers: Mapping[str, str] = BEARER,
        path: str = PATH,
        content: bytes | AsyncIterator[bytes] | None = None,
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                if content is not None:
                    kind = {"Content-Type": "application/json"}
                    return await client.post(path, content=content, headers={**kind, **headers})
                return await client.post(path, json=body, headers=headers)

        return asyncio.run(ask())


@pytest.fixture
def api(world: World) -> Api:
    return Api(world)


def test_a_program_starts_a_run_and_is_told_which(world: World, api: Api) -> None:
    answer = api.post({"ref": "main", "reason": "the features were\nmade anew"})
    (run,) = world.store.runs.listing()
    assert answer.status_code == 201
    assert answer.json() == {
        "id": run.id,
        "reference": "wine#1",
        "pipeline": "wine",
        "state": "queued",
        "commit": commit_id("first"),
        "branch": "main",
        "url": f"http://ci.example.org/runs/{run.id}",
    }
    assert answer.headers["location"].endswith(f"/runs/{run.id}")
    assert (run.change.cause, run.change.note) == (Cause.TRIGGER, "the features were made anew")
    assert run.change.requested_by == "a program, by the API"


def test_without_a_body_the_main_branch_is_run(world: World, api: Api) -> None:
    assert api.post(content=b"").status_code == 201
    assert world.store.runs.listing()[0].change.revision.branch == "main"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN.upper()}"},
    ],
)
def test_whoever_shows_no_right_token_starts_nothing(world: World, api: Api, headers: dict[str, str]) -> None:
    answer = api.post({"ref": "main"}, headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert TOKEN not in answer.text
    assert world.store.runs.listing() == []


def test_a_wrong_token_does_not_learn_which_pipelines_there_are(api: Api) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    there, not_there = api.post({}, wrong), api.post({}, wrong, "/api/v1/pipelines/none/trigger")
    assert (there.status_code, there.text) == (not_there.status_code, not_there.text)


def test_wrong_tokens_are_logged_once_a_minute_and_never_shown(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        api.post({}, {"Authorization": "Bearer a-wrong-token-of-somebody"})
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(told) == 1
    assert "a-wrong-token" not in caplog.text


@pytest.mark.parametrize("token", ["", "short"])
def test_a_token_that_is_too_short_opens_nothing(world: World, api: Api, token: str) -> None:
    api.token = token
    assert api.post({}, {"Authorization": f"Bearer {token or 'x'}"}).status_code == 503
    assert world.store.runs.listing() == []


def test_a_token_that_cannot_be_read_opens_nothing(world: World, api: Api) -> None:
    api.missing = True
    assert api.post({}).status_code == 503
    assert world.store.runs.listing() == []


@pytest.mark.parametrize(
    "body",
    [
        [],
        "main",
        {"ref": ""},
        {"ref": 3},
        {"ref": "a\nb"},
        {"ref": "x" * 256},
        {"reason": "x" * 501},
        {"reason": ["x"]},
        {"ref": "main", "host": "lab1"},
        {"ref": "refs/pull/7/head"},
    ],
)
def test_what_is_not_asked_for_as_it_should_be_starts_nothing(world: World, api: Api, body: object) -> None:
    answer = api.post(body)
    assert answer.status_code == 422, answer.text
    assert world.store.runs.listing() == []


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 5000, b'{"ref": "main"'])
def test_a_body_that_is_no_json_starts_nothing(world: World, api: Api, content: bytes) -> None:
    assert api.post(content=content).status_code == 422
    assert world.store.runs.listing() == []


def test_a_form_of_another_site_starts_nothing(world: World, api: Api) -> None:
    kind = {"Content-Type": "text/plain"}
    assert api.post(content=b'{"ref": "main"}', headers={**BEARER, **kind}).status_code == 422
    assert world.store.runs.listing() == []


def test_a_body_is_not_read_beyond_what_may_be_said(api: Api) -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1024
            yield b" " * 1024

    assert api.post(content=endless()).status_code == 413
    assert given <= LARGEST + 2048
    assert api.post(content=json.dumps({"reason": " " * LARGEST}).encode()).status_code == 413


def test_pipelines_and_branches_that_are_not_there_are_told(world: World, api: Api) -> None:
    assert api.post({}, path="/api/v1/pipelines/none/trigger").status_code == 404
    world.sources.branches = {"other": commit_id("other")}
    assert api.post({}).status_code == 404


def test_a_repository_that_does_not_answer_is_asked_again_later(world: World, api: Api) -> None:
    world.sources.down = True
    answer = api.post({})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert "/repo" not in answer.text, "what is masked elsewhere is masked here"


def test_so_many_runs_may_be_asked_for_in_a_minute(world: World, api: Api) -> None:
    answers = [api.post({}) for _ in range(A_MINUTE + 1)]
    assert [answer.status_code for answer in answers] == [201] * A_MINUTE + [429]
    assert answers[-1].headers["retry-after"] == "60"
    world.clock.advance(60)
    assert api.post({}).status_code == 201
