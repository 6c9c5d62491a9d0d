"""The web application: health for machines, and a plain page per run for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import jinja2
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from orchestrator.domain.action import Trigger
from orchestrator.domain.errors import NotFound, StoreError
from orchestrator.domain.report import format_ago, format_duration, key_metric, label_for
from orchestrator.domain.run import Run, RunState, latest_tries
from orchestrator.ports.records import Watched
from orchestrator.ports.store import Store
from orchestrator.ports.world import LogFiles, Renderer
from orchestrator.services.overview import Overview, PipelineView
from orchestrator.services.readiness import Readiness
from orchestrator.services.report import ReportBuilder
from orchestrator.web.charts import RunId, add_charts, has_charts

_TEMPLATES = Path(__file__).parent / "templates"
_LISTED = 50
_PORT = re.compile(r":[0-9]*\Z")
_HIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters and marks that reverse the reading: pages are fetched on terminals, too."""
_TONES = {
    RunState.AWAITING_APPROVAL: "unsure",
    RunState.PASSED: "good",
    RunState.REJECTED: "bad",
    RunState.FAILED: "bad",
    RunState.INCONCLUSIVE: "unsure",
    RunState.ERRORED: "trouble",
    RunState.CANCELLED: "quiet",
}
# Pages hold no script and load nothing; the report's styles are inline because mail programs want them so.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def _nothing_stored(sha256: str) -> BinaryIO:
    raise NotFound(f"nothing is stored under {sha256}")


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pages read from."""

    store: Store
    reports: ReportBuilder
    renderer: Renderer
    logs: LogFiles
    ready: Callable[[], Readiness]
    """Whether work can be done now, and what is not well."""
    healthy: Callable[[], bool]
    """Whether the service's own threads are alive."""
    standing: Callable[[Run], Sequence[str]]
    """What is being done for an unfinished run now, and why it waits."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    overview: Callable[[], Overview] = lambda: Overview((), ())
    """Where all pipelines stand."""
    content: Callable[[str], BinaryIO] = _nothing_stored
    """What is stored under a hash."""


@dataclass(frozen=True, slots=True)
class _Row:
    run: Run
    label: str
    tone: str
    news: str
    """The key metric with its difference; without one, why the run ended."""
    sentence: str
    when: str
    took: str


@dataclass(frozen=True, slots=True)
class _Standing:
    view: PipelineView
    tone: str
    when: str
    """When its last run ended."""
    troubles: tuple[str, ...]


def create_app(pages: Pages, allowed_hosts: frozenset[str]) -> FastAPI:
    """The application. ``allowed_hosts`` are the names under which it answers: a page of another site that
    points its own name at this machine gets nothing."""
    app = FastAPI(title="ML CI orchestrator", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], object]) -> Response:
        host = _PORT.sub("", request.headers.get("host", "")).lower()
        if host not in allowed_hosts:
            return PlainTextResponse("this server does not answer under that name\n", 421, headers=_HEADERS)
        response: Response = await call_next(request)  # type: ignore[misc]  # Starlette's own type is opaque
        for name, value in _HEADERS.items():
            # A plot's file has stricter ones of its own.
            response.headers.setdefault(name, value)
        return response

    templates = page_templates()
    _add_errors(app, templates)
    _add_health(app, pages)
    _add_pages(app, pages, templates)
    add_charts(app, pages.store, pages.content, templates)
    return app


def _add_health(app: FastAPI, pages: Pages) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return (
            PlainTextResponse("ok\n") if pages.healthy() else PlainTextResponse("a thread has ended\n", 503)
        )

    @app.get("/readyz")
    def readyz() -> Response:
        now = pages.ready()
        told = {"ready": now.ready, "problems": dict(now.problems), "degraded": dict(now.degraded)}
        return JSONResponse(told, 200 if now.ready else 503)


def page_templates() -> jinja2.Environment:
    """The pages, which escape all that is put into them."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: _visible(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _add_errors(app: FastAPI, templates: jinja2.Environment) -> None:
    def page(message: str, status: int) -> Response:
        return HTMLResponse(templates.get_template("error.html").render(message=message), status)

    @app.exception_handler(NotFound)
    def not_there(_: Request, error: NotFound) -> Response:
        return page(str(error), 404)

    @app.exception_handler(RequestValidationError)
    def no_number(_: Request, __: RequestValidationError) -> Response:
        return page("a run's number is a whole number from 1 on", 404)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return page("there is no such page", 404)
        return page(f"{request.method} is not answered here: {error.detail}", error.status_code)

    @app.exception_handler(StoreError)
    def no_store(_: Request, error: StoreError) -> Response:
        return PlainTextResponse(f"{error}\n", 503)


