"""Asking evenly: how long the next request has to wait so that no limit on bursts is hit."""

from __future__ import annotations

import threading
from typing import Final

RATE: Final = 13.0
"""Requests a second in the long run: GitHub takes 900 a minute of an account, free ones included."""
BURST: Final = 100
"""Requests that may come at once after a rest."""


class Pace:
    """Thread-safe. ``rate`` in requests a second, ``burst`` requests ahead of it."""

    def __init__(self, rate: float = RATE, burst: int = BURST) -> None:
        self._interval = 1 / rate
        self._ahead = burst / rate
        self._lock = threading.Lock()
        self._due = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds that a request waits, which takes its turn with that. ``now`` is monotonic."""
        with self._lock:
            self._due = max(self._due, now) + self._interval
            return max(0.0, self._due - self._ahead - now)
