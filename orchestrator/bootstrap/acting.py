"""What follows runs, wired: deployments and mails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from email.utils import parseaddr
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.adapters.sftp import ConfiguredServers, SshServer
from orchestrator.ports.progress import ProgressSink
from orchestrator.services.act import Actor
from orchestrator.services.acting.act import Act
from orchestrator.services.deploying.deployer import Deployer
from orchestrator.services.deploying.gather import Gatherer

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application


def actor_of(
    app: Application, stopping: threading.Event, wants: Callable[[int], bool], progress: ProgressSink
) -> Actor:
    """Carries out actions of the runs that are wanted."""
    gatherer = Gatherer(app.store, app.datasets, app.reports, app.renderer, progress)
    deployer = Deployer(app.store, app.blobs, app.deployment_servers, gatherer, app.clock, progress)
    acts: dict[str, Act] = {"deploy": deployer}
    email = app.config.orchestrator.email
    domain = parseaddr(email.sender)[1].rpartition("@")[2] if email else "localhost"
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


def servers_of(app: Application) -> ConfiguredServers:
    """The servers that models are deployed to."""
    servers = {}
    for name, server in app.config.orchestrator.servers.items():
        ssh = server.ssh
        servers[name] = SshServer(
            name=name,
            hostname=ssh.hostname,
            user=ssh.user,
            path=server.path,
            port=ssh.port,
            identity_file=Path(ssh.identity_file) if ssh.identity_file else None,
            host_key=ssh.host_key,
            known_hosts=Path(ssh.known_hosts) if ssh.known_hosts else None,
            keep=server.keep,
        )
    return ConfiguredServers(servers, f"orchestrator {app.store.instance[:8]}")
