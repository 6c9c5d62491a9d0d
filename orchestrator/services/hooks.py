"""Webhooks: a delivery that is signed wakes the look at its repository, and has no other power.

What became new is asked from the forge, so that whoever can sign, or send again what once was signed, can
make us look and nothing else. A comment is written down, and read from the forge before it counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

_MOVES = frozenset({"push", "create", "delete", "pull_request", "repository"})
_COMMENTS = "issue_comment"


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
    ``heed`` the look at comments.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        watches: Callable[[str], bool],
        wake: Callable[[str], object],
        heed: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._watches = watches
        self._wake = wake
        self._heed = heed

    def receive(self, delivery: Delivery) -> Taking:
        """Take a delivery. Raises StoreError when it could not be written down: it may be sent again then."""
        if delivery.event == "ping":
            return Taking.PONG
        moved = delivery.event in _MOVES
        if not moved and (delivery.event != _COMMENTS or delivery.comment is None):
            return Taking.IGNORED
        repository = delivery.repository
        if not repository or not self._watches(repository):
            return Taking.NOT_WATCHED
        ids = (f"delivery:{delivery.id}", f"body:{delivery.digest}")
        now = self._clock.now()
        if not self._store.deliveries.take(ids, delivery.event, repository, now, delivery.comment):
            log.info("%s: delivery %s was taken before", repository, delivery.id)
            return Taking.REPLAYED
        log.info("%s: %s", repository, delivery.event)
        if moved:
            self._wake(repository)
        else:
            self._heed()
        return Taking.TAKEN
