"""How docker-py reaches a Unix socket. Imported only when a connection is made."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool

_ANY = "http+docker://localhost"


class OnePoolAdapter(UnixHTTPAdapter):
    """One pool, where docker-py has one for each URL, with a connection for each thing looked at."""

    def get_connection(
        self, url: str | bytes, proxies: Mapping[str, str] | None = None
    ) -> UnixHTTPConnectionPool:
        """The one pool, whatever the URL."""
        with self.pools.lock:
            pool: UnixHTTPConnectionPool | None = self.pools.get(_ANY)
            if pool is None:
                pool = self.pools[_ANY] = _Pool(_ANY, self.socket_path, self.timeout)
        return pool


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> UnixHTTPConnection:  # type: ignore[override]  # as docker-py's own does
        return _Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type]  # wants int


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        # docker-py forgets the socket when nobody listens.
        attempt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            attempt.settimeout(self.timeout)
            attempt.connect(self.unix_socket)
        except OSError:
            attempt.close()
            raise
        self.sock = attempt
