"""Executing one attempt, from wherever an earlier worker left it.

prepare -> start -> follow -> collect -> finish. The state in the store says which of these come next; each
may be repeated after a kill at any point, and the container's name, chosen with the claim, makes a twin
impossible.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from orchestrator.domain.errors import (
    ContainerGone,
    EngineError,
    EngineFull,
    EngineUnavailable,
    LeaseLost,
    SecretMissing,
    StoreUnavailable,
)
from orchestrator.domain.pipeline import Network, Pipeline
from orchestrator.domain.run import (
    CONSEQUENCES,
    Attempt,
    AttemptState,
    Exit,
    Reason,
    Run,
    StopCause,
    classify,
    warnings_of,
)
from orchestrator.observe import LogMask, Masker, bound
from orchestrator.ports.engine import Container, ContainerState, Engine, LogLine
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.records import AttemptResult, Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, LogFiles, LogWriter, Secrets
from orchestrator.services.collect import Collected, OutputCollector
from orchestrator.services.endings import Ended, told_apart
from orchestrator.services.logs import LogFollower
from orchestrator.services.masking import AttemptMask, masked, withheld
from orchestrator.services.networks import Networks
from orchestrator.services.prepare import Prepared, Preparer

log = logging.getLogger(__name__)

LOST_AFTER = 600.0
"""Seconds without an answer after which a host's attempt is given up."""
STOP_GRACE = 10.0
_GRACE = {StopCause.LOG_LIMIT: 1.0}
"""A command that floods its log fills the host's disk meanwhile, where nothing else bounds it."""
_MAYBE_THE_DISK = frozenset({Reason.EXIT_CODE, Reason.MISSING_METRICS, Reason.INVALID_METRICS})
"""How commands end that could not write."""
_POLL = 1.0
_SOON = 0.03
_LOG_PATIENCE = 60.0
_REMOVED = "the container was removed before its outputs were collected"


@dataclass(frozen=True, slots=True)
class ExecutionPorts:
    """What a worker works with."""

    store: Store
    preparer: Preparer
    networks: Networks
    outputs: OutputCollector
    logs: LogFiles
    secrets: Secrets
    clock: Clock
    full: Callable[[str], str | None] = lambda host: None
    """What is full where a host's engine keeps its data, or None."""
    where: Callable[[str], str] = lambda host: f"the host {host}"
    """Where that is, and how much is free there."""


class _Draining(Exception):
    """The server is stopping: leave the container alone, for the next one to take over."""


