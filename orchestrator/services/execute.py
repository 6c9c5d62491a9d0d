"""Executing one attempt, from wherever an earlier worker left it.

prepare -> start -> follow -> collect -> finish. The state in the store says which of these come next; each
may be repeated after a kill at any point, and the container's name, chosen with the claim, makes a twin
impossible.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
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
from orchestrator.domain.pipeline import HostSpec, Network, Pipeline
from orchestrator.domain.run import (
    CONSEQUENCES,
    Attempt,
    AttemptState,
    Exit,
    Reason,
    Run,
    StopCause,
    classify,
    may_be_interrupted,
    was_interrupted,
)
from orchestrator.observe import LogMask, Masker, bound
from orchestrator.ports.engine import Container, ContainerState, Engine, LogLine
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.records import AttemptResult, Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, LogFiles, LogWriter, Secrets
from orchestrator.services.benchmark import Benchmarks, for_training
from orchestrator.services.checkpoints import Checkpoints
from orchestrator.services.collect import Collected, OutputCollector
from orchestrator.services.endings import Ended, told_apart
from orchestrator.services.gpus import Gpus
from orchestrator.services.hardware import Hardware
from orchestrator.services.logs import LogFollower
from orchestrator.services.masking import AttemptMask, masked, withheld
from orchestrator.services.networks import Networks
from orchestrator.services.patience import Patience
from orchestrator.services.prepare import Prepared, Preparer
from orchestrator.services.reach import Reach
from orchestrator.services.results import MAYBE_THE_HOSTS, result_of

log = logging.getLogger(__name__)

STOP_GRACE = 10.0
_FLOOD_GRACE = 1.0
"""A command that floods its log fills the host's disk meanwhile, where nothing else bounds it."""
_TOLD_LATE = 2.0
"""Seconds after which an engine has told that memory ran out, where it did."""
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
    gpus: Gpus
    outputs: OutputCollector
    benchmarks: Benchmarks
    logs: LogFiles
    secrets: Secrets
    clock: Clock
    reach: Reach
    hosts: Mapping[str, HostSpec]
    """All that attempts may be on, by name."""
    checkpoints: Checkpoints
    hardware: Hardware
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
        self._looked_away = claimed is None
        """Whether something may have happened on the host of which nobody here knows."""
        self._began_with = ""
        """What a later try's checkpoint folder held, where that is worth telling."""
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
        host = self._ports.hosts.get(attempt.host or "")
        # Where nothing is judged, nobody asks how much it varies.
        hardware = self._ports.hardware.of(self._engine, host, attempt) if pipeline.gate.checks else ""
        return self._store.attempts.advance(
            self.lease,
            AttemptState.PREPARING,
            AttemptState.RUNNING,
            self._clock.now(),
            container_id=container_id,
            image_digest=digest,
            hardware=hardware,
        )

    def _start(self, run: Run, pipeline: Pipeline, attempt: Attempt, secrets: Mapping[str, str]) -> Prepared:
        host = attempt.host or ""
        begin = self._ports.checkpoints.begin(self._engine, pipeline, attempt)
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
            if begin is not None:
                self._ports.checkpoints.fill(self._engine, attempt, begin)
                self._began_with = begin.told
            self._honour_cancel(run.id)
            self._check_fence()
            if prepared.gpus is not None:
                self._ports.gpus.watch(self._engine, host, attempt, prepared.gpus)
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

    def _honour_cancel(self, run_id: int, when: str = "before the container was started") -> None:
        reason = self._store.runs.cancel_reason(run_id)
        if reason is not None:
            raise Ended(reason, f"cancelled {when}")
        if self._stopping.is_set():
            raise _Draining

    def _still_wanted(self, run_id: int, when: str = "before the container was started") -> None:
        """Raise when a long preparation is not to go on; a database that is busy for a moment ends none."""
        self._check_fence()
        try:
            self._honour_cancel(run_id, when)
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
        if self._began_with:
            self._note_in_log(attempt, self._began_with)
        follower.start()
        try:
            with self._ports.checkpoints.copying(self._engine, pipeline, attempt):
                self._until_exited(pipeline, attempt, follower)
                self._read_the_rest(attempt, follower)
        except BaseException:
            follower.abandon()
            raise
        if follower.not_stored is not None:
            raise follower.not_stored
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
            self._note_in_log(attempt, f"what follows is left out while it cannot be masked: {mask.missing}")
            self._log_left_out = mask.missing
        raise SecretMissing(mask.missing)

    def _note_in_log(self, attempt: Attempt, what: str) -> None:
        """Say something in the log, at a time from which all that follows is read."""
        with closing(self._ports.logs.writer(attempt.id, LogMask(Masker()))) as writer:
            before = (attempt.started_at or self._clock.now()) - timedelta(days=1)
            timestamp = writer.last_timestamp or f"{before:%Y-%m-%dT%H:%M:%S}.000000000Z"
            writer.write(LogLine(timestamp, f"[orchestrator] {what}".encode("utf-8", "replace")))

    def _until_exited(self, pipeline: Pipeline, attempt: Attempt, follower: LogFollower) -> None:
        patience = self._patience(attempt)
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
                    self._engine.stop(attempt.container, _grace(cause, pipeline))
                    self._woken.set()
                elif pipeline.runner.network is not Network.NONE:
                    self._ports.networks.keep_shut(self._engine, attempt.host or "", self._slot)
            except EngineError as error:
                self._not_answered(attempt, patience, error)
            except StoreUnavailable as error:
                log.warning("attempt %d: %s", attempt.id, error)
            if self._stopping.is_set():
                raise _Draining

    def _read_the_rest(self, attempt: Attempt, follower: LogFollower) -> None:
        """Wait for the end of the log; the time for which the host does not answer does not count."""
        patience, left = self._patience(attempt), _LOG_PATIENCE
        while not follower.finish(_POLL):
            try:
                self._engine.find(attempt.container)
                patience.answered()
                left -= _POLL
            except EngineError as error:
                self._not_answered(attempt, patience, error)
            if left <= 0:
                log.warning("attempt %d: the end of its log did not arrive in time", attempt.id)
                follower.abandon()
                return
            self._check_fence()
            if self._stopping.is_set():
                raise _Draining

    def _patience(self, attempt: Attempt) -> Patience:
        host = attempt.host or ""
        spec = self._ports.hosts.get(host)
        lost_after = HostSpec(host, "").lost_after if spec is None else spec.lost_after
        return Patience(self._clock, self._ports.reach, host, lost_after)

    def _not_answered(self, attempt: Attempt, patience: Patience, error: EngineError) -> None:
        """Raise Ended once the host was silent for too long. What is there is ended when it comes back."""
        self._looked_away = True
        if patience.not_answered(attempt.id, error):
            reason = self._store.runs.cancel_reason(self.run_id) or Reason.LOST
            silent = f"its host {attempt.host} did not answer for {patience.lost_after:.0f} s (lost_after)"
            raise Ended(reason, f"{silent}: {error}") from error

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
        patience = self._patience(attempt)
        while True:
            try:
                ended, interrupted, collected = self._fetch(pipeline, attempt)
                break
            except EngineUnavailable as error:
                # What the container left is still there: it is worth the same wait as a running one.
                self._not_answered(attempt, patience, error)
            if self._stopping.is_set():
                raise _Draining
            self._pause()
        if not interrupted:
            collected = self._scored(pipeline, attempt, mask, ended, collected)
        found = mask.find()
        if found is None:
            ended, collected = withheld(ended, collected, pipeline, mask.missing)
        if self._log_left_out:
            collected.warnings.append(f"the end of the log was left out: {self._log_left_out}")
        if self._began_with:
            collected.warnings.append(self._began_with)
        result = result_of(ended, attempt.stop_cause, collected, pipeline, interrupted)
        result = self._blaming_disk(attempt, result)
        if attempt.gpus:
            result = replace(result, utilisation=self._ports.gpus.used(self._engine, attempt, ended))
        if CONSEQUENCES[result.reason].retryable:
            self._ports.checkpoints.copy_last(self._engine, pipeline, attempt)
        self._finish(attempt, masked(result, found) if found else result)

    def _scored(
        self, pipeline: Pipeline, attempt: Attempt, mask: AttemptMask, ended: Exit, collected: Collected
    ) -> Collected:
        """With what the user's benchmark makes of it, where there is one and the command has ended well."""
        benchmark = pipeline.benchmark
        well = classify(ended, attempt.stop_cause) is Reason.COMPLETED and collected.problem is None
        if benchmark is None or not well:
            return collected
        run, patience = self._store.runs.get(attempt.run_id), self._patience(attempt)
        while True:
            try:
                with told_apart(EngineUnavailable), self._telling(attempt, mask) as tell:
                    return self._ports.benchmarks.score(
                        self._engine,
                        run,
                        pipeline,
                        attempt,
                        benchmark,
                        collected,
                        tell,
                        partial(self._still_wanted, run.id, "during its benchmark"),
                        self._progress,
                    )
            except EngineUnavailable as error:
                self._not_answered(attempt, patience, error)
            if self._stopping.is_set():
                raise _Draining
            self._pause()

    @contextmanager
    def _telling(self, attempt: Attempt, mask: AttemptMask) -> Iterator[Callable[[LogLine], None]]:
        """Take lines into the attempt's log behind its own, as far as they can be masked."""
        try:
            writer = self._open_log(attempt, mask)
        except SecretMissing:
            yield lambda line: None
            return
        with closing(writer):
            yield writer.write

    def _blaming_disk(self, attempt: Attempt, result: AttemptResult) -> AttemptResult:
        """A command that failed while its host's disk was full is not the project's fault."""
        if result.reason not in MAYBE_THE_HOSTS:
            return result
        full = self._ports.full(attempt.host or "")
        if full is None:
            return result
        said = f"the host's disk was full when the command ended: {full}; free some there. {result.message}"
        state = CONSEQUENCES[Reason.DISK_FULL].state
        return replace(result, state=state, reason=Reason.DISK_FULL, message=said)

    def _fetch(self, pipeline: Pipeline, attempt: Attempt) -> tuple[Exit, bool, Collected]:
        with told_apart(EngineUnavailable):
            container, self._exited = self._exited or self._engine.find(attempt.container), None
            if container is None or container.exit is None:
                raise Ended(Reason.LOST, _REMOVED)
            try:
                wanted = for_training(pipeline)
                printed = partial(self._printed, attempt)
                collected = self._ports.outputs.collect(self._engine, attempt.container, wanted, printed)
            except ContainerGone as error:
                raise Ended(Reason.LOST, _REMOVED) from error
            ended = self._told_late(attempt, container.exit)
            return ended, self._interrupted(attempt, ended, collected), collected

    def _printed(self, attempt: Attempt) -> Iterator[bytes]:
        """What the command wrote, as it is on file: without secrets."""
        return (line.text for _, line in self._ports.logs.lines(attempt.id))

    def _told_late(self, attempt: Attempt, ended: Exit) -> Exit:
        """How a command ended that seems to have been killed: an engine may tell a moment later that memory
        ran out, and a kill by somebody else would be tried again. Raises EngineUnavailable.
        """
        if classify(ended, attempt.stop_cause) is not Reason.KILLED:
            return ended
        self._clock.sleep(_TOLD_LATE)
        container = self._engine.find(attempt.container)
        return ended if container is None or container.exit is None else container.exit

    def _interrupted(self, attempt: Attempt, ended: Exit, collected: Collected) -> bool:
        """Whether a start of the host, or of its engine, ended the command. Raises EngineUnavailable."""
        bad = ended.code != 0 or collected.problem is not None
        unseen = bad and self._looked_away
        if attempt.stop_cause is not None or not (unseen or may_be_interrupted(ended)):
            return False
        spec = self._ports.hosts.get(attempt.host or "")
        if spec is None:
            return False
        try:
            boot = self._engine.boot(spec.helper_image)
            # An engine may start anew while commands live on: then any other code is the command's own.
            return was_interrupted(ended, boot.last if may_be_interrupted(ended) else boot.at)
        except EngineUnavailable:
            raise
        except EngineError as error:
            log.warning("attempt %d ended with %d, perhaps with its host: %s", attempt.id, ended.code, error)
            return False

    def _finish(self, attempt: Attempt, result: AttemptResult) -> None:
        self._store.attempts.finish(self.lease, attempt.state, result, self._clock.now())
        self.told = True
        self._ended()
        log.info("attempt %d %s: %s %s", attempt.id, result.state.value, result.reason.value, result.message)

    def _clean_up(self, attempt: Attempt) -> None:
        """Best effort: what stays behind is swept up later, and never replaces a result."""
        try:
            self._ports.gpus.forget(self._engine, attempt)
            self._engine.remove(attempt.container)
        except EngineError as error:
            log.warning("attempt %d: left behind for now: %s", attempt.id, error)
            # It may still run, where the slot's next container would join it.
            self._ports.networks.doubt(attempt.host or "", self._slot)


def _grace(cause: StopCause, pipeline: Pipeline) -> float:
    """Seconds that a command has to end by itself."""
    match cause:
        case StopCause.LOG_LIMIT:
            return _FLOOD_GRACE
        case StopCause.SUPERSEDED | StopCause.CANCELLED:
            return pipeline.cancel_grace
        case _:
            return STOP_GRACE
