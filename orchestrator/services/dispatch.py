"""Dispatching: queued attempts to free slots, leases kept alive, orphaned attempts taken over.

One worker thread per attempt. :meth:`Dispatcher.tick` is called often and is cheap when there is nothing to
do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from orchestrator.domain.errors import EngineUnavailable, LeaseLost, OrchestratorError, StoreUnavailable
from orchestrator.domain.pipeline import HostSpec, eligible_hosts
from orchestrator.domain.run import Attempt, AttemptState, Reason
from orchestrator.ports.store import AttemptResult, Lease, Store
from orchestrator.ports.world import Clock, Engine, Processes, ProgressEvent, ProgressSink
from orchestrator.services import naming
from orchestrator.services.execute import AttemptWorker, ExecutionPorts

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
HEARTBEAT_SECONDS = 10.0

ProgressFor = Callable[[Attempt], ProgressSink]
"""Where an attempt's progress goes."""


class Dispatcher:
    """Claims attempts and works on them. ``tick``, ``drain`` and ``reap`` belong to one thread."""

    def __init__(
        self,
        ports: ExecutionPorts,
        hosts: Sequence[HostSpec],
        engines: Mapping[str, Engine],
        processes: Processes,
        progress_for: ProgressFor,
        wake: Callable[[], None],
        wants: Callable[[int], bool] = lambda run_id: True,
    ) -> None:
        self._ports = ports
        self._store: Store = ports.store
        self._clock: Clock = ports.clock
        self._hosts = hosts
        self._engines = engines
        self._processes = processes
        self._owner = processes.this()
        self._progress_for = progress_for
        self._wake = wake
        self._wants = wants
        self._stopping = threading.Event()
        self._workers: dict[int, tuple[threading.Thread, AttemptWorker]] = {}
        self._last_heartbeat = 0.0
        self.waiting: dict[int, str] = {}
        """Why each queued attempt still waits, for people."""

    @property
    def busy(self) -> int:
        """Attempts being worked on here."""
        return len(self._workers)

    def tick(self) -> None:
        """Take over what is orphaned, claim what is queued, keep leases alive."""
        self._forget_finished()
        if self._stopping.is_set():
            return
        now = self._clock.now()
        dead = [o for o in self._store.attempts.lease_owners() if self._processes.is_dead(o)]
        if dead:
            self._store.actions.release_dead(dead, now)
        for lease in self._store.attempts.take_over(self._owner, dead, now, LEASE_SECONDS):
            log.info("attempt %d taken over", lease.id)
            self._work(lease)
        for attempt in self._store.attempts.queued(now):
            if self._wants(attempt.run_id):
                self._claim(attempt)
        for _, worker in self._workers.values():
            if self._store.runs.cancel_reason(self._store.attempts.get(worker.lease.id).run_id):
                worker.wake()
        self.keep_alive()

    def keep_alive(self) -> None:
        """Extend the leases of everything being worked on, when it is time."""
        now = self._clock.monotonic()
        if now - self._last_heartbeat < HEARTBEAT_SECONDS:
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

    def _claim(self, attempt: Attempt) -> None:
        run = self._store.runs.get(attempt.run_id)
        pipeline = self._store.runs.definition(attempt.run_id)
        wanted = eligible_hosts(pipeline.runner, self._hosts, run.host_wish)
        if not wanted:
            wish = run.host_wish or ", ".join(pipeline.runner.host_names) or dict(pipeline.runner.host_labels)
            self._refuse(attempt, f"no host of the configuration fits {wish}")
            return
        container = naming.container_name(self._store.instance, attempt.id)
        now = self._clock.now()
        for host in wanted:
            lease = self._store.attempts.claim(
                attempt.id, host.name, host.slots, container, self._owner, now, LEASE_SECONDS
            )
            if lease is not None:
                self.waiting.pop(attempt.id, None)
                self._work(lease)
                return
        names = ", ".join(f"{h.name} ({h.slots} slots)" for h in wanted)
        self.waiting[attempt.id] = f"waits for a free slot on {names}"

    def _refuse(self, attempt: Attempt, message: str) -> None:
        """End an attempt that no host can execute: the configuration is ours, so it errors."""
        lease = self._store.attempts.claim(
            attempt.id,
            "(none)",
            1 << 30,
            naming.container_name(self._store.instance, attempt.id),
            self._owner,
            self._clock.now(),
            LEASE_SECONDS,
        )
        if lease is not None:
            result = AttemptResult(AttemptState.ERRORED, Reason.HOST_UNKNOWN, message)
            self._store.attempts.finish(lease, AttemptState.PREPARING, result, self._clock.now())
            self._wake()

    def _work(self, lease: Lease) -> None:
        attempt = self._store.attempts.get(lease.id)
        engine = self._engines.get(attempt.host or "")
        if engine is None:
            result = AttemptResult(
                AttemptState.ERRORED, Reason.HOST_UNKNOWN, f"host {attempt.host} is not in the configuration"
            )
            self._store.attempts.finish(lease, attempt.state, result, self._clock.now())
            self._wake()
            return
        worker = AttemptWorker(self._ports, lease, engine, self._progress_for(attempt), self._stopping)
        thread = threading.Thread(target=self._run, args=(worker,), name=f"attempt-{attempt.id}", daemon=True)
        self._workers[attempt.id] = (thread, worker)
        thread.start()

    def _run(self, worker: AttemptWorker) -> None:
        try:
            worker.work()
        except LeaseLost as error:
            log.warning("attempt %d: %s", worker.lease.id, error)
        except StoreUnavailable as error:
            # The lease runs out, and whoever finds the database again goes on from there.
            log.error("attempt %d: %s", worker.lease.id, error)
        except Exception as error:
            log.exception("attempt %d: defect", worker.lease.id)
            self._record_defect(worker, error)
        finally:
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
        for attempt_id, (thread, _) in list(self._workers.items()):
            if not thread.is_alive():
                del self._workers[attempt_id]


