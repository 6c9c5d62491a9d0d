"""What this process knows to be ours on an engine, so that it need not ask before each call."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

_KEPT = 4096
_FRESH = 10.0
"""Seconds for which something that was seen to be there is taken to be there as it was."""


@dataclass(frozen=True, slots=True)
class _Seen:
    id: str
    created_at: float | None


class KnownContainers:
    """Ids of containers by name. Thread-safe.

    Whose a container is stays so for its whole life, and no other one ever has its id: so whoever goes by the
    id may skip the look at its labels. When the id is gone, the name may be another container's: look again.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, name: str, identity: str, *, created: bool = False) -> None:
        """Remember one that carries our label; ``created``: it was made just now, and nobody started it."""
        at = time.monotonic() if created else None
        with self._lock:
            seen = self._seen.get(name)
            if created or seen is None or seen.id != identity:
                self._seen[name] = _Seen(identity, at)
            self._seen.move_to_end(name)
            while len(self._seen) > _KEPT:
                self._seen.popitem(last=False)

    def id_of(self, name: str) -> str | None:
        """The id of ours of that name, as last seen."""
        with self._lock:
            seen = self._seen.get(name)
        return None if seen is None else seen.id

    def is_new(self, name: str) -> bool:
        """Whether this process made it moments ago and has not started it."""
        with self._lock:
            seen = self._seen.get(name)
        return (
            seen is not None and seen.created_at is not None and time.monotonic() - seen.created_at < _FRESH
        )

    def starting(self, name: str) -> None:
        """It is no longer new."""
        with self._lock:
            seen = self._seen.get(name)
            if seen is not None:
                self._seen[name] = _Seen(seen.id, None)

    def forget(self, name: str) -> None:
        """It is gone."""
        with self._lock:
            self._seen.pop(name, None)


class RecentNames:
    """Names of things that were seen moments ago to be there, and ours. Thread-safe."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, name: str) -> None:
        """Remember it for a moment."""
        now = time.monotonic()
        with self._lock:
            self._seen = {n: at for n, at in self._seen.items() if now - at < _FRESH}
            self._seen[name] = now

    def __contains__(self, name: str) -> bool:
        with self._lock:
            at = self._seen.get(name)
        return at is not None and time.monotonic() - at < _FRESH

    def forget(self, name: str) -> None:
        """It is gone, or may be."""
        with self._lock:
            self._seen.pop(name, None)