class AttemptWorker:
    """Works on one leased attempt in the calling thread.

    ``stopping`` asks to let go as soon as the container can be left alone; ``fenced`` says that the lease is
    lost, so that nothing must be touched any more. ``ended`` is called once the attempt's end is written
    down, before what it leaves on its host is removed. ``claimed``: the attempt as this process claimed
    it just now, so that nobody has worked on it before.
    """

    def __init__(
        self,
        ports: ExecutionPorts,
        lease: Lease,
        run_id: int,
        engine: Engine,
        progress: ProgressSink,
        stopping: threading.Event,
        ended: Callable[[], None] = lambda: None,
        claimed: Attempt | None = None,
    ) -> None:
        self._ports = ports
        self._store = ports.store
        self._clock = ports.clock
        self._engine = engine
        self._progress = progress
        self._stopping = stopping
        self._woken = threading.Event()
        self.fenced = threading.Event()
        self.told = False
        """Whether ``ended`` was called."""
        self.broke_off = False
        """Whether it ended because the database, or the disk beside it, took nothing: it goes on later."""
        self._log_left_out = ""
        self._slot = 0
        self._pausing = _POLL
        self._exited: Container | None = None
        self._ended = ended
        self._claimed = claimed
        self.lease = lease
        self.run_id = run_id

    def wake(self) -> None:
        """Look at the container, the stop request and the lease now."""
        self._woken.set()

    def work(self) -> None:
        """Carry the attempt to its end, or to where a stopping server leaves it.

        Raises LeaseLost when fenced.
        """
        with bound(run=self.run_id, attempt=self.lease.id):
            self._work()

    def _work(self) -> None:
        attempt = self._claimed or self._store.attempts.get(self.lease.id)
        taken = self._store.attempts.taken().get(attempt.id)
        if taken is not None:
            self._slot = taken[1]
        elif attempt.state.active:
            raise LeaseLost(f"attempt {attempt.id} has no slot any more")
        run = self._store.runs.get(attempt.run_id)
        pipeline = self._store.runs.definition(attempt.run_id)
        mask = AttemptMask(self._ports.secrets, pipeline.execution.secrets)
        try:
            if attempt.state is AttemptState.PREPARING:
                attempt = self._prepare(run, pipeline, attempt, mask)
            if attempt.state is AttemptState.RUNNING:
                attempt = self._follow(pipeline, attempt, mask)
            if attempt.state is AttemptState.COLLECTING:
                self._collect(pipeline, attempt, mask)
        except _Draining:
            self._store.attempts.release(self.lease)
            log.info("attempt %d goes on without us", attempt.id)
            return
        except Ended as end:
            # What it began may still run there, and the slot is another attempt's once this one has ended.
            self._ports.networks.doubt(attempt.host or "", self._slot)
            current = self._store.attempts.get(attempt.id)
            result = AttemptResult(CONSEQUENCES[end.reason].state, end.reason, end.message)
            if isinstance(end.__cause__, EngineFull):
                where = self._ports.where(attempt.host or "")
                result = replace(result, message=f"{end.message}: {where}")
            # Without a mask, too: the words are ours and the engine's, and may be why there is none.
            found = mask.find()
            self._finish(current, masked(result, found) if found else result)
        self._clean_up(attempt)

    def _prepare(self, run: Run, pipeline: Pipeline, attempt: Attempt, mask: AttemptMask) -> Attempt:
        with told_apart():
            # After a kill between start and commit the container runs already: it must not be touched.
            existing = None if self._claimed else self._engine.find(attempt.container)
            if existing is not None and existing.state is not ContainerState.CREATED:
                container_id, digest = existing.id, existing.image
            else:
                self._honour_cancel(run.id)
                secrets = self._ports.secrets.resolve(pipeline.execution.secrets)
                mask.learn(secrets)
                prepared = self._start(run, pipeline, attempt, secrets)
                container_id, digest = prepared.container.id, prepared.image_digest
        return self._store.attempts.advance(
            self.lease,
            AttemptState.PREPARING,
            AttemptState.RUNNING,
            self._clock.now(),
            container_id=container_id,
            image_digest=digest,
        )

    def _start(self, run: Run, pipeline: Pipeline, attempt: Attempt, secrets: Mapping[str, str]) -> Prepared:
        host = attempt.host or ""
        for last in (False, True):
            prepared = self._ports.preparer.prepare(
                self._engine,
                host,
                self._slot,
                run,
                pipeline,
                attempt,
                secrets,
                partial(self._still_wanted, run.id),
                self._progress,
            )
            self._honour_cancel(run.id)
            self._check_fence()
            try:
                self._engine.start(attempt.container)
                break
            except EngineUnavailable:
                raise
            except EngineError:
                # It cannot join a sandbox that somebody removed: both are made anew, once.
                if last or not self._ports.networks.renew(self._engine, host, self._slot):
                    raise
                self._engine.remove(attempt.container)
        return prepared

    def _honour_cancel(self, run_id: int) -> None:
        reason = self._store.runs.cancel_reason(run_id)
        if reason is not None:
            raise Ended(reason, "cancelled before the container was started")
        if self._stopping.is_set():
            raise _Draining

    def _still_wanted(self, run_id: int) -> None:
        """Raise when a long preparation is not to go on; a database that is busy for a moment ends none."""
        self._check_fence()
        try:
            self._honour_cancel(run_id)
        except StoreUnavailable as error:
            log.warning("attempt %d: %s", self.lease.id, error)

    def _check_fence(self) -> None:
        if self.fenced.is_set():
            raise LeaseLost(f"attempt {self.lease.id} was taken over by another server")

    def _follow(self, pipeline: Pipeline, attempt: Attempt, mask: AttemptMask) -> Attempt:
        follower = LogFollower(
            self._engine,
            attempt.container,
            partial(self._open_log, attempt, mask),
            self._woken,
            pipeline.execution.log_limit,
        )
        follower.start()
        try:
            self._until_exited(pipeline, attempt, follower)
        except BaseException:
            follower.abandon()
            raise
        complete = follower.finish(_LOG_PATIENCE)
        if follower.not_stored is not None:
            raise follower.not_stored
        if not complete:
            log.warning("attempt %d: the end of its log did not arrive in time", attempt.id)
        if follower.overflowed:
            # Also one that ended by itself: whether it was stopped in time must not decide.
            self._store.attempts.note_stop(self.lease, StopCause.LOG_LIMIT, self._clock.now())
        return self._store.attempts.advance(
            self.lease, AttemptState.RUNNING, AttemptState.COLLECTING, self._clock.now()
        )

    def _open_log(self, attempt: Attempt, mask: AttemptMask) -> LogWriter:
        found = mask.find_for_log()
        if found is not None:
            self._log_left_out = ""
            return self._ports.logs.writer(attempt.id, found)
        if not self._log_left_out:
            self._note_in_log(attempt, mask.missing)
            self._log_left_out = mask.missing
        raise SecretMissing(mask.missing)

    def _note_in_log(self, attempt: Attempt, why: str) -> None:
        """Say in the log why it does not go on, at a time from which all that is left out is read again."""
        with closing(self._ports.logs.writer(attempt.id, LogMask(Masker()))) as writer:
            before = (attempt.started_at or self._clock.now()) - timedelta(days=1)
            timestamp = writer.last_timestamp or f"{before:%Y-%m-%dT%H:%M:%S}.000000000Z"
            text = f"[orchestrator] what follows is left out while it cannot be masked: {why}"
            writer.write(LogLine(timestamp, text.encode("utf-8", "replace")))

    def _until_exited(self, pipeline: Pipeline, attempt: Attempt, follower: LogFollower) -> None:
        patience = _Patience(self._clock)
        while True:
            self._pause()
            try:
                container = follower.ended or self._engine.find(attempt.container)
                patience.answered()
                if container is None:
                    raise Ended(Reason.LOST, "the container was removed while it ran")
                if container.state is ContainerState.EXITED:
                    self._exited = container
                    return
                cause = self._why_stop(pipeline, attempt, follower)
                if cause is not None:
                    self._store.attempts.note_stop(self.lease, cause, self._clock.now())
                    # Repeated until the container is seen to have ended: a stop can get lost.
                    self._engine.stop(attempt.container, _GRACE.get(cause, STOP_GRACE))
                    self._woken.set()
                elif pipeline.runner.network is not Network.NONE:
                    self._ports.networks.keep_shut(self._engine, attempt.host or "", self._slot)
            except EngineError as error:
                patience.not_answered(attempt, error)
            except StoreUnavailable as error:
                log.warning("attempt %d: %s", attempt.id, error)
            if self._stopping.is_set():
                raise _Draining

    def _pause(self) -> None:
        # Who wakes us knows that something is about to change: the next looks come soon, then ever later.
        woken = self._woken.wait(self._pausing)
        self._pausing = _SOON if woken else min(self._pausing * 2, _POLL)
        self._woken.clear()
        self._check_fence()

    def _why_stop(self, pipeline: Pipeline, attempt: Attempt, follower: LogFollower) -> StopCause | None:
        match self._store.runs.cancel_reason(attempt.run_id):
            case None:
                pass
            case Reason.SUPERSEDED:
                return StopCause.SUPERSEDED
            case _:
                return StopCause.CANCELLED
        if attempt.started_at is not None:
            lasted = (self._clock.now() - attempt.started_at).total_seconds()
            if lasted > pipeline.execution.timeout:
                return StopCause.TIMEOUT
        return StopCause.LOG_LIMIT if follower.overflowed else None

    def _collect(self, pipeline: Pipeline, attempt: Attempt, mask: AttemptMask) -> None:
        self._progress(ProgressEvent("collecting"))
        patience = _Patience(self._clock)
        while True:
            try:
                ended, collected = self._fetch(pipeline, attempt)
                break
            except EngineUnavailable as error:
                # What the container left is still there: it is worth the same wait as a running one.
                patience.not_answered(attempt, error)
            if self._stopping.is_set():
                raise _Draining
            self._pause()
        found = mask.find()
        if found is None:
            ended, collected = withheld(ended, collected, pipeline, mask.missing)
        if self._log_left_out:
            collected.warnings.append(f"the end of the log was left out: {self._log_left_out}")
        result = self._blaming_disk(attempt, result_of(ended, attempt.stop_cause, collected, pipeline))
        self._finish(attempt, masked(result, found) if found else result)

    def _blaming_disk(self, attempt: Attempt, result: AttemptResult) -> AttemptResult:
        """A command that failed while its host's disk was full is not the project's fault."""
        if result.reason not in _MAYBE_THE_DISK:
            return result
        full = self._ports.full(attempt.host or "")
        if full is None:
            return result
        said = f"the host's disk was full when the command ended: {full}; free some there. {result.message}"
        state = CONSEQUENCES[Reason.DISK_FULL].state
        return replace(result, state=state, reason=Reason.DISK_FULL, message=said)

    def _fetch(self, pipeline: Pipeline, attempt: Attempt) -> tuple[Exit, Collected]:
        with told_apart(EngineUnavailable):
            container, self._exited = self._exited or self._engine.find(attempt.container), None
            if container is None or container.exit is None:
                raise Ended(Reason.LOST, _REMOVED)
            try:
                return container.exit, self._ports.outputs.collect(self._engine, attempt.container, pipeline)
            except ContainerGone as error:
                raise Ended(Reason.LOST, _REMOVED) from error

    def _finish(self, attempt: Attempt, result: AttemptResult) -> None:
        self._store.attempts.finish(self.lease, attempt.state, result, self._clock.now())
        self.told = True
        self._ended()
        log.info("attempt %d %s: %s %s", attempt.id, result.state.value, result.reason.value, result.message)

    def _clean_up(self, attempt: Attempt) -> None:
        """Best effort: what stays behind is swept up later, and never replaces a result."""
        try:
            self._engine.remove(attempt.container)
        except EngineError as error:
            log.warning("attempt %d: left behind for now: %s", attempt.id, error)
            # It may still run, where the slot's next container would join it.
            self._ports.networks.doubt(attempt.host or "", self._slot)


