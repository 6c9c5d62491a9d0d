"""The page of deployments, in process: no socket is opened."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI

from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.environment import Environment
from orchestrator.services.deploying.desk import Desk
from orchestrator.web.app import page_templates
from orchestrator.web.deployments import WRONG_A_MINUTE, DeploymentPages, add_deployments
from tests.unit.services.test_rolling_out import deploying, passed, work_off
from tests.unit.services.worlds import World

TOKEN = "anas-token-that-nobody-guesses"


class Site:
    """The application with nothing but this page."""

    def __init__(self, world: World, tokens: Mapping[str, str]) -> None:
        world.servers.add("web1")
        world.environments["prod"] = Environment("prod", ("web1",), approval=True, approvers=("ana",))
        self.world = world
        desk = Desk(world.store, world.clock, ("web1",), world.environments)

        def title(run_id: int) -> str:
            return world.store.runs.get(run_id).title

        self.app = FastAPI(openapi_url=None)
        read = {name: (lambda secret=secret: secret) for name, secret in tokens.items()}
        pages = DeploymentPages(desk, read, title, world.clock.now, lambda text: text)
        add_deployments(self.app, pages, page_templates())

    def ask(
        self, method: str, path: str = "", origin: str = "", sender: str = "192.0.2.1", **form: str
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=(sender, 4000))
            async with httpx.AsyncClient(transport=transport, base_url="http://ci") as client:
                kind = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
                return await client.request(
                    method,
                    f"/deployments{path}",
                    content=urlencode(form),
                    headers={**kind, **({"Origin": origin} if origin else {})},
                )

        return asyncio.run(send())

    def waiting(self) -> str:
        """The number of the action that the page offers to decide."""
        found = re.search(r'name="action" value="(\d+)"', self.ask("GET").text)
        assert found is not None
        return found[1]

    def state(self) -> DeploymentState:
        return self.world.store.deployments.listing()[0].state


@pytest.fixture
def site(world: World) -> Site:
    made = Site(world, {"ana": TOKEN, "bo": "bos-token-that-nobody-guesses"})
    passed(world, deploying("prod"))
    work_off(world)
    return made


def test_a_person_approves_with_a_token_and_the_record_has_the_name(site: Site) -> None:
    answer = site.ask("POST", "/approve", action=site.waiting(), token=TOKEN, reason="looks good")
    assert (answer.status_code, answer.headers["location"]) == (303, "/deployments")
    work_off(site.world)
    assert site.state() is DeploymentState.ACTIVE
    run_id = site.world.store.deployments.listing()[0].run_id
    told = [(entry.who, entry.reason) for entry in site.world.store.journal.of_run(run_id)]
    assert ("ana", "approved by ana: looks good") in told
    page = site.ask("GET").text
    assert "Waiting for approval" not in page
    assert "Roll prod back" in page


def test_a_person_rejects_on_the_page(site: Site) -> None:
    assert site.ask("POST", "/reject", action=site.waiting(), token=TOKEN).status_code == 303
    work_off(site.world)
    assert site.state() is DeploymentState.REJECTED


@pytest.mark.parametrize(
    ("token", "status", "why"),
    [
        ("", 401, "the token is wrong"),
        ("anas-token-that-nobody-guesse", 401, "the token is wrong"),
        ("bos-token-that-nobody-guesses", 422, "bo may not decide on prod"),
    ],
)
def test_without_the_right_token_nothing_is_decided(site: Site, token: str, status: int, why: str) -> None:
    answer = site.ask("POST", "/approve", action=site.waiting(), token=token)
    assert answer.status_code == status
    assert why in answer.text
    work_off(site.world)
    assert site.state() is DeploymentState.AWAITING_APPROVAL


def test_a_form_of_another_site_decides_nothing_even_with_the_token(site: Site) -> None:
    evil = "http://evil.example.org"
    answer = site.ask("POST", "/approve", evil, action=site.waiting(), token=TOKEN)
    assert answer.status_code == 403
    work_off(site.world)
    assert site.state() is DeploymentState.AWAITING_APPROVAL


def test_who_guesses_tokens_is_soon_not_listened_to(site: Site) -> None:
    action = site.waiting()
    for _ in range(WRONG_A_MINUTE):
        assert site.ask("POST", "/approve", action=action, token="x" * 20).status_code == 401
    assert site.ask("POST", "/approve", action=action, token=TOKEN).status_code == 429
    assert site.state() is DeploymentState.AWAITING_APPROVAL
    # Nobody keeps others from deciding.
    assert site.ask("POST", "/approve", sender="192.0.2.2", action=action, token=TOKEN).status_code == 303


def test_only_approvers_roll_an_environment_back_on_the_page(site: Site) -> None:
    refused = site.ask("POST", "/rollback", place="prod", token="bos-token-that-nobody-guesses")
    assert refused.status_code == 422
    assert "bo may not decide on prod: ana may" in refused.text


def test_a_rollback_on_the_page_is_of_the_pipeline_that_it_names(site: Site) -> None:
    site.ask("POST", "/approve", action=site.waiting(), token=TOKEN)
    work_off(site.world)
    assert 'name="pipeline" value="wine"' in site.ask("GET").text
    other = site.ask("POST", "/rollback", place="prod", pipeline="beer", token=TOKEN)
    assert "nothing is live on prod" in other.text
    first = site.ask("POST", "/rollback", place="prod", pipeline="wine", token=TOKEN)
    assert "no release was live on web1 before" in first.text


@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        ("/destroy", {}, 404),
        ("/approve", {"action": "0x1"}, 422),
        ("/approve", {"action": "99999"}, 404),
        ("/approve", {"action": "1", "reason": "x" * 501}, 422),
        ("/rollback", {"place": "prod"}, 404),
        ("/approve", {"action": "1", "reason": "x" * 9000}, 413),
    ],
)
def test_what_makes_no_sense_is_refused(site: Site, path: str, form: dict[str, str], status: int) -> None:
    assert site.ask("POST", path, token=TOKEN, **form).status_code == status
    assert site.state() is DeploymentState.AWAITING_APPROVAL


def test_without_tokens_the_page_names_the_commands_and_takes_no_decision(world: World) -> None:
    site = Site(world, {})
    run = passed(world, deploying("prod"))
    work_off(world)
    page = site.ask("GET").text
    assert f"orchestrator deployments approve {run.title}" in page
    assert "<form" not in page
    action = str(world.store.actions.of_run(run.id)[0].id)
    assert site.ask("POST", "/approve", action=action, token="").status_code == 403
    assert site.state() is DeploymentState.AWAITING_APPROVAL


def test_what_repositories_say_is_text_on_the_page(site: Site) -> None:
    answer = site.ask("GET")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    refused = site.ask("POST", "/rollback", token=TOKEN, place="<script>alert(1)</script>")
    assert "&lt;script&gt;" in refused.text
    assert "<script>" not in refused.text
