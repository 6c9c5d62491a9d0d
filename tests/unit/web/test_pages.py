"""What the pages say and what they refuse, asked in process: no socket is opened."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.pipeline import Pipeline, Schedule, SourceSpec
from orchestrator.domain.retention import Going, Kind
from orchestrator.domain.run import Exit, Run
from orchestrator.services.choose import Chooser
from orchestrator.services.overview import overview
from orchestrator.services.readiness import Readiness
from orchestrator.services.standing import doing, waiting
from orchestrator.web.app import Pages, create_app
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import World, commit_id, pipeline

EVIL = "<img src=x onerror=alert(1)>"


class Site:
    """The application with what it asks."""

    def __init__(self, world: World) -> None:
        self.problems: dict[str, str] = {}
        self.degraded: dict[str, str] = {}
        self.alive = True
        self.pipelines: list[Pipeline] = []
        self.now = world.clock.now
        pages = Pages(
            world.store,
            world.reports,
            ReportRenderer(),
            world.logs,
            lambda: Readiness(self.problems, self.degraded),
            lambda: self.alive,
            lambda run: (
                doing(world.store, world.logs, world.clock.now(), run)
                + waiting(
                    world.store,
                    Chooser(world.store, world.hosts, world.clock),
                    world.clock.now(),
                    run,
                    served=True,
                )
            ),
            lambda: self.now(),
            lambda: overview(
                world.store,
                self.pipelines,
                lambda run: ["no host has a free slot"],
                lambda made_of: world.clock.now() + timedelta(hours=1),
                self.now(),
            ),
        )
        self.app = create_app(pages, frozenset({"127.0.0.1", "localhost", "[::1]"}))

    def get(self, path: str, host: str = "127.0.0.1:8000") -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.get(path, headers={"Host": host})

        return asyncio.run(ask())


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


def evil_run(world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run in which everything that its repository names is markup."""
    fetch = world.sources.fetch
    monkeypatch.setattr(
        world.sources, "fetch", lambda *a: replace(fetch(*a), subject=EVIL, author=EVIL, author_email=EVIL)
    )
    branch = "evil/<img/src=x>"
    world.sources.branches = {branch: commit_id("evil")}
    world.sources.head = branch
    metrics = b'{"<img src=x onerror=alert(1)>": 1, "accuracy": 0.5}'
    world.engine.script(
        Script(
            (EVIL.encode(),), Exit(1), {"/mlci/output/metrics.json": metrics, f"/mlci/output/{EVIL}": b"x"}
        )
    )
    of = pipeline(sources=(SourceSpec("repo", "/repo", ("*",)),))
    return world.finish(world.first_run(of), world.server())


def test_health_is_that_of_the_threads(site: Site) -> None:
    assert (site.get("/healthz").status_code, site.get("/healthz").text) == (200, "ok\n")
    site.alive = False
    assert site.get("/healthz").status_code == 503


def test_readiness_names_what_is_not_well(site: Site) -> None:
    assert site.get("/readyz").json() == {"ready": True, "problems": {}, "degraded": {}}
    site.problems["host gpu"] = "does not answer"
    answer = site.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "problems": {"host gpu": "does not answer"}, "degraded": {}}


def test_a_server_that_can_do_some_work_is_ready_and_says_what_it_cannot(site: Site) -> None:
    site.degraded["host gpu"] = "does not answer"
    answer = site.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "problems": {}, "degraded": {"host gpu": "does not answer"}}


def test_the_overview_of_nothing_says_how_to_begin(site: Site) -> None:
    assert "No run yet" in site.get("/").text


def test_text_of_a_repository_is_never_markup(
    world: World, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evil_run(world, monkeypatch)
    for path in ("/", f"/runs/{run.id}"):
        page = site.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "<img" not in page.text
        assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
        assert "evil/&lt;img/src=x&gt;" in page.text


def test_a_log_that_was_removed_is_told_with_the_reason_and_not_shown_empty(world: World, site: Site) -> None:
    world.engine.script(Script((b"hello",), Exit(1)))
    run = world.finish(world.first_run(pipeline()), world.server())
    assert "hello" in site.get(f"/runs/{run.id}/log").text
    (attempt,) = world.store.attempts.of_run(run.id)
    gone = Going(Kind.LOGS, run.id, "wine#1", "older than 180d")
    world.store.retention.remove_logs([gone], {run.id: [attempt.id]}, "me", world.clock.now())
    told = f"removed by retention on {world.clock.now():%Y-%m-%d} (older than 180d)"
    assert site.get(f"/runs/{run.id}/log").text == f"This log was {told}.\n"
    assert f"The log was {told}." in site.get(f"/runs/{run.id}").text


def test_the_page_of_a_removed_run_says_when_and_why_it_went(world: World, site: Site) -> None:
    world.engine.script(Script((b"hello",), Exit(1)))
    run = world.finish(world.first_run(pipeline()), world.server())
    gone = Going(Kind.RUNS, run.id, "wine#1", "older than 365d")
    assert world.store.retention.remove_runs([gone], "me", world.clock.now()) == 1
    page = site.get(f"/runs/{run.id}")
    assert page.status_code == 404
    assert "wine#1 was removed by retention (older than 365d)" in page.text


def test_a_log_is_plain_text_and_nothing_else(
    world: World, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evil_run(world, monkeypatch)
    answer = site.get(f"/runs/{run.id}/log")
    assert answer.text == EVIL + "\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_log_of_replicates_tells_them_apart(world: World, site: Site) -> None:
    world.engine.script(Script((b"hello",)))
    run = world.finish(world.first_run(pipeline(replicates=2)), world.server())
    assert site.get(f"/runs/{run.id}/log").text == "== replicate 0 ==\nhello\n== replicate 1 ==\nhello\n"


def test_a_page_of_a_run_that_goes_on_shows_it(world: World, site: Site) -> None:
    world.engine.script(Script((b"epoch 1",), None))
    run = world.first_run(pipeline(replicates=3))
    assert "queued" in site.get("/").text
    server = world.server()
    server.tick()
    for replicate in (0, 1):
        world.engine.wait_for_start(world.name_of(run, replicate))
    wait_until(lambda: "last line: epoch 1" in site.get(f"/runs/{run.id}").text, "the first line")
    page = site.get(f"/runs/{run.id}").text
    assert "replicate 0: the command runs on local" in page
    assert "replicate 2 waits for a free slot: local (2 of 2 taken)" in page


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/runs/1", "/nowhere"])
def test_every_answer_forbids_scripts_and_frames(site: Site, path: str) -> None:
    headers = site.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::2]:8000", ""]
)
def test_an_unknown_name_is_refused(site: Site, host: str) -> None:
    answer = site.get("/", host)
    assert answer.status_code == 421
    assert "does not answer under that name" in answer.text


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:8000", "localhost", "LocalHost", "[::1]:8000", "[::1]"]
)
def test_its_own_names_are_answered_with_and_without_a_port(site: Site, host: str) -> None:
    assert site.get("/healthz", host).status_code == 200


