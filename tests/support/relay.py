"""A relay in front of a Unix socket that can be cut, as a tunnel to another machine can."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path


class Relay:
    """Forwards connections from ``path`` to ``target``; a context manager."""

    def __init__(self, path: Path, target: str) -> None:
        self.path = path
        self._target = target
        self._open: list[socket.socket] = []
        self.asked = b""
        """All that was sent to the target."""
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def __enter__(self) -> Relay:
        self.restore()
        return self

    def __exit__(self, *exc: object) -> None:
        self._flowing.set()
        self.cut()

    def cut(self) -> None:
        """Drop all connections and refuse new ones."""
        with self._lock:
            if self._listener is not None:
                with contextlib.suppress(OSError):
                    self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
                self._listener = None
                self.path.unlink()
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def restore(self) -> None:
        """Accept connections."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(32)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def freeze(self) -> None:
        """Keep connections and let nothing pass, as a black hole does."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything pass again."""
        self._flowing.set()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return sum(1 for end in self._open if end.fileno() >= 0) // 2

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            with self._lock:
                self._open += [near, far]
            pair = threading.Barrier(2)
            for source, sink, asking in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(source, sink, pair, asking), daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, pair: threading.Barrier, asking: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flowing.wait()
                if asking:
                    self.asked += data
                sink.sendall(data)
        with contextlib.suppress(OSError):
            # Either side's end is the other's: Docker's API has no half-closed connections.
            sink.shutdown(socket.SHUT_RDWR)
        pair.wait()
        source.close()
