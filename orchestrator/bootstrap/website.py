"""The pages and the API of a service, wired."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from orchestrator.bootstrap.deploying import deployment_pages_of
from orchestrator.bootstrap.hooks import webhooks_of
from orchestrator.bootstrap.triggering import triggers_of
from orchestrator.domain.host import HostState
from orchestrator.domain.run import Run
from orchestrator.services.overview import Overview, overview
from orchestrator.services.readiness import Readiness, readiness
from orchestrator.services.standing import doing, waiting
from orchestrator.services.watches import REPOSITORY
from orchestrator.web.app import Pages, create_app, page_templates
from orchestrator.web.deployments import add_deployments
from orchestrator.web.trigger import add_trigger
from orchestrator.web.webhooks import add_webhooks

if TYPE_CHECKING:
    from fastapi import FastAPI

    from orchestrator.bootstrap.application import Application
    from orchestrator.scheduler import Service


def site_of(app: Application, service: Service) -> FastAPI:
    """What answers by HTTP."""
    chooser = app.chooser(app.watched)

    def why_waits(run: Run) -> list[str]:
        return waiting(app.store, chooser, app.clock.now(), run, served=True)

    def standing(run: Run) -> list[str]:
        return [*doing(app.store, app.logs, app.clock.now(), run), *why_waits(run)]

    def glance() -> Overview:
        next_time = app.occasions.next_time
        return overview(
            app.store,
            app.known_pipelines.values(),
            why_waits,
            next_time,
            app.clock.now(),
            repositories=app.repositories,
        )

    pages = Pages(
        app.store,
        app.reports,
        app.renderer,
        app.logs,
        lambda: _ready(app, service),
        lambda: service.healthy,
        standing,
        overview=glance,
        content=app.blobs.open,
    )
    site = create_app(pages, _names(app))
    add_deployments(site, deployment_pages_of(app), page_templates())
    if (hooks := webhooks_of(app, service)) is not None:
        add_webhooks(site, hooks)
    if (triggers := triggers_of(app)) is not None:
        add_trigger(site, triggers)
    return site


def _names(app: Application) -> frozenset[str]:
    web = app.config.orchestrator.web
    named = {urlsplit(web.url).hostname or ""} if web.url else set()
    return frozenset({"127.0.0.1", "localhost", "[::1]", web.host} | named)


def _ready(app: Application, service: Service) -> Readiness:
    watching = service.watcher.problems
    # What people wrote into a repository's own file keeps nobody else from working.
    theirs = {name: why for name, why in watching.items() if name.startswith(REPOSITORY)}
    problems = {name: why for name, why in watching.items() if name not in theirs}
    if (lack := app.room.state_lacks()) is not None:
        problems["room"] = lack

    def takes(host: str) -> bool:
        return app.fleet.record(host).state is HostState.ACTIVE

    found = readiness(problems, list(app.engines), takes, app.watched.why_not, app.room.host_lacks)
    told = Readiness(found.problems, {**found.degraded, **theirs})
    return told.told_by(app.masker.mask_text)
