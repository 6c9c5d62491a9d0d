"""The deployment servers of the configuration."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from orchestrator.adapters.sftp.settings import SshServer
from orchestrator.domain.activation import Activation
from orchestrator.domain.errors import NotFound
from orchestrator.ports.world import ReleaseTarget


class ConfiguredServers:
    """Servers by name. ``owner`` names this installation in the lock that it takes on a server; ``unlock``
    gives a server the passwords that it needs, when it is about to be connected to.
    """

    def __init__(
        self,
        servers: Mapping[str, SshServer],
        owner: str = "orchestrator",
        unlock: Callable[[SshServer], SshServer] = lambda server: server,
        activations: Mapping[str, Activation] = MappingProxyType({}),
    ) -> None:
        self._activations = activations
        self._servers = dict(servers)
        self._owner = owner
        self._unlock = unlock
        self._slots = {
            name: threading.BoundedSemaphore(server.concurrency)
            for name, server in servers.items()
            if server.concurrency is not None
        }

    def target(self, server: str) -> ReleaseTarget:
        """A target to be entered. NotFound when the configuration has no such server, ServerRejected when a
        secret of its login has no value.
        """
        # paramiko costs half a second to import, which only a deployment should pay.
        from orchestrator.adapters.sftp.target import SftpTarget

        found = self._unlock(self._find(server))
        return SftpTarget(found, self._owner, slots=self._slots.get(server))

    def look(self, server: str) -> bool:
        """Log in and see whether the releases' folder is there; changes nothing.

        Raises ServerUnavailable, ServerRejected, or NotFound when the configuration has no such server.
        """
        from orchestrator.adapters.sftp.connection import Connection

        found = self._unlock(self._find(server))
        connection = Connection(found)
        try:
            with connection.errors(f"look at {found.path}"):
                return connection.lstat(found.path) is not None
        finally:
            connection.close()

    def activation(self, server: str) -> Activation:
        """What is done on it around a switch. NotFound when the configuration has no such server."""
        return self._activations.get(self._find(server).name, Activation())

    def keep(self, server: str) -> int:
        """How many releases stay on it. NotFound when the configuration has no such server."""
        return self._find(server).keep

    def _find(self, server: str) -> SshServer:
        found = self._servers.get(server)
        if found is None:
            known = ", ".join(sorted(self._servers)) or "none"
            raise NotFound(
                f"there is no deployment server '{server}'", f"the configuration under servers: has {known}"
            )
        return found