def _add_pages(app: FastAPI, pages: Pages, templates: jinja2.Environment) -> None:
    @app.get("/")
    def overview() -> HTMLResponse:
        now = pages.now()
        rows = [_row(pages, run, now) for run in pages.store.runs.listing(limit=_LISTED)]
        found = pages.overview()
        page = templates.get_template("overview.html")
        pipelines = [_standing(view, now) for view in found.pipelines]
        others = [_told(seen, now) for seen in found.others]
        return HTMLResponse(page.render(rows=rows, pipelines=pipelines, others=others))

    @app.get("/runs/{run_id}")
    def show(run_id: RunId) -> HTMLResponse:
        run = pages.store.runs.get(run_id)
        report = pages.reports.build(run, trigger=None if run.state.final else Trigger.START)
        if not run.state.final:
            report = replace(report, standing=tuple(pages.standing(run)))
        links = {"All runs": "/", "Log": f"/runs/{run.id}/log"}
        if has_charts(pages.store, run):
            links["Charts"] = f"/runs/{run.id}/charts"
        return HTMLResponse(pages.renderer.page(report, links))

    @app.get("/runs/{run_id}/log")
    def log(run_id: RunId) -> Response:
        attempts = latest_tries(pages.store.attempts.of_run(pages.store.runs.get(run_id).id))

        def text() -> Iterator[bytes]:
            for attempt in attempts:
                if len(attempts) > 1:
                    yield f"== replicate {attempt.replicate} ==\n".encode()
                if attempt.log_removed:
                    yield f"This log was {attempt.log_removed}.\n".encode()
                    continue
                for _, line in pages.logs.lines(attempt.id):
                    yield _visible(line.text.decode("utf-8", "replace")).encode() + b"\n"

        return StreamingResponse(text(), media_type="text/plain; charset=utf-8")


def _standing(view: PipelineView, now: datetime) -> _Standing:
    last = view.last
    tone = "running" if view.running or view.waiting else _TONES.get(last.state, "") if last else "quiet"
    return _Standing(
        view,
        "trouble" if view.troubles else tone,
        ""
        if last is None or last.finished_at is None
        else format_ago((now - last.finished_at).total_seconds()),
        tuple(_told(seen, now) for seen in view.troubles),
    )


def _told(seen: Watched, now: datetime) -> str:
    since = "" if seen.trouble_since is None else format_duration((now - seen.trouble_since).total_seconds())
    return f"{seen.name}: {seen.trouble}" + (f" (for {since})" if since else "")


def _visible(text: str) -> str:
    return _HIDDEN.sub("", text)


def _row(pages: Pages, run: Run, now: datetime) -> _Row:
    sentence = run.verdict.sentence if run.verdict else (run.message.splitlines() or [""])[0]
    news = key_metric(run.verdict.checks) if run.verdict else ""
    if not news and run.reason is not None:
        news = run.reason.value.replace("_", " ")
    return _Row(
        run,
        label_for(run.state, pages.store.runs.previous_state(run)),
        _TONES.get(run.state, "running"),
        news,
        sentence,
        format_ago((now - run.created_at).total_seconds()),
        format_duration(((run.finished_at or now) - run.started_at).total_seconds())
        if run.started_at
        else "",
    )
