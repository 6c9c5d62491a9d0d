"""Connections to one engine: a client per thread for control, and one more for each stream."""

from __future__ import annotations

import threading
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Protocol, cast

from orchestrator.adapters.docker.errors import translate

if TYPE_CHECKING:
    from docker import APIClient

    from orchestrator.adapters.docker.transport import OnePoolAdapter


class Way(Protocol):
    """What has to be there before an engine on another machine can be reached. Thread-safe."""

    @property
    def address(self) -> str:
        """Where the engine then answers on this machine, such as ``unix:///tmp/x/1.sock``."""

    def ready(self) -> None:
        """Return once it does. Raises EngineUnavailable, at once where trying is no use now."""


_UNIX = "unix://"


class Clients:
    """Makes docker-py clients for a URL such as ``unix:///run/docker.sock``. Thread-safe.

    A session of requests is not meant for several threads, so each thread has its own, which goes when the
    thread does; its connections to a Unix socket are there for the next one. A stream has a client of its
    own, so that closing it from any thread cannot break what others use.
    With ``way`` the URL is for people only. Each new connection waits for the way, so that clients live on
    when it was made anew.
    """

    def __init__(self, url: str, timeout: float, way: Way | None = None) -> None:
        self.url = url
        self.timeout = timeout
        self._address = url if way is None else way.address
        self._ready = None if way is None else way.ready
        self._over = "" if way is None else url
        self._version: str | None = None
        self._local = threading.local()
        self._lock = threading.Lock()
        self._made: weakref.WeakSet[APIClient] = weakref.WeakSet()
        self._sockets: OnePoolAdapter | None = None

    def control(self) -> APIClient:
        """The calling thread's client. EngineUnavailable when the engine does not answer."""
        client: APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._client(self._known_version(), shares=True)
            with self._lock:
                self._made.add(client)
        return client

    def stream(self) -> APIClient:
        """A new client, for the caller to close."""
        return self._client(self._known_version())

    def _known_version(self) -> str:
        if self._version is None:
            with closing(self._client(None)) as first, translate(f"connecting to {self.url}"):
                self._version = str(first.version(api_version=False)["ApiVersion"])
        return self._version

    def _client(self, version: str | None, *, shares: bool = False) -> APIClient:
        """A client that has sent nothing yet; without a version it may only ask for the engine's."""
        from docker import APIClient
        from docker.constants import MINIMUM_DOCKER_API_VERSION

        from orchestrator.adapters.docker.transport import UnixClient

        wanted = version or MINIMUM_DOCKER_API_VERSION
        with translate(f"connecting to {self.url}"):
            if self._address.startswith(_UNIX):
                sockets = self._shared() if shares else None
                client: APIClient = UnixClient(
                    self._address, wanted, self.timeout, self._ready, self._over, sockets
                )
            else:
                # docker-py annotates whole seconds; every layer below it takes a float.
                client = APIClient(self._address, version=wanted, timeout=cast(int, self.timeout))
        # Neither a proxy nor a password of ~/.netrc is meant for the engine.
        client.trust_env = False
        return client

    def _shared(self) -> OnePoolAdapter:
        from orchestrator.adapters.docker.transport import OnePoolAdapter

        with self._lock:
            if self._sockets is None:
                self._sockets = OnePoolAdapter.to(self._address, self.timeout, self._ready)
            return self._sockets

    def close(self) -> None:
        """Free the idle connections of all threads. A later call opens new ones."""
        with self._lock:
            clients = list(self._made)
        for client in clients:
            client.close()
        if self._sockets is not None:
            self._sockets.close()


def endpoint(client: APIClient, path: str) -> str:
    """The address of an API path, for the requests that docker-py has no suitable method for."""
    return f"{client.base_url}/v{client.api_version}{path}"