@pytest.mark.parametrize("path", ["/runs/7", "/runs/7/log"])
def test_a_run_that_is_not_there_is_said_on_a_page_that_leads_back(site: Site, path: str) -> None:
    answer = site.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "<h1>There is no run 7</h1>" in answer.text
    assert '<a href="/">' in answer.text


@pytest.mark.parametrize(
    "path", ["/runs/abc", "/runs/99999999999999999999999", "/runs/-1", "/runs", "/nowhere", f"/{EVIL}"]
)
def test_an_unknown_path_is_answered_with_a_page_that_leads_back(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status_code == 404
    assert '<a href="/">' in answer.text
    assert "<img" not in answer.text


def test_the_page_of_a_run_leads_to_the_others_and_to_its_log_and_not_to_itself(
    world: World, site: Site
) -> None:
    world.engine.script(Script((b"hello",), Exit(1)))
    run = world.finish(world.first_run(pipeline()), world.server())
    page = site.get(f"/runs/{run.id}").text
    assert '<a class="link" href="/"' in page
    assert f'href="/runs/{run.id}/log"' in page
    assert "Open the run" not in page


def test_the_overview_tells_outcome_key_metric_and_duration(world: World, site: Site) -> None:
    site.now = lambda: world.clock.now() + timedelta(hours=3)
    for left, code in ((b'{"accuracy": 0.9}', 0), (b"", 3)):
        world.engine.script(Script((b"hello",), Exit(code), {"/mlci/output/metrics.json": left}))
        world.sources.branches = {"main": commit_id(str(code))}
        run = world.finish(world.first_run(pipeline()), world.server())
    page = site.get("/").text
    assert "failed (broken)" in page
    assert "exit code" in page
    assert "3 h ago" in page
    assert f'<a href="/runs/{run.id}">' in page


def test_a_database_that_does_not_answer_is_said(
    world: World, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listing(**_: object) -> list[Run]:
        raise StoreUnavailable("the database is locked")

    monkeypatch.setattr(world.store.runs, "listing", listing)
    answer = site.get("/")
    assert (answer.status_code, answer.text) == (503, "the database is locked\n")


def test_there_is_no_api_description_to_browse(site: Site) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert site.get(path).status_code == 404


def test_the_first_page_shows_where_all_pipelines_stand(world: World, site: Site) -> None:
    watched = pipeline(project="cellar", schedules=(Schedule("0 * * * *"),))
    site.pipelines = [watched, pipeline(name="prep")]
    world.finish(world.first_run(watched), world.server())
    world.sources.branches["main"] = commit_id("second")
    world.first_run(watched)
    page = site.get("/").text
    assert page.index("cellar /") < page.index("prep"), "by project, then by name"
    assert "no run yet" in page
    assert "#1</a> passed" in page
    assert "no host has a free slot" in page
    assert "2026-01-01 01:00 UTC" in page


def test_the_first_page_tells_what_cannot_be_watched_and_since_when(world: World, site: Site) -> None:
    site.pipelines = [pipeline()]
    now = world.clock.now()
    world.store.watches.troubled("source wine/repo", f"away {EVIL}", 3, now + timedelta(seconds=60), now)
    world.store.watches.troubled("repository acme/wine", "its file is wrong", 1, now, now)
    world.clock.advance(120)
    page = site.get("/").text
    assert "source wine/repo: away &lt;img" in page
    assert "(for 2 m 0 s" in page
    assert "repository acme/wine: its file is wrong" in page
    assert EVIL not in page
    world.clock.advance(2 * 24 * 3600)
    assert "acme/wine" not in site.get("/").text, "nobody watches it any more"
