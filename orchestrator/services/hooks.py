"""Webhooks: a delivery that is signed wakes the look at its repository, and has no other power.

What became new is asked from the forge, so that whoever can sign, or send again what once was signed, can
make us look and nothing else. A comment is written down, and read from the forge before it counts.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

_MOVES = frozenset({"push", "create", "delete", "pull_request", "repository"})
_COMMENTS = "issue_comment"
_KNOWN_FOR = timedelta(days=7)
"""So long a delivery is known again; a later one that is sent again makes us look, which harms nobody."""
_FORGET_EVERY = timedelta(hours=1)
_HOUR = timedelta(hours=1)
OUTSIDERS_AN_HOUR: Final = 20
"""Comments of a repository in an hour that are looked into although their authors have no part in it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook whose signature is right.

    ``digest`` names its body: that is signed, ``id`` is not. ``comment`` is the id of a new comment under a
    pull request that seems to ask for something.
    """

    id: str
    digest: str
    event: str
    repository: str
    comment: int | None = None
    outsider: bool = False
    """Whether the comment seems to be by somebody who has no part in the repository."""


class Taking(StrEnum):
    """What became of a delivery."""

    TAKEN = "taken"
    PONG = "pong"
    REPLAYED = "taken before"
    NOT_WATCHED = "no pipeline watches that repository"
    IGNORED = "nothing to do"


class _Outsiders:
    """Counts the comments of people who have no part in a repository: to look into one costs requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[str, deque[datetime]] = {}

    def too_many(self, repository: str, now: datetime) -> bool:
        """Count one more, unless there were too many within an hour."""
        with self._lock:
            times = self._times.setdefault(repository.casefold(), deque())
            while times and now - times[0] >= _HOUR:
                times.popleft()
            if len(times) >= OUTSIDERS_AN_HOUR:
                return True
            times.append(now)
            return False


class Hooks:
    """Takes webhooks. Thread-safe.

    ``watches`` says whether the repository ``owner/name`` is watched; ``wake`` makes the looks at it due now,
    ``heed`` the look at comments; None: nobody can be asked what they say.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        watches: Callable[[str], bool],
        wake: Callable[[str], object],
        heed: Callable[[], None] | None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._watches = watches
        self._wake = wake
        self._heed = heed
        self._forgot: datetime | None = None
        self._outsiders = _Outsiders()

    def receive(self, delivery: Delivery) -> Taking:
        """Take a delivery. Raises StoreError when it could not be written down: it may be sent again then."""
        if delivery.event == "ping":
            return Taking.PONG
        moved = delivery.event in _MOVES
        asks = delivery.event == _COMMENTS and delivery.comment is not None and self._heed is not None
        if not moved and not asks:
            return Taking.IGNORED
        repository = delivery.repository
        if not repository or not self._watches(repository):
            return Taking.NOT_WATCHED
        ids = (f"delivery:{delivery.id}", f"body:{delivery.digest}")
        now = self._clock.now()
        if asks and delivery.outsider and self._outsiders.too_many(repository, now):
            # What the delivery says may keep from looking, and never lets anybody have their will.
            log.info("%s: too many comments by outsiders in an hour, this one is not looked into", repository)
            return Taking.IGNORED
        self._forget_old(now)
        if not self._store.deliveries.take(ids, delivery.event, repository, now, delivery.comment):
            log.info("%s: delivery %s was taken before", repository, delivery.id)
            return Taking.REPLAYED
        log.info("%s: %s", repository, delivery.event)
        if moved:
            self._wake(repository)
        elif self._heed is not None:
            self._heed()
        return Taking.TAKEN

    def _forget_old(self, now: datetime) -> None:
        if self._forgot is None or now - self._forgot >= _FORGET_EVERY:
            self._forgot = now
            self._store.deliveries.forget(now - _KNOWN_FOR)
