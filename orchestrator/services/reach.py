"""Which hosts answer: asked before work is given to them, and remembered while they do not.

UNREACHABLE belongs to a host, never to an attempt. A host that comes back is given work only once what was
given up there meanwhile has been ended.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from orchestrator.domain.errors import EngineError, StoreUnavailable
from orchestrator.ports.engine import Engine, EngineInfo
from orchestrator.ports.hosts import Hosts
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

_REMEMBERED = 5.0
"""Seconds for which an answer, or none, counts for those who ask."""
_AGAIN = 2.0
"""Seconds between two looks at a host that did not answer."""
_LOOK = 15.0
"""Seconds between two looks at a host that answers and that nobody asks about."""
_PATIENCE = 2.0
"""Seconds that a loop waits for an answer: one host that hangs must not hold up the others."""
A_PERSONS_PATIENCE = 15.0
"""Seconds that a command waits for one: the way to a host may have to be made first, over other machines."""


@dataclass(slots=True)
class _Known:
    """What is known of a host. Times are monotonic seconds."""

    answered: bool = False
    """Whether it answered at the last look; ``why`` says why not."""
    why: str = "it was not asked yet"
    info: EngineInfo | None = None
    looked: float = -math.inf
    asked: float = -math.inf
    asking: threading.Event | None = None
    """Set once the question under way is over."""
    silent: bool = False
    """Whether it is written down that it does not answer."""
    recalled: float = -math.inf
    """When it was last read what is written down: former processes, and others, write as well."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Reach:
    """Asks engines whether they are there. Thread-safe; nobody waits longer than ``patience`` seconds, and
    for many hosts in a row hardly longer than for one.

    With ``hosts`` it is written down there from when a host has not answered; ``returned`` is called before
    one that comes back counts as answering, and raises EngineError or StoreUnavailable when that is to be
    tried again. ``loud``: says once in the log when something changes. ``told`` says why a host does not
    answer where somebody has found that out already, so that it is not asked.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        clock: Clock,
        loud: bool = False,
        hosts: Hosts | None = None,
        returned: Callable[[str, Engine], None] = lambda host, engine: None,
        patience: float = _PATIENCE,
        told: Callable[[str], str | None] = lambda host: None,
    ) -> None:
        self._engines = engines
        self._patience = patience
        self._told = told
        self._loud = loud
        self._clock = clock
        self._hosts = hosts
        self._returned = returned
        self._known: dict[str, _Known] = {}
        self._turn = -math.inf
        """When the time began that is waited for hosts together, in ``_waited`` seconds so far."""
        self._waited = 0.0
        self._lock = threading.Lock()

    def why_not(self, host: str) -> str | None:
        """Why a host cannot be given work now; None when it answers.

        Nobody waits for one that did not answer at the last look: it counts again once it has answered.
        """
        if (told := self._told(host)) is not None:
            return told
        known = self._of(host)
        with known.lock:
            if known.asking is None and self._clock.monotonic() - known.looked >= _REMEMBERED:
                self._begin(host, known)
            asking, asked = known.asking, known.asked
            worth_a_wait = not known.silent and (known.answered or known.looked == -math.inf)
        if asking is None or not worth_a_wait:
            return None if known.answered else known.why
        # Waited for once, however often it is asked for while the answer is still to come.
        if not self._wait(asking, self._patience - (self._clock.monotonic() - asked)):
            return f"it has not answered for {self._clock.monotonic() - asked:.0f} s"
        return None if known.answered else known.why

    def _wait(self, asking: threading.Event, seconds: float) -> bool:
        """Wait for an answer, for all hosts together no longer than for one; whether it came."""
        began = self._clock.monotonic()
        with self._lock:
            if began - self._turn >= _REMEMBERED:
                self._turn, self._waited = began, 0.0
            left = min(seconds, self._patience - self._waited)
        came = asking.wait(max(0.0, left))
        with self._lock:
            self._waited += self._clock.monotonic() - began
        return came

    def info(self, host: str) -> EngineInfo | None:
        """What its engine said of itself when it last answered this process, or None."""
        return self._of(host).info

    def look(self) -> None:
        """Ask, without waiting, what was not asked for a while; for a loop to call often."""
        for host in list(self._engines):
            known = self._of(host)
            pause = _LOOK if known.answered else _AGAIN
            with known.lock:
                if known.asking is None and self._clock.monotonic() - known.looked >= pause:
                    self._begin(host, known)

    def report(self, host: str, error: EngineError) -> None:
        """Somebody who works on a host got no answer there. Repeating costs nothing."""
        known = self._of(host)
        with known.lock:
            news = not known.silent
        if news:
            self._note_silence(host, known, str(error))

    def silent_for(self, host: str) -> float:
        """Seconds for which it is written down that a host does not answer; 0 when it does."""
        if self._hosts is None or not self._of(host).silent:
            return 0.0
        since = self._hosts.get(host).unreachable_since
        return 0.0 if since is None else (self._clock.now() - since).total_seconds()

    def _of(self, host: str) -> _Known:
        with self._lock:
            return self._known.setdefault(host, _Known())

    def _begin(self, host: str, known: _Known) -> None:
        """Ask in a thread of its own. Under the lock of what is known."""
        asking = known.asking = threading.Event()
        known.asked = self._clock.monotonic()
        act = partial(self._look_at, host, known, asking)
        threading.Thread(target=act, name=f"reach-{host}", daemon=True).start()

    def _look_at(self, host: str, known: _Known, asking: threading.Event) -> None:
        try:
            self._ask(host, known)
        except Exception as error:
            # Whatever a host makes of us by its answers, it is given no work on the word of an older one.
            why = f"looking at it failed: {error!r}"
            if known.answered or known.why != why:
                log.exception("host %s: defect", host)
            known.answered, known.why = False, why
        finally:
            with known.lock:
                known.looked, known.asking = self._clock.monotonic(), None
            asking.set()

    def _ask(self, host: str, known: _Known) -> None:
        engine = self._engines.get(host)
        if engine is None:
            known.why, known.answered = "it is not in the configuration", False
            return
        try:
            known.info = engine.info()
            self._recall(host, known)
            if known.silent:
                self._returned(host, engine)
                self._note_answer(host, known)
        except EngineError as error:
            self._note_silence(host, known, str(error))
        except StoreUnavailable as error:
            # Nothing is known against the host; it is asked again before anything is given to it.
            known.answered, known.why = False, str(error)
        else:
            known.answered = True

    def _recall(self, host: str, known: _Known) -> None:
        """Look up, now and then, whether somebody else wrote down that the host is silent.

        Else a moment that nobody takes back would count at the next silence, and what others gave up there
        would never be ended by a process to which the host answered all the time.
        """
        if self._hosts is None or self._clock.monotonic() - known.recalled < _LOOK:
            return
        record = self._hosts.get(host)
        if record.unreachable_since is not None:
            with known.lock:
                known.answered, known.why, known.silent = False, record.trouble, True
        known.recalled = self._clock.monotonic()

    def _note_silence(self, host: str, known: _Known, why: str) -> None:
        with known.lock:
            news = not known.silent or known.why != why
            if self._loud and not known.silent:
                # Whether that is bad depends on the runs: those that wait for it say so.
                log.warning("host %s does not answer: %s", host, why.removeprefix(f"host {host}: "))
            known.answered, known.why, known.silent = False, why, True
        if news and self._hosts is not None:
            now = self._clock.now()
            try:
                self._hosts.silent(host, now, why, now)
            except StoreUnavailable as error:
                log.warning("host %s does not answer, which cannot be written down: %s", host, error)

    def _note_answer(self, host: str, known: _Known) -> None:
        if self._hosts is not None:
            self._hosts.answered(host, self._clock.now())
        with known.lock:
            known.silent = False
        if self._loud:
            log.info("host %s answers again", host)
