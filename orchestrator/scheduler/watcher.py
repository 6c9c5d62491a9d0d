"""Looks at each thing that is watched, at its own pace: APScheduler's clock, and threads of our own.

Whoever asks a server that answers slowly waits for it, so few may: of each server only so many looks are
under way at once, and only one where the last was slow or failed. The others wait without a thread. A look
that goes on for long gives its place to another, so that neither eight servers that hang nor one long fetch
hold up the rest; and what makes runs without looking at anything has places of its own.
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
"""Looks under way at once, but for those that linger."""
LINGERING: Final = 64
"""Looks that may go on for longer than SLOW without taking the place of another."""
OCCASIONS: Final = 8
"""Places for schedules and upstream runs; as many again may linger."""
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
    lingers: bool = False


@dataclass(slots=True)
class _Server:
    waiting: deque[_Place] = field(default_factory=deque)
    under_way: int = 0
    lingering: int = 0
    slow: bool = False

    def has_room(self, most: int) -> bool:
        """Whether another look at it may begin."""
        quick = self.under_way - self.lingering
        if self.slow:
            # One at a time, to find out whether it is a look that is slow or the server.
            return quick < 1 and self.under_way <= most
        return quick < most and self.under_way < 2 * most


class _Pool:
    """Places that looks take while they are under way, and threads for them."""

    def __init__(self, places: int, lingering: int, prefix: str) -> None:
        self.threads = ThreadPoolExecutor(places + lingering, thread_name_prefix=prefix)
        self.free = places
        self.may_linger = lingering
        self.servers: dict[str, _Server] = {}
        self.ready: deque[_Place] = deque()
        self.began: dict[int, tuple[float, _Place]] = {}


class Watcher:
    """Looks at what it is given until it is stopped. Thread-safe."""

    def __init__(
        self,
        looks: Looks,
        woken: Callable[[], None],
        of_a_server: int = OF_A_SERVER,
        slow: float = SLOW,
    ) -> None:
        self._looks = looks
        self._woken = woken
        self._of_a_server = of_a_server
        self._slow = slow
        self._lock = Lock()
        self._places: dict[str, _Place] = {}
        self._pausing = False
        self._sights = _Pool(AT_ONCE, LINGERING, "look")
        self._occasions = _Pool(OCCASIONS, OCCASIONS, "occasion")
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

    @property
    def under_way(self) -> int:
        """How many looks are under way."""
        with self._lock:
            return len(self._sights.began) + len(self._occasions.began)

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
        every = min(self._slow, 1.0)
        self._scheduler.add_job(self._let_linger, "interval", seconds=every, id="let linger")
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
        for pool in (self._sights, self._occasions):
            pool.threads.shutdown(wait=True, cancel_futures=True)
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
            self._begin(place)

    def _pool(self, place: _Place) -> _Pool:
        return self._occasions if place.watch.occasion else self._sights

    def _server(self, place: _Place) -> _Server:
        return self._pool(place).servers.setdefault(place.watch.server, _Server())

    def _begin(self, beside: _Place) -> None:
        """Let those look whose turn it is, of the server of this one and where a place became free."""
        pool, server = self._pool(beside), self._server(beside)
        while server.waiting and server.has_room(self._of_a_server):
            server.under_way += 1
            pool.ready.append(server.waiting.popleft())
        while pool.ready and pool.free > 0 and not self._pausing:
            pool.free -= 1
            pool.threads.submit(self._look, pool.ready.popleft())

    def _let_linger(self) -> None:
        """Give the places of looks that go on for long to others."""
        late = time.monotonic() - self._slow
        with self._lock:
            for pool in (self._sights, self._occasions):
                for began, place in pool.began.values():
                    if began > late or place.lingers or pool.may_linger < 1:
                        continue
                    server, place.lingers = self._server(place), True
                    server.slow, server.lingering = True, server.lingering + 1
                    pool.free, pool.may_linger = pool.free + 1, pool.may_linger - 1
                    self._begin(place)

    def _look(self, place: _Place) -> None:
        pool, began = self._pool(place), time.monotonic()
        with self._lock:
            called, place.called, place.again = place.called, False, False
            pool.began[id(place)] = began, place
        looked = None if place.gone else self._looked(place.watch, called)
        with self._lock:
            del pool.began[id(place)]
            self._leave(place)
            if looked is not None:
                slow = bool(looked.trouble) or time.monotonic() - began > self._slow
                self._server(place).slow = slow
            place.busy = False
            again = place.again
            if place.gone and place.watch.name not in self._places:
                # What it has just remembered is nobody's.
                self._looks.forget(place.watch.name)
        if looked is not None and not place.gone:
            self._schedule(place, _FIRST if again else looked.wait)
        with self._lock:
            self._begin(place)
        if looked is not None and looked.sight.found:
            self._woken()

    def _leave(self, place: _Place) -> None:
        pool, server = self._pool(place), self._server(place)
        server.under_way -= 1
        if place.lingers:
            place.lingers = False
            server.lingering -= 1
            pool.may_linger += 1
        else:
            pool.free += 1

    def _looked(self, watch: Watch, called: bool) -> Looked:
        try:
            return self._looks.look(watch, called)
        except Exception:
            log.exception("%s: defect", watch.name)
            return Looked(Sight(), max(watch.every, _AFTER_DEFECT))
