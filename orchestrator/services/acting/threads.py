"""Actions of different runs at once, so that one that hangs holds up nobody's but its own run's."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Final, Protocol

from orchestrator.domain.action import Action

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final[Mapping[str, int]] = {"deploy": 8, "rollback": 8, "email": 1}
"""How many actions of a kind go at the same time. Mails are made one by one, so they stay in order."""
_MOST_OF_OTHERS: Final = 4


class Acting(Protocol):
    """What knows the actions that are due, and carries one out in any thread."""

    def due(self) -> Iterable[Action]: ...
    def carry_out(self, action: Action) -> int: ...


class ActingThreads:
    """A thread for each action under way, bounded by kind. ``ended`` is called after each one.

    ``start_due`` is called from one thread. No action is begun twice here; who else may have begun it is told
    by its lease.
    """

    def __init__(
        self, acting: Acting, ended: Callable[[], None], most: Mapping[str, int] = MOST_AT_ONCE
    ) -> None:
        self._acting = acting
        self._ended = ended
        self._most = most
        self._changed = threading.Condition()
        self._under_way: dict[int, str] = {}

    def start_due(self) -> int:
        """Begin what is due and finds room; how many that were."""
        return sum(self._begin(action) for action in self._acting.due())

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is under way; whether that came true in time. What hangs is left behind."""
        until = monotonic() + seconds
        with self._changed:
            while self._under_way:
                if not self._changed.wait(until - monotonic()) and monotonic() >= until:
                    return False
        return True

    def _begin(self, action: Action) -> bool:
        kind = action.spec.kind
        with self._changed:
            busy = Counter(self._under_way.values())
            if action.id in self._under_way or busy[kind] >= self._most.get(kind, _MOST_OF_OTHERS):
                return False
            self._under_way[action.id] = kind
        threading.Thread(target=self._go, args=(action,), name=f"action-{action.id}", daemon=True).start()
        return True

    def _go(self, action: Action) -> None:
        try:
            self._acting.carry_out(action)
        except Exception:
            # The thread's outermost boundary: the lease runs out, and the action is taken up again.
            log.exception("action %s broke off", action.key)
        finally:
            with self._changed:
                del self._under_way[action.id]
                self._changed.notify_all()
            self._ended()
