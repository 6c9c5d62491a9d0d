"""Deployments, wired: what carries them out, and what people ask of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.config.models.environment import places_of
from orchestrator.domain.environment import Environment
from orchestrator.ports.progress import ProgressSink
from orchestrator.services.acting.act import Act
from orchestrator.services.deploying.deployer import Deployer
from orchestrator.services.deploying.desk import Desk
from orchestrator.services.deploying.gather import Gatherer
from orchestrator.services.deploying.restorer import Restorer
from orchestrator.services.deploying.site import Site

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application
    from orchestrator.web.deployments import DeploymentPages


def environments_of(app: Application) -> Mapping[str, Environment]:
    """The environments of the configuration."""
    return places_of(app.config.orchestrator.environments)


def deploying_acts(
    app: Application, gatherer: Gatherer, progress: ProgressSink, stopping: threading.Event
) -> dict[str, Act]:
    """What deploys and rolls back."""
    servers, environments = app.deployment_servers, environments_of(app)
    site = Site(app.store, servers, app.clock, progress, stopping, app.masker.mask_text)
    return {
        "deploy": Deployer(app.store, app.blobs, servers, gatherer, app.clock, progress, environments, site),
        "rollback": Restorer(app.store, app.blobs, servers, gatherer, app.clock, site, environments),
    }


def desk_of(app: Application) -> Desk:
    """Takes what people ask of deployments."""
    servers = tuple(app.config.orchestrator.servers)
    return Desk(app.store, app.clock, servers, environments_of(app))


def deployment_pages_of(app: Application) -> DeploymentPages:
    """The page of deployments."""
    from orchestrator.web.deployments import DeploymentPages

    tokens = app.config.orchestrator.web.approval_tokens
    return DeploymentPages(
        desk_of(app),
        {name: partial(app.secrets.value, secret) for name, secret in tokens.items()},
        lambda run_id: app.store.runs.get(run_id).title,
        app.clock.now,
        app.masker.mask_text,
    )
