"""A TCP link that breaks at a chosen byte of what goes over it, in either direction."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class TcpLink:
    """Forwards ``127.0.0.1:port`` to another address; a context manager.

    Bytes of both directions are counted together from :meth:`arm` on. When the chosen one is reached, all
    before it has been delivered and none after it; what was chosen happens, and then the rest goes on.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._turn = threading.Lock()
        self._open: list[socket.socket] = []
        self._guard = threading.Lock()
        self._at: int | None = None
        self._then: Callable[[], None] = lambda: None
        self._count = 0
        self._chunks: list[int] = []
        self.sprung = threading.Event()
        """Set when the chosen byte is reached."""

    def __enter__(self) -> TcpLink:
        threading.Thread(target=self._accept, name="tcp-link", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    @property
    def chunks(self) -> list[int]:
        """At which byte each piece began that was sent since the link was armed."""
        return list(self._chunks)

    def arm(self, at: int | None = None, then: Callable[[], None] = lambda: None) -> None:
        """Count anew. ``then`` happens once, as soon as ``at`` bytes have gone over; None: never."""
        with self._turn:
            self._at, self._then, self._count, self._chunks = at, then, 0, []
            self.sprung = threading.Event()

    def cut(self) -> None:
        """Drop all connections that are open now."""
        with self._guard:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            with self._guard:
                self._open += [near, far]
            pair = threading.Barrier(2)
            for source, sink in ((near, far), (far, near)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(source, sink, pair), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, pair: threading.Barrier) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 15):
                self._forward(data, sink)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        pair.wait()
        source.close()

    def _forward(self, data: bytes, sink: socket.socket) -> None:
        # One at a time, so that "at this byte" means the same for both directions.
        with self._turn:
            self._chunks.append(self._count)
            if self._at is not None and self._count + len(data) >= self._at:
                before = self._at - self._count
                sink.sendall(data[:before])
                data = data[before:]
                self._count, self._at = self._at, None
                self.sprung.set()
                self._then()
            self._count += len(data)
            sink.sendall(data)
