"""A relay in front of the Docker socket that does something before or after one request."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

ENGINE = "/var/run/docker.sock"


class Trap:
    """Forwards all connections to the engine until a request matches ``pattern``; then ``act`` is called,
    once.

    ``after=False``: the engine never sees that request. ``after=True``: it has answered, and the
    answer is thrown away. Further requests pass. A context manager.
    """

    def __init__(self, path: Path, pattern: bytes, act: Callable[[], None], *, after: bool) -> None:
        self.path = path
        self.sprung = threading.Event()
        self._pattern = re.compile(pattern)
        self._act = act
        self._after = after
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def __enter__(self) -> Trap:
        self._listener.bind(str(self.path))
        self._listener.listen(32)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(ENGINE)
            caught = threading.Event()
            threading.Thread(target=self._forth, args=(near, far, caught), daemon=True).start()
            threading.Thread(target=self._back, args=(near, far, caught), daemon=True).start()

    def _matches(self, data: bytes) -> bool:
        with self._lock:
            if self.sprung.is_set() or not self._pattern.match(data):
                return False
            self.sprung.set()
            return True

    def _forth(self, near: socket.socket, far: socket.socket, caught: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(1 << 16):
                if self._matches(data):
                    if not self._after:
                        self._act()
                        break
                    caught.set()
                far.sendall(data)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)

    def _back(self, near: socket.socket, far: socket.socket, caught: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(1 << 16):
                if caught.is_set():
                    self._act()
                    break
                near.sendall(data)
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)
        near.close()
        far.close()
