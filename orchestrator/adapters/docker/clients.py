"""Connections to one engine: a client per thread for control, and one more for each stream."""

from __future__ import annotations

import threading
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Protocol, cast

from orchestrator.adapters.docker.errors import translate

if TYPE_CHECKING:
    from docker import APIClient


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

    Over a Unix socket all threads use one client, whose connections are there for the next thread. Else each
    thread has its own, for a session of requests is not meant for several. A stream has a client of its own,
    so that closing it from any thread cannot break what others use.
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
        self._everybodys: APIClient | None = None

    def control(self) -> APIClient:
        """The calling thread's client. EngineUnavailable when the engine does not answer."""
        client: APIClient | None = self._everybodys or getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self.stream()
            with self._lock:
                if self._address.startswith(_UNIX):
                    client = self._everybodys = self._everybodys or client
                self._made.add(client)
        return client

    def stream(self) -> APIClient:
        """A new client, for the caller to close."""
        if self._version is None:
            with closing(self._client(None)) as first, translate(f"connecting to {self.url}"):
                self._version = str(first.version(api_version=False)["ApiVersion"])
        return self._client(self._version)

    def _client(self, version: str | None) -> APIClient:
        """A client that has sent nothing yet; without a version it may only ask for the engine's."""
        from docker import APIClient
        from docker.constants import MINIMUM_DOCKER_API_VERSION

        from orchestrator.adapters.docker.transport import UnixClient

        wanted = version or MINIMUM_DOCKER_API_VERSION
        with translate(f"connecting to {self.url}"):
            if self._address.startswith(_UNIX):
                client: APIClient = UnixClient(self._address, wanted, self.timeout, self._ready, self._over)
            else:
                # docker-py annotates whole seconds; every layer below it takes a float.
                client = APIClient(self._address, version=wanted, timeout=cast(int, self.timeout))
        # Neither a proxy nor a password of ~/.netrc is meant for the engine.
        client.trust_env = False
        return client

    def close(self) -> None:
        """Free the idle connections of all threads. A later call opens new ones."""
        with self._lock:
            clients = list(self._made)
        for client in clients:
            client.close()


def endpoint(client: APIClient, path: str) -> str:
    """The address of an API path, for the requests that docker-py has no suitable method for."""
    return f"{client.base_url}/v{client.api_version}{path}"
