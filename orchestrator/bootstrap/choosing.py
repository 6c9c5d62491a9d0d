"""How hosts are looked at before work is given to them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orchestrator.domain.gpu import HostGpus
from orchestrator.services.choose import Chooser, HostLooks
from orchestrator.services.holdings import Holdings

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application
    from orchestrator.services.reach import Reach


def chooser_of(app: Application, reach: Reach) -> Chooser:
    """Chooses hosts, of those that answer."""

    def gpus(host: str, ask: bool) -> HostGpus:
        return app.gpus.on(host, ask=ask)

    def load(host: str) -> float | None:
        # Of another machine nobody knows it: the engine's API does not tell.
        here = any(spec.name == host and spec.ssh is None for spec in app.hosts)
        return os.getloadavg()[0] / (os.cpu_count() or 1) if here else None

    projects = app.config.orchestrator.projects
    return Chooser(
        app.store,
        app.hosts,
        app.clock,
        HostLooks(
            record=app.fleet.record,
            why_silent=reach.why_not,
            no_room=app.room.why_not,
            gpus=gpus,
            info=reach.info,
            load=load,
            has_image=Holdings(app.engines, app.clock).image,
        ),
        {name: p.concurrency.limit for name, p in projects.items() if p.concurrency is not None},
    )
