"""Webhooks: a delivery that is signed wakes the look at its repository, and has no other power.

What became new is asked from the forge, so that whoever can sign, or send again what once was signed, can
make us look and nothing else. A comment is written down, and read from the forge before it counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

_MOVES = frozenset({"push", "create", "delete", "pull_request", "repository"})
_COMMENTS = "issue_comment"
_KNOWN_FOR = timedelta(days=7)
"""So long a delivery is known again; a later one that is sent again makes us look, which harms nobody."""
_FORGET_EVERY = timedelta(hours=1)


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


class Taking(StrEnum):
    """What became of a delivery."""

    TAKEN = "taken"
    PONG = "pong"
    REPLAYED = "taken before"
    NOT_WATCHED = "no pipeline watches that repository"
    IGNORED = "nothing to do"


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