def log_progress(attempt: Attempt) -> ProgressSink:
    """Progress into the server's own log, one line per step."""

    def sink(event: ProgressEvent) -> None:
        if event.total is None and not event.line:
            log.info("attempt %d: %s", attempt.id, event.what)

    return sink


def sweep(store: Store, engines: Mapping[str, Engine]) -> list[str]:
    """Remove containers, networks and checkpoints of attempts that have ended; what was removed, by name.

    Only what carries this database's label is looked at. An engine that does not answer is left for later.
    """
    removed: list[str] = []
    for engine in engines.values():
        try:
            removed += _sweep_engine(store, engine)
        except EngineUnavailable as error:
            log.info("not swept: %s", error)
    return removed


def _sweep_engine(store: Store, engine: Engine) -> list[str]:
    removed: list[str] = []
    owned = engine.owned()
    prefix = f"mlci-{store.instance[:8]}"
    for container in owned.containers:
        attempt_id = container.labels.get(naming.ATTEMPT_LABEL, "")
        role = container.labels.get(naming.ROLE_LABEL)
        if role == "attempt" and attempt_id.isdigit() and _has_ended(store, int(attempt_id)):
            engine.remove(container.name)
            removed.append(container.name)
    for network in owned.networks:
        attempt_id = network.removeprefix(f"{prefix}-net-")
        if attempt_id.isdigit() and _has_ended(store, int(attempt_id)):
            engine.remove_network(network)
            removed.append(network)
    for volume in owned.volumes:
        run_id = volume.removeprefix(f"{prefix}-checkpoint-").split("-")[0]
        if volume != run_id and run_id.isdigit() and store.runs.get(int(run_id)).state.final:
            engine.remove_volume(volume)
            removed.append(volume)
    return removed


def _has_ended(store: Store, attempt_id: int) -> bool:
    return store.attempts.get(attempt_id).state.final
