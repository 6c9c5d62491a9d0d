"""The deployment servers, wired: how each is reached, and the secrets of its login."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.adapters.sftp import ConfiguredServers, SshServer
from orchestrator.config.models.servers import Login, Server
from orchestrator.domain.errors import SecretMissing, ServerRejected

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application


def servers_of(app: Application) -> ConfiguredServers:
    """The servers that models are deployed to."""
    configured = app.config.orchestrator.servers
    servers = {name: server_of(name, server) for name, server in configured.items()}

    def unlocked(server: SshServer) -> SshServer:
        """The server with its secrets, which are asked for only when it is connected to."""
        ssh = configured[server.name].ssh
        jumps = zip(server.jumps, ssh.proxy_jump, strict=True)
        return _unlocked(app, replace(server, jumps=tuple(_unlocked(app, *jump) for jump in jumps)), ssh)

    activations = {name: server.activation() for name, server in configured.items()}
    return ConfiguredServers(servers, f"orchestrator {app.store.instance[:8]}", unlocked, activations)


def server_of(name: str, server: Server) -> SshServer:
    """A server without the secrets of its login."""
    ssh = server.ssh
    timeout, keepalive = ssh.timeout.total_seconds(), max(1, int(ssh.keepalive.total_seconds()))
    return replace(
        _login(name, ssh),
        path=server.path,
        keep=server.keep,
        timeout=timeout,
        keepalive=keepalive,
        rate=server.rate,
        concurrency=server.concurrency,
        shared=tuple(server.shared),
        jumps=tuple(
            replace(
                _login(hop.hostname, hop), timeout=timeout, keepalive=keepalive, what=f"on the way to {name}:"
            )
            for hop in ssh.proxy_jump
        ),
    )


def _login(name: str, login: Login) -> SshServer:
    return SshServer(
        name=name,
        hostname=login.hostname,
        user=login.user,
        path="",
        port=login.port,
        identity_file=login.identity_file,
        certificate_file=login.certificate_file,
        host_key=login.host_key,
        known_hosts=login.known_hosts,
    )


def _unlocked(app: Application, server: SshServer, login: Login) -> SshServer:
    try:
        return replace(
            server,
            password=app.secrets.value(login.password) if login.password is not None else None,
            passphrase=app.secrets.value(login.passphrase) if login.passphrase is not None else None,
        )
    except SecretMissing as error:
        raise ServerRejected(f"{server}: the login cannot be had: {error.message}", error.remedy) from error
