"""Webhooks, comments and the marks on commits, wired."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.bootstrap.repositories import defined
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.services.comments import Comments
from orchestrator.services.hooks import Hooks

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application
    from orchestrator.scheduler import Service
    from orchestrator.web.webhooks import Webhooks


def watching(app: Application, name: str) -> Iterator[tuple[Pipeline, SourceSpec]]:
    """The pipelines of the repository ``owner/name`` with their sources.

    SourceError when it is to say itself what runs, and cannot be asked. Others are not: what is wrong with
    them keeps up nobody here.
    """
    for repository in app.repositories.values():
        if not repository.now and repository.source.github.casefold() == name.casefold():
            repository.look()
    for pipeline in app.pipelines.values():
        for source in pipeline.sources:
            if source.github.casefold() == name.casefold():
                yield pipeline, source


def forge_talk_of(app: Application, stopping: threading.Event) -> Callable[[], None] | None:
    """One turn of what is said to the forge and heard from it; None where there is no forge."""
    from orchestrator.scheduler import Changes

    if app.forge is None:
        return None
    comments = Comments(
        app.store,
        app.forge,
        app.detector,
        partial(watching, app),
        app.clock,
        app.url,
        stopping,
        partial(defined, app),
    )

    changes = Changes(app.store, app.clock, app.store.statuses.any_owed)

    def talk() -> None:
        comments.tick()
        if app.statuses.has_noted or changes.worth_a_turn():
            app.statuses.tick(stopping)

    return talk


def webhooks_of(app: Application, service: Service) -> Webhooks | None:
    """Takes webhooks for a service; None where the configuration has no secret for them."""
    from orchestrator.web.webhooks import Webhooks

    github = app.config.orchestrator.github
    if github is None or github.webhook_secret is None:
        return None
    secret = github.webhook_secret

    watcher = service.watcher
    heed = None if app.forge is None else service.wake_forge
    hooks = Hooks(app.store, app.clock, watcher.watches, watcher.wake, heed)
    return Webhooks(lambda: app.secrets.value(secret).strip(), hooks.receive)
