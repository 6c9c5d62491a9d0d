"""Everything that ``serve`` runs beside the web server: watching, and loops for executing and acting.

They only tick; what was seen and what is owed is in the database, so nothing is lost with this process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from orchestrator.ports.engine import Engine
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.scheduler.loops import FULL, Changes, Loop
from orchestrator.scheduler.watcher import Watcher
from orchestrator.services.act import Actor
from orchestrator.services.acting.progress import ProgressTeller
from orchestrator.services.acting.threads import ActingThreads
from orchestrator.services.clean import sweep
from orchestrator.services.dispatch import Dispatcher
from orchestrator.services.evaluate import Evaluator
from orchestrator.services.networks import dismiss
from orchestrator.services.reach import Reach

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks at whether anything changed, when nobody asks for an earlier one."""
SWEEP = 600.0
RETAIN = 15.0
"""Seconds between two looks whether retention has something to do."""
HOSTS = 2.0
"""Seconds between two looks whether hosts were added, changed or removed."""
DRAIN = 20.0


class Service:
    """Everything that ``serve`` runs beside the web server."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        engines: Mapping[str, Engine],
        watcher: Watcher,
        dispatcher: Dispatcher,
        evaluator: Evaluator,
        actor: Actor,
        stopping: threading.Event,
        owner: str,
        url: str,
        reach: Reach,
        tidy: Callable[[], None] = lambda: None,
        look_at_hosts: Callable[[], None] = lambda: None,
        retain: Callable[[], None] = lambda: None,
        talk_to_forge: Callable[[], None] | None = None,
        top_up: Callable[[], object] = lambda: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._engines = engines
        self.watcher = watcher
        self.dispatcher = dispatcher
        self._evaluator = evaluator
        self._actor = actor
        self._stopping = stopping
        self._owner = owner
        self._url = url
        self._reach = reach
        self._tidy = tidy
        # One of them looks every second whether anything changed, and wakes the other.
        self._execute = Loop("execute", self._execute_tick, TICK)
        self._act = Loop("act", self._act_tick, FULL)
        self._acts = ActingThreads(actor, self._act.wake)
        self._mail = Loop("mail", self._mail_tick, FULL)
        # A loop of its own, because removing may take long, and nobody waits for it.
        self._retain = Loop("retain", retain, RETAIN)
        self._hosts = Loop("hosts", look_at_hosts, HOSTS)
        # Reads much of the history now and then, which nobody waits for.
        self._topping_up = top_up
        self._top_up = Loop("top up", self._top_up_tick, FULL)
        # A forge may be slow or refuse, which concerns nothing else. Where there is none, it costs no thread.
        self._forge = None if talk_to_forge is None else Loop("forge", talk_to_forge, FULL)
        self._executing = Changes(store, clock, lambda: bool(store.runs.unfinished()))
        self._acting = Changes(store, clock, store.actions.any_owed)
        self._mailing = Changes(store, clock, store.actions.any_owed)
        self._progress = ProgressTeller(store, clock)
        self._last_seen = 0.0
        self._last_sweep = 0.0

    def start(self) -> None:
        """Begin to watch, execute, judge and act."""
        self._store.servers.register(self._owner, self._url, self._clock.now())
        self._execute.start()
        self._act.start()
        self._mail.start()
        self._retain.start()
        self._hosts.start()
        self._top_up.start()
        if self._forge is not None:
            self._forge.start()
        self.watcher.start()

    def wake(self) -> None:
        """Look at the database now."""
        self._execute.wake()

    def wake_forge(self) -> None:
        """Look now whether the forge is to be asked or told something."""
        if self._forge is not None:
            self._forge.wake()

    @property
    def healthy(self) -> bool:
        """Whether all loops still turn."""
        loops = (self._execute, self._act, self._mail, self._retain, self._hosts, self._top_up)
        forge_alive = self._forge is None or self._forge.alive
        return all(loop.alive for loop in loops) and forge_alive and self.watcher.running

    def stop(self) -> None:
        """Stop watching, let go of attempts (their containers go on), finish the act under way."""
        log.info("stopping: running containers go on, the next server takes them over")
        self._stopping.set()
        self.watcher.pause()
        self._execute.stop(DRAIN)
        if not self.dispatcher.drain(DRAIN):
            log.warning("some attempts were not let go in time; the next server takes them over all the same")
        self._act.stop(DRAIN)
        if not self._acts.drain(DRAIN):
            log.warning("some actions did not come to an end in time; the next server takes them over")
        self._mail.stop(DRAIN)
        self._retain.stop(DRAIN)
        self._hosts.stop(DRAIN)
        self._top_up.stop(DRAIN)
        if self._forge is not None:
            self._forge.stop(DRAIN)
        self._store.servers.unregister(self._owner)
        # Last, because a repository may take long to answer, and nothing of ours may wait for it.
        self.watcher.stop()
        dismiss(self._store, self._answering())

    def _answering(self) -> dict[str, Engine]:
        """The engines that are worth asking: one that hangs holds up whoever asks it."""
        return {host: engine for host, engine in self._engines.items() if self._reach.why_not(host) is None}

    def _execute_tick(self) -> None:
        if self._executing.worth_a_turn():
            # Free slots first: that takes no time when nothing waits, and a verdict helps no other run.
            self._evaluator.tick(self.dispatcher.tick())
            if self._store.actions.any_owed():
                self._act.wake()
                self._mail.wake()
            self.wake_forge()
        self.dispatcher.keep_alive()
        self._reach.look()
        now = self._clock.monotonic()
        if now - self._last_seen > 10:
            self._last_seen = now
            self._store.servers.seen(self._owner, self._clock.now())
            if self._progress.tick():
                self._act.wake()

    def _top_up_tick(self) -> None:
        if self._topping_up() is not None:
            self.wake()

    def _mail_tick(self) -> None:
        # A loop of its own: a server that answers slowly must not hold up the news of other runs.
        while self._mailing.worth_a_turn() and self._actor.send_due():
            pass

    def _act_tick(self) -> None:
        while self._acting.worth_a_turn() and self._acts.start_due():
            pass
        self._mail.wake()
        now = self._clock.monotonic()
        if now - self._last_sweep > SWEEP or not self._last_sweep:
            self._last_sweep = now
            removed = sweep(self._store, self._answering())
            self._tidy()
            if removed:
                log.info("swept up: %s", ", ".join(removed))
