"""Execution hosts, wired."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.bootstrap.configured import host_of
from orchestrator.domain.pipeline import HostSpec
from orchestrator.ports.engine import Engine
from orchestrator.services.fleet import Fleet
from orchestrator.services.networks import dismiss

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application


def fleet_of(app: Application) -> Fleet:
    """The execution hosts and their engines, as they are at each look."""
    from orchestrator.adapters.docker.engine import DockerEngine
    from orchestrator.bootstrap.registries import logins_of

    logins = logins_of(app.config, app.secrets.value)

    def connect(host: HostSpec) -> Engine:
        way = None if host.ssh is None else app.links.link(host)
        return DockerEngine(host.engine, app.store.instance, logins=logins, way=way)

    configured = [host_of(name, host) for name, host in app.config.orchestrator.hosts.items()]
    return Fleet(
        configured,
        lambda: app.store,
        app.clock,
        connect,
        partial(_leave, app),
        lambda host: app.links.part(host),
    )


def _leave(app: Application, host: str, engine: Engine) -> Callable[[], None]:
    """How to remove what was kept for runs on a host that is no longer used."""
    forget = app.links.detach(host)

    def end() -> None:
        dismiss(app.store, {host: engine})
        forget()

    return end
