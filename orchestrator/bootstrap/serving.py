"""Everything that ``serve`` runs beside the web server, wired."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from orchestrator.bootstrap.hooks import forge_talk_of
from orchestrator.bootstrap.hostsfile import HostsFile
from orchestrator.bootstrap.watching import watcher_of
from orchestrator.scheduler import Service
from orchestrator.services.recover import forget_checkpoints
from orchestrator.services.retain_tick import RetainTick
from orchestrator.services.topping_up import ToppingUp

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application


def service_of(app: Application, url: str) -> Service:
    """Not started yet; ``url`` is where it answers."""
    stopping = threading.Event()
    app.secrets.learn()
    app.secrets.warn()
    service: Service

    def wake() -> None:
        service.wake()

    watcher = watcher_of(app, wake)
    service = Service(
        store=app.store,
        clock=app.clock,
        engines=app.engines,
        watcher=watcher,
        dispatcher=app.dispatcher(wake),
        evaluator=app.evaluator,
        actor=app.actor(stopping),
        stopping=stopping,
        owner=app.processes.this(),
        url=url,
        reach=app.watched,
        tidy=lambda: forget_checkpoints(app.store, app.checkpoints),
        look_at_hosts=HostsFile(
            app.config.base,
            app.config.orchestrator,
            app.fleet,
            app.store.journal,
            app.clock,
            wake,
        ).look,
        retain=RetainTick(
            app.retainer,
            app.config.orchestrator.retention.every,
            app.clock,
            app.processes.this(),
            stopping,
        ),
        talk_to_forge=forge_talk_of(app, stopping),
        top_up=ToppingUp(app.store, lambda: app.known_pipelines.values(), app.hosts, app.clock).tick,
    )
    return service