def result_of(
    ended: Exit, stopped: StopCause | None, collected: Collected, pipeline: Pipeline
) -> AttemptResult:
    """What an ended container comes to: its own failure first, then that of its metrics."""
    reason = classify(ended, stopped)
    message = describe(reason, ended, pipeline)
    if reason is Reason.COMPLETED and collected.problem is not None:
        reason, message = collected.problem
    return AttemptResult(
        CONSEQUENCES[reason].state,
        reason,
        message,
        ended,
        tuple(collected.metrics),
        tuple(collected.artifacts),
        (*warnings_of(ended), *collected.warnings),
        tuple(collected.left_out),
    )


def describe(reason: Reason, ended: Exit, pipeline: Pipeline) -> str:
    """One sentence on how a container ended; empty when it ended well."""
    match reason:
        case Reason.COMPLETED:
            return ""
        case Reason.OUT_OF_MEMORY:
            limit = pipeline.runner.resources.memory
            allowed = f" (limit {limit / (1 << 20):.0f} MiB)" if limit else ""
            return f"the command ran out of memory{allowed}, exit code {ended.code}"
        case Reason.TIMEOUT:
            return f"the command was stopped after {pipeline.execution.timeout:.0f} s, its timeout"
        case Reason.LOG_LIMIT:
            return f"the command wrote more than {pipeline.execution.log_limit} bytes of log and was stopped"
        case Reason.KILLED:
            return "the container was killed from outside (137, not out of memory, not by the orchestrator)"
        case Reason.START:
            return f"the command could not be started: {ended.error}"
        case Reason.CANCELLED_BY_PERSON:
            return "cancelled"
        case Reason.SUPERSEDED:
            return "superseded by a newer change"
        case _:
            return f"the command ended with exit code {ended.code}"


class _Patience:
    """How long a host has not answered; an attempt is given up after ``LOST_AFTER`` seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    def answered(self) -> None:
        self._since = None

    def not_answered(self, attempt: Attempt, error: EngineError) -> None:
        now = self._clock.monotonic()
        if self._since is None:
            log.warning("attempt %d: %s", attempt.id, error)
            self._since = now
        if now - self._since > LOST_AFTER:
            raise Ended(Reason.LOST, f"its host did not answer for {LOST_AFTER:.0f} s: {error}") from error
