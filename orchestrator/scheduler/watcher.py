"""Looks at each thing that is watched, at its own pace: APScheduler's clock, and threads of our own.

Whoever asks a server that answers slowly waits for it, so few may: of each server only so many looks are
under way at once, and only one where the last was slow or failed. The others wait without a thread.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Final

from apscheduler.executors.pool import ThreadPoolExecutor as TickExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from orchestrator.services.watches import Looked, Looks, Sight, Watch, asks_for

log = logging.getLogger(__name__)

AT_ONCE: Final = 32
"""Looks under way at once."""
OF_A_SERVER: Final = 4
SLOW: Final = 5.0
"""Seconds after which a look has taken so long that its server gets one look at a time."""
WRITE_DOWN: Final = 5.0
"""Seconds between two times at which looks that went well are written down."""
_FIRST: Final = 0.05
_AFTER_DEFECT: Final = 60.0


@dataclass(slots=True)
class _Place:
    watch: Watch
    busy: bool = False
    """Whether it is being looked at, or waits for its turn."""
    again: bool = False
    called: bool = False
    """Whether somebody said that there is something to see."""
    gone: bool = False


@dataclass(slots=True)
class _Server:
    waiting: deque[_Place] = field(default_factory=deque)
    under_way: int = 0
    slow: bool = False


class Watcher:
    """Looks at what it is given until it is stopped. Thread-safe."""

    def __init__(self, looks: Looks, woken: Callable[[], None], of_a_server: int = OF_A_SERVER) -> None:
        self._looks = looks
        self._woken = woken
        self._of_a_server = of_a_server
        self._lock = Lock()
        self._places: dict[str, _Place] = {}
        self._servers: dict[str, _Server] = {}
        self._pausing = False
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="look")
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            jobstores={"default": MemoryJobStore()},
            executors={"default": TickExecutor(2)},
            # A tick only puts a look into its queue, and none may be dropped.
            job_defaults={"coalesce": True, "max_instances": 1000, "misfire_grace_time": None},
        )

    @property
    def problems(self) -> Mapping[str, str]:
        """What could not be looked at the last time, and why."""
        return self._looks.problems

    @property
    def names(self) -> frozenset[str]:
        """What is watched."""
        with self._lock:
            return frozenset(self._places)

    def add(self, watch: Watch) -> None:
        """Watch something from now on, in place of what had its name."""
        with self._lock:
            before = self._places.get(watch.name)
            if before is not None:
                before.gone = True
            place = self._places[watch.name] = _Place(watch)
        self._schedule(place, _FIRST)

    def remove(self, name: str) -> None:
        """Watch it no more; a look under way goes on to its end."""
        with self._lock:
            place = self._places.pop(name, None)
            if place is None:
                return
            place.gone = True
        self._looks.forget(name)

    def watches(self, repository: str) -> bool:
        """Whether anything is looked at in ``owner/name``."""
        with self._lock:
            return any(asks_for(place.watch, repository) for place in self._places.values())

    def wake(self, repository: str) -> list[str]:
        """Look at ``owner/name`` now, because a webhook told of it; what that wakes.

        Whoever tells by webhook is asked more seldom from then on.
        """
        with self._lock:
            found = [p for p in self._places.values() if asks_for(p.watch, repository)]
            for place in found:
                place.called = True
        for place in found:
            self._looks.calls_by_itself(place.watch.name)
            self._due(place)
        return [place.watch.name for place in found]

    def start(self) -> None:
        """Begin."""
        self._scheduler.add_job(self._looks.write_down, "interval", seconds=WRITE_DOWN, id="write down")
        self._scheduler.start()

    @property
    def running(self) -> bool:
        """Whether it ticks."""
        return bool(self._scheduler.running)

    def pause(self) -> None:
        """Begin no new look; those under way go on."""
        with self._lock:
            self._pausing = True
        if self._scheduler.running:
            self._scheduler.pause()

    def stop(self) -> None:
        """End, after the looks under way."""
        self.pause()
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)
        self._looks.write_down()

    def _schedule(self, place: _Place, wait: float) -> None:
        # By the machine's clock, for APScheduler knows no other.
        at = datetime.now(UTC) + timedelta(seconds=wait)
        self._scheduler.add_job(
            self._due, "date", run_date=at, args=(place,), id=place.watch.name, replace_existing=True
        )

    def _due(self, place: _Place) -> None:
        with self._lock:
            if place.gone or place.busy:
                place.again = True
                return
            place.busy = True
            self._server(place).waiting.append(place)
        self._begin(place.watch.server)

    def _server(self, place: _Place) -> _Server:
        return self._servers.setdefault(place.watch.server, _Server())

    def _begin(self, name: str) -> None:
        """Let those of a server look whose turn it is."""
        with self._lock:
            server = self._servers[name]
            while server.waiting and not self._pausing:
                if server.under_way >= (1 if server.slow else self._of_a_server):
                    return
                server.under_way += 1
                self._threads.submit(self._look, server.waiting.popleft())

    def _look(self, place: _Place) -> None:
        with self._lock:
            called, place.called, place.again = place.called, False, False
        began = time.monotonic()
        looked = None if place.gone else self._looked(place.watch, called)
        with self._lock:
            server = self._server(place)
            server.under_way -= 1
            if looked is not None:
                server.slow = bool(looked.trouble) or time.monotonic() - began > SLOW
            place.busy = False
            again = place.again
        if looked is not None and not place.gone:
            self._schedule(place, _FIRST if again else looked.wait)
        self._begin(place.watch.server)
        if looked is not None and looked.sight.found:
            self._woken()

    def _looked(self, watch: Watch, called: bool) -> Looked:
        try:
            return self._looks.look(watch, called)
        except Exception:
            log.exception("%s: defect", watch.name)
            return Looked(Sight(), max(watch.every, _AFTER_DEFECT))
