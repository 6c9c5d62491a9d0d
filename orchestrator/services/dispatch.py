"""Dispatching: queued attempts to free slots, leases kept alive, orphaned attempts taken over.

One worker thread per attempt. :meth:`Dispatcher.tick` is called often and is cheap when there is nothing to
do.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from orchestrator.domain.errors import LeaseLost, OrchestratorError, StoreUnavailable
from orchestrator.domain.host import NOWHERE
from orchestrator.domain.placement import Placed, Refused, Waits
from orchestrator.domain.run import Attempt, AttemptState, Reason
from orchestrator.ports.engine import Engine
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.records import AttemptResult, Lease, Standing
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, Processes
from orchestrator.services import naming
from orchestrator.services.choose import Chooser
from orchestrator.services.execute import AttemptWorker, ExecutionPorts

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
HEARTBEAT_SECONDS = 10.0
QUEUE_SECONDS = 1.0
"""Between two looks at all of the queue while no slot is free: some may wait for what never comes."""
ORPHANS_SECONDS = 1.0
"""Between two looks for attempts that nobody works on any more: only time, or a server's end, makes them."""

ProgressFor = Callable[[Attempt], ProgressSink]
"""Where an attempt's progress goes."""


class Dispatcher:
    """Claims attempts and works on them. ``tick``, ``drain`` and ``reap`` belong to one thread."""

    def __init__(
        self,
        ports: ExecutionPorts,
        chooser: Chooser,
        engines: Mapping[str, Engine],
        processes: Processes,
        progress_for: ProgressFor,
        wake: Callable[[], None],
        wants: Callable[[int], bool] = lambda run_id: True,
    ) -> None:
        self._ports = ports
        self._store: Store = ports.store
        self._clock: Clock = ports.clock
        self._chooser = chooser
        self._engines = engines
        self._processes = processes
        self._owner = processes.this()
        self._progress_for = progress_for
        self._wake = wake
        self._wants = wants
        self._stopping = threading.Event()
        self._workers: dict[int, tuple[threading.Thread, AttemptWorker]] = {}
        self._last_heartbeat = 0.0
        self._last_orphans = -math.inf
        self._last_queue = -math.inf
        self._reach = ports.reach
        self._trouble: dict[int, str] = {}
        """What kept attempts from being gone on with, so that it is said once."""

    @property
    def busy(self) -> int:
        """Attempts being worked on here."""
        return len(self._workers)

    def tick(self) -> Sequence[Standing] | None:
        """Take over what is orphaned, claim what is queued, keep leases alive.

        The runs that move, where it had to look at them.
        """
        self._forget_finished()
        if self._stopping.is_set():
            return None
        # Our own leases are extended after the moment by which others are judged, so that a long sleep of the
        # machine orphans none of them, whenever in this turn it falls.
        now = self._clock.now()
        self.keep_alive()
        self._reach.look()
        if self._clock.monotonic() - self._last_orphans >= ORPHANS_SECONDS:
            self._last_orphans = self._clock.monotonic()
            self._take_over(now)
        self._claim_queued(now)
        if not self._workers:
            return None
        moving = self._store.runs.moving()
        cancelling = {run.run_id for run in moving if run.cancelling}
        for _, worker in self._workers.values():
            if worker.run_id in cancelling:
                worker.wake()
        return moving

    def _take_over(self, now: datetime) -> None:
        dead = [o for o in self._store.attempts.lease_owners() if self._processes.is_dead(o)]
        if dead:
            self._store.actions.release_dead(dead, now)
        for lease in self._store.attempts.take_over(self._owner, dead, now, LEASE_SECONDS, self._wants):
            log.info("attempt %d taken over", lease.id)
            self._work(lease)

    def keep_alive(self) -> None:
        """Extend the leases of everything being worked on, when it is time."""
        now, today = self._clock.monotonic(), self._clock.now()
        # A machine that slept wakes up with leases that ran out, and a monotonic clock that stood still.
        run_out = any(worker.lease.expires_at <= today for _, worker in self._workers.values())
        if now - self._last_heartbeat < HEARTBEAT_SECONDS and not run_out:
            return
        self._last_heartbeat = now
        for _, worker in list(self._workers.values()):
            try:
                worker.lease = self._store.attempts.heartbeat(worker.lease, self._clock.now(), LEASE_SECONDS)
            except LeaseLost:
                worker.fenced.set()
                worker.wake()

    def drain(self, timeout: float) -> bool:
        """Let go of all attempts; their containers go on. False when some worker did not let go in time."""
        self._stopping.set()
        deadline = self._clock.monotonic() + timeout
        for thread, worker in list(self._workers.values()):
            worker.wake()
            while thread.is_alive() and self._clock.monotonic() < deadline:
                thread.join(0.2)
                self.keep_alive()
        self._forget_finished()
        return not self._workers

    def _claim_queued(self, now: datetime) -> None:
        taken, looked = self._store.queue.taken(), self._clock.monotonic()
        thorough = looked - self._last_queue >= QUEUE_SECONDS
        left = self._chooser.free_slots(taken)
        if not left and not thorough:
            return
        waiting = [w for w in self._store.queue.waiting(now) if self._wants(w.run_id)]
        if not waiting:
            return
        if thorough:
            self._last_queue = looked
        for decision in self._chooser.decide(waiting, taken):
            match decision:
                case Placed():
                    self._claim(decision)
                    left -= 1
                case Refused():
                    self._refuse(decision)
                case Waits():
                    pass
            if left <= 0 and not thorough:
                return

    def _claim(self, placed: Placed) -> None:
        attempt_id = placed.attempt.attempt_id
        lease = self._store.attempts.claim(
            attempt_id,
            placed.host.name,
            placed.host.slots,
            naming.container_name(self._store.instance, attempt_id),
            self._owner,
            self._clock.now(),
            LEASE_SECONDS,
            placed.gpus,
            self._chooser.terms(placed),
        )
        # None: another server was faster, or took what was left.
        if lease is not None:
            self._work(lease, claimed=True)

    def _refuse(self, refused: Refused) -> None:
        """End an attempt that no host can execute: the configuration is ours, so it errors."""
        attempt_id = refused.attempt.attempt_id
        lease = self._store.attempts.claim(
            attempt_id,
            NOWHERE,
            1 << 30,
            naming.container_name(self._store.instance, attempt_id),
            self._owner,
            self._clock.now(),
            LEASE_SECONDS,
        )
        if lease is not None:
            reason = Reason.NO_SUITABLE_HOST if refused.known else Reason.HOST_UNKNOWN
            result = AttemptResult(AttemptState.ERRORED, reason, refused.why)
            self._store.attempts.finish(lease, AttemptState.PREPARING, result, self._clock.now())
            self._wake()

    def _work(self, lease: Lease, *, claimed: bool = False) -> None:
        attempt = self._store.attempts.get(lease.id)
        engine = self._engines.get(attempt.host or "")
        if engine is None:
            result = AttemptResult(
                AttemptState.ERRORED, Reason.HOST_UNKNOWN, f"host {attempt.host} is not in the configuration"
            )
            self._store.attempts.finish(lease, attempt.state, result, self._clock.now())
            self._wake()
            return
        worker = AttemptWorker(
            self._ports,
            lease,
            attempt.run_id,
            engine,
            self._progress_for(attempt),
            self._stopping,
            self._wake,
            attempt if claimed else None,
        )
        former = self._workers.get(attempt.id)
        if former is not None:
            former[1].fenced.set()
            former[1].wake()
        thread = threading.Thread(
            target=self._run,
            args=(worker, former[0] if former else None),
            name=f"attempt-{attempt.id}",
            daemon=True,
        )
        self._workers[attempt.id] = (thread, worker)
        thread.start()

    def _run(self, worker: AttemptWorker, former: threading.Thread | None) -> None:
        try:
            if former is not None:
                # One that lost its lease and got it back through us: never two at once on one container.
                former.join()
            worker.work()
        except LeaseLost as error:
            log.warning("attempt %d: %s", worker.lease.id, error)
        except StoreUnavailable as error:
            # It goes on from there at a later tick; were we killed, whoever takes the lease over does.
            worker.broke_off = True
            if self._trouble.get(worker.lease.id) != str(error):
                log.error("attempt %d: %s", worker.lease.id, error)
            self._trouble[worker.lease.id] = str(error)
        except Exception as error:
            log.exception("attempt %d: defect", worker.lease.id)
            self._record_defect(worker, error)
        finally:
            if not worker.told:
                self._wake()

    def _record_defect(self, worker: AttemptWorker, error: Exception) -> None:
        try:
            attempt = self._store.attempts.get(worker.lease.id)
            if attempt.state.active:
                result = AttemptResult(
                    AttemptState.ERRORED, Reason.INTERNAL, f"{type(error).__name__}: {error}"
                )
                self._store.attempts.finish(worker.lease, attempt.state, result, self._clock.now())
        except OrchestratorError as again:
            log.error("attempt %d: %s", worker.lease.id, again)

    def _forget_finished(self) -> None:
        for attempt_id, (thread, worker) in list(self._workers.items()):
            if thread.is_alive():
                continue
            del self._workers[attempt_id]
            if not worker.broke_off:
                self._trouble.pop(attempt_id, None)
            if worker.broke_off and not self._stopping.is_set():
                # The lease is still ours; were it not, the database would say so.
                self._work(worker.lease)


def log_progress(attempt: Attempt) -> ProgressSink:
    """Progress into the server's own log, one line per step."""

    def sink(event: ProgressEvent) -> None:
        if event.total is None and not event.line:
            log.info("attempt %d: %s", attempt.id, event.what)

    return sink
