"""What makes things happen: APScheduler's ticks for watching, and two loops for executing and acting.

APScheduler only ticks; what was seen and what is owed is in the database, so nothing is lost with this
process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from orchestrator.domain.errors import OrchestratorError, StoreUnavailable
from orchestrator.domain.pipeline import DatasetSpec, Pipeline, SourceSpec
from orchestrator.ports.engine import Engine
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.act import Actor
from orchestrator.services.clean import sweep
from orchestrator.services.detect import Detector
from orchestrator.services.dispatch import Dispatcher
from orchestrator.services.evaluate import Evaluator
from orchestrator.services.networks import dismiss
from orchestrator.services.reach import Reach

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks at whether anything changed, when nobody asks for an earlier one."""
FULL = 5.0
"""Seconds after which a loop with open work takes a turn although no state changed: retries, expired leases.
"""
SWEEP = 600.0
RETAIN = 15.0
"""Seconds between two looks whether retention has something to do."""
HOSTS = 2.0
"""Seconds between two looks whether hosts were added, changed or removed."""
DRAIN = 20.0


class Watcher:
    """Polls sources and datasets by APScheduler, each at its own pace."""

    def __init__(self, detector: Detector, store: Store, clock: Clock, woken: Callable[[], None]) -> None:
        self._detector = detector
        self._store = store
        self._clock = clock
        self._woken = woken
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            jobstores={"default": MemoryJobStore()},
            executors={"default": ThreadPoolExecutor(4)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": 3600},
        )
        self.problems: dict[str, str] = {}
        """What could not be watched at the last look, and why."""

    def watch(self, pipeline: Pipeline) -> None:
        """Watch a pipeline's sources and datasets."""
        for source in pipeline.sources:
            self._every(source.poll, f"source {pipeline.name}/{source.name}", self._poll, pipeline, source)
        for dataset in pipeline.datasets:
            name = f"dataset {pipeline.name}/{dataset.name}"
            self._every(dataset.poll, name, self._scan, pipeline, dataset)

    def _every(self, seconds: float, name: str, act: Callable[..., None], *args: object) -> None:
        first = self._clock.now() + timedelta(milliseconds=50)
        self._scheduler.add_job(
            act, "interval", args=(name, *args), seconds=seconds, id=name, name=name, next_run_time=first
        )

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    @property
    def running(self) -> bool:
        """Whether it ticks."""
        return bool(self._scheduler.running)

    def pause(self) -> None:
        """Begin no new look; those under way go on."""
        if self._scheduler.running:
            self._scheduler.pause()

    def stop(self) -> None:
        """End, after the looks under way."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)

    def _poll(self, name: str, pipeline: Pipeline, source: SourceSpec) -> None:
        self._look(name, lambda: bool(self._detector.poll_source(pipeline, source)))

    def _scan(self, name: str, pipeline: Pipeline, dataset: DatasetSpec) -> None:
        self._look(name, lambda: bool(self._detector.scan_dataset(pipeline, dataset)))

    def _look(self, name: str, look: Callable[[], bool]) -> None:
        try:
            found = look()
        except OrchestratorError as error:
            # Said once, not at every poll; and written down, for those who ask later why nothing ran.
            if self.problems.get(name) != str(error):
                log.error("%s: %s", name, error)
                self._note(name, str(error))
            self.problems[name] = str(error)
            return
        except Exception:
            log.exception("%s: defect", name)
            return
        if self.problems.pop(name, None) is not None:
            log.info("%s: answers again", name)
            self._note(name, "answers again")
        if found:
            self._woken()

    def _note(self, name: str, text: str) -> None:
        try:
            self._store.journal.note("watcher", name, text, self._clock.now())
        except StoreUnavailable as error:
            log.error("%s: not written down: %s", name, error)


class Loop:
    """Calls something again and again in a thread: every ``period`` seconds, or when woken."""

    def __init__(self, name: str, tick: Callable[[], None], period: float) -> None:
        self._tick = tick
        self._period = period
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Tick now; from any thread."""
        self._woken.set()

    @property
    def alive(self) -> bool:
        """Whether it still ticks."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """End after the tick under way."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._tick()
                self._trouble = ""
            except OrchestratorError as error:
                # Said once, not at every turn: a full disk may stay full for long.
                if self._trouble != str(error):
                    log.error("%s: %s", self._thread.name, error)
                self._trouble = str(error)
            except Exception:
                log.exception("%s: defect", self._thread.name)
            self._woken.wait(self._period)
            self._woken.clear()


class Changes:
    """Tells a loop whether a turn is worth its price: an idle server must cost next to nothing."""

    def __init__(self, store: Store, clock: Clock, has_work: Callable[[], bool]) -> None:
        self._store = store
        self._clock = clock
        self._has_work = has_work
        self._head = -1
        self._looked = 0.0

    def worth_a_turn(self) -> bool:
        """Whether a state changed since the last turn, or open work was last looked at long ago."""
        head, now = self._store.journal.head(), self._clock.monotonic()
        if head != self._head:
            self._head, self._looked = head, now
            return True
        if now - self._looked < FULL:
            return False
        self._looked = now
        return self._has_work()


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
        self._mail = Loop("mail", self._mail_tick, FULL)
        # A loop of its own, because removing may take long, and nobody waits for it.
        self._retain = Loop("retain", retain, RETAIN)
        self._hosts = Loop("hosts", look_at_hosts, HOSTS)
        self._executing = Changes(store, clock, lambda: bool(store.runs.unfinished()))
        self._acting = Changes(store, clock, store.actions.any_owed)
        self._mailing = Changes(store, clock, store.actions.any_owed)
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
        self.watcher.start()

    def wake(self) -> None:
        """Look at the database now."""
        self._execute.wake()

    @property
    def healthy(self) -> bool:
        """Whether all loops still turn."""
        loops = (self._execute, self._act, self._mail, self._retain, self._hosts)
        return all(loop.alive for loop in loops) and self.watcher.running

    def stop(self) -> None:
        """Stop watching, let go of attempts (their containers go on), finish the act under way."""
        log.info("stopping: running containers go on, the next server takes them over")
        self._stopping.set()
        self.watcher.pause()
        self._execute.stop(DRAIN)
        if not self.dispatcher.drain(DRAIN):
            log.warning("some attempts were not let go in time; the next server takes them over all the same")
        self._act.stop(DRAIN)
        self._mail.stop(DRAIN)
        self._retain.stop(DRAIN)
        self._hosts.stop(DRAIN)
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
            self.dispatcher.tick()
            self._evaluator.tick()
            if self._store.actions.any_owed():
                self._act.wake()
                self._mail.wake()
        self.dispatcher.keep_alive()
        self._reach.look()
        now = self._clock.monotonic()
        if now - self._last_seen > 10:
            self._last_seen = now
            self._store.servers.seen(self._owner, self._clock.now())

    def _mail_tick(self) -> None:
        # A loop of its own: a server that answers slowly must not hold up the news of other runs.
        while self._mailing.worth_a_turn() and self._actor.send_due():
            pass

    def _act_tick(self) -> None:
        while self._acting.worth_a_turn() and self._actor.carry_out_due():
            self._mail.wake()
        now = self._clock.monotonic()
        if now - self._last_sweep > SWEEP or not self._last_sweep:
            self._last_sweep = now
            removed = sweep(self._store, self._answering())
            self._tidy()
            if removed:
                log.info("swept up: %s", ", ".join(removed))
