"""A link to a TCP port with a delay, that can be cut and frozen: a relay in this process."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from types import TracebackType


class Link:
    """Forwards connections from a port of 127.0.0.1 to ``target``; a context manager.

    ``delay`` is one way, in seconds, and may be changed at any time; a round trip takes twice as long. The
    bandwidth stays as it is.
    """

    def __init__(self, target: tuple[str, int], delay: float = 0.0) -> None:
        self.delay = delay
        self._target = target
        self._flowing = threading.Event()
        self._flowing.set()
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Link:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.thaw()
        self.drop()

    def freeze(self) -> None:
        """Keep connections, accept new ones, and let nothing pass: a black hole."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything pass again, also what was sent meanwhile."""
        self._flowing.set()

    def drop(self) -> None:
        """End all connections; new ones are accepted."""
        with self._lock:
            ends, self._ends = self._ends, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        with near:
            try:
                far = socket.create_connection(self._target, timeout=10)
            except OSError:
                return
            far.settimeout(None)
            with far:
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._ends |= {near, far}
                back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
                back.start()
                self._pump(near, far)
                back.join()
                with self._lock:
                    self._ends -= {near, far}

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Carry one direction; its end ends that direction alone, as TCP has it."""
        way: queue.Queue[tuple[float, bytes]] = queue.Queue(maxsize=1024)
        carrier = threading.Thread(target=self._carry, args=(way, sink), daemon=True)
        carrier.start()
        data = b"some"
        while data:
            try:
                data = source.recv(1 << 16)
            except OSError:
                data = b""
            way.put((time.monotonic() + self.delay, data))
        carrier.join()

    def _carry(self, way: queue.Queue[tuple[float, bytes]], sink: socket.socket) -> None:
        data = b"some"
        while data:
            due, data = way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            self._flowing.wait()
            with contextlib.suppress(OSError):
                if data:
                    sink.sendall(data)
                else:
                    sink.shutdown(socket.SHUT_WR)
