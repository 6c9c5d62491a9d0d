"""What follows runs, wired: deployments and mails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.adapters.render.filling import SandboxedTemplates
from orchestrator.bootstrap.deploying import deploying_acts
from orchestrator.bootstrap.messengers import telling_acts
from orchestrator.bootstrap.outlets import acts_with_results
from orchestrator.ports.progress import ProgressSink
from orchestrator.services.act import Actor
from orchestrator.services.acting.act import Act
from orchestrator.services.deploying.gather import Gatherer
from orchestrator.services.deploying.repository import Repository
from orchestrator.services.mail_message import domain_of

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application


def actor_of(
    app: Application, stopping: threading.Event, wants: Callable[[int], bool], progress: ProgressSink
) -> Actor:
    """Carries out actions of the runs that are wanted."""
    repository = Repository(app.sources, SandboxedTemplates(), app.scratch)
    gatherer = Gatherer(app.store, app.datasets, app.reports, app.renderer, progress, repository)
    acts: dict[str, Act] = deploying_acts(app, gatherer, progress, stopping)
    acts |= acts_with_results(app, gatherer, progress)
    acts |= telling_acts(app)
    email = app.config.orchestrator.email
    domain = domain_of(email.sender) if email else "localhost"
    return Actor(
        app.store,
        acts,
        app.reports,
        app.renderer,
        app.mailer,
        app.clock,
        app.processes.this(),
        domain,
        stopping,
        wants,
    )
