"""Runs and attempts: their states, which state may follow which, why they end, and what comes next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from orchestrator.domain.change import Change
from orchestrator.domain.gate import Verdict
from orchestrator.domain.gpu import Gpu, GpuUse


class RunState(StrEnum):
    """Where a Run stands."""

    AWAITING_APPROVAL = "awaiting_approval"
    """A person must allow it first."""
    QUEUED = "queued"
    """Enqueued; none of its attempts has been claimed."""
    RUNNING = "running"
    """At least one attempt was claimed, and not all have ended."""
    EVALUATING = "evaluating"
    """All attempts ended well; the gate is judging, or waits for its baseline to be measured."""
    PASSED = "passed"
    REJECTED = "rejected"
    """The gate's verdict is fail."""
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    """The project's fault: nothing could be judged."""
    ERRORED = "errored"
    """Our fault or the host's."""
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the run has ended."""
        return not RUN_TRANSITIONS[self]


RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.AWAITING_APPROVAL: frozenset({RunState.QUEUED, RunState.CANCELLED}),
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED}),
    RunState.RUNNING: frozenset({RunState.EVALUATING, RunState.FAILED, RunState.ERRORED, RunState.CANCELLED}),
    RunState.EVALUATING: frozenset(
        {
            RunState.RUNNING,
            RunState.PASSED,
            RunState.REJECTED,
            RunState.INCONCLUSIVE,
            RunState.FAILED,
            RunState.ERRORED,
            RunState.CANCELLED,
        }
    ),
    RunState.PASSED: frozenset(),
    RunState.REJECTED: frozenset(),
    RunState.INCONCLUSIVE: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.ERRORED: frozenset(),
    RunState.CANCELLED: frozenset(),
}


RUN_DECISIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.INCONCLUSIVE: frozenset({RunState.PASSED, RunState.REJECTED}),
}
"""What a person may make of a run that has ended, where its gate leaves that to people."""


class AttemptState(StrEnum):
    """Where an Attempt stands."""

    QUEUED = "queued"
    PREPARING = "preparing"
    """Claimed: image, container, code and data are being made ready."""
    RUNNING = "running"
    """The container was started."""
    COLLECTING = "collecting"
    """The container has stopped; its outputs are being fetched."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ERRORED = "errored"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the attempt has ended."""
        return not ATTEMPT_TRANSITIONS[self]

    @property
    def active(self) -> bool:
        """Whether a worker is, or should be, busy with it."""
        return self in {AttemptState.PREPARING, AttemptState.RUNNING, AttemptState.COLLECTING}


ATTEMPT_TRANSITIONS: Mapping[AttemptState, frozenset[AttemptState]] = {
    AttemptState.QUEUED: frozenset({AttemptState.PREPARING, AttemptState.ERRORED, AttemptState.CANCELLED}),
    AttemptState.PREPARING: frozenset(
        {AttemptState.RUNNING, AttemptState.FAILED, AttemptState.ERRORED, AttemptState.CANCELLED}
    ),
    # A stopped container is always collected first, so RUNNING never jumps to FAILED.
    AttemptState.RUNNING: frozenset({AttemptState.COLLECTING, AttemptState.ERRORED, AttemptState.CANCELLED}),
    AttemptState.COLLECTING: frozenset(
        {AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.ERRORED, AttemptState.CANCELLED}
    ),
    AttemptState.SUCCEEDED: frozenset(),
    AttemptState.FAILED: frozenset(),
    AttemptState.ERRORED: frozenset(),
    AttemptState.CANCELLED: frozenset(),
}


class Reason(StrEnum):
    """Why an Attempt, and with it a Run, ended as it did."""

    COMPLETED = "completed"
    EXIT_CODE = "exit_code"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    LOG_LIMIT = "log_limit"
    IMAGE_BUILD = "image_build"
    SETUP = "setup"
    START = "start"
    """The container could not start its command: not found, not executable."""
    MISSING_METRICS = "missing_metrics"
    INVALID_METRICS = "invalid_metrics"
    BENCHMARK = "benchmark"
    """The user's benchmark failed, or did not leave its metrics."""
    KILLED = "killed"
    """Somebody or something else killed the container."""
    LOST = "lost"
    """The container or its host is gone."""
    ENGINE_UNAVAILABLE = "engine_unavailable"
    ENGINE_REFUSED = "engine_refused"
    DISK_FULL = "disk_full"
    GPU_UNAVAILABLE = "gpu_unavailable"
    """A GPU that the attempt was given is gone, or somebody else computes on it."""
    IMAGE_NOT_FOUND = "image_not_found"
    REGISTRY_DENIED = "registry_denied"
    REGISTRY_UNAVAILABLE = "registry_unavailable"
    HOST_UNKNOWN = "host_unknown"
    NO_SUITABLE_HOST = "no_suitable_host"
    """None of the hosts has what the runner asks for."""
    SOURCE_UNAVAILABLE = "source_unavailable"
    REVISION_GONE = "revision_gone"
    DATA_UNAVAILABLE = "data_unavailable"
    DATA_MOVED = "data_moved"
    SECRET_MISSING = "secret_missing"  # noqa: S105 - a reason's name, not a password
    INTERNAL = "internal"
    CANCELLED_BY_PERSON = "cancelled_by_person"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Consequence:
    """What a Reason leads to: the attempt's final state, and whether a new try may help."""

    state: AttemptState
    retryable: bool = False


CONSEQUENCES: Mapping[Reason, Consequence] = {
    Reason.COMPLETED: Consequence(AttemptState.SUCCEEDED),
    Reason.EXIT_CODE: Consequence(AttemptState.FAILED),
    Reason.OUT_OF_MEMORY: Consequence(AttemptState.FAILED),
    Reason.TIMEOUT: Consequence(AttemptState.FAILED),
    Reason.LOG_LIMIT: Consequence(AttemptState.FAILED),
    Reason.IMAGE_BUILD: Consequence(AttemptState.FAILED),
    Reason.SETUP: Consequence(AttemptState.FAILED),
    Reason.START: Consequence(AttemptState.FAILED),
    Reason.MISSING_METRICS: Consequence(AttemptState.FAILED),
    Reason.INVALID_METRICS: Consequence(AttemptState.FAILED),
    Reason.BENCHMARK: Consequence(AttemptState.FAILED),
    Reason.KILLED: Consequence(AttemptState.ERRORED, retryable=True),
    Reason.LOST: Consequence(AttemptState.ERRORED, retryable=True),
    Reason.ENGINE_UNAVAILABLE: Consequence(AttemptState.ERRORED, retryable=True),
    Reason.ENGINE_REFUSED: Consequence(AttemptState.ERRORED),
    # The next try waits until there is room again.
    Reason.DISK_FULL: Consequence(AttemptState.ERRORED, retryable=True),
    Reason.GPU_UNAVAILABLE: Consequence(AttemptState.ERRORED, retryable=True),
    Reason.IMAGE_NOT_FOUND: Consequence(AttemptState.ERRORED),
    Reason.REGISTRY_DENIED: Consequence(AttemptState.ERRORED),
    Reason.REGISTRY_UNAVAILABLE: Consequence(AttemptState.ERRORED, retryable=True),
    Reason.HOST_UNKNOWN: Consequence(AttemptState.ERRORED),
    Reason.NO_SUITABLE_HOST: Consequence(AttemptState.ERRORED),
    Reason.SOURCE_UNAVAILABLE: Consequence(AttemptState.ERRORED, retryable=True),
    Reason.REVISION_GONE: Consequence(AttemptState.ERRORED),
    Reason.DATA_UNAVAILABLE: Consequence(AttemptState.ERRORED, retryable=True),
    Reason.DATA_MOVED: Consequence(AttemptState.ERRORED),
    Reason.SECRET_MISSING: Consequence(AttemptState.ERRORED),
    Reason.INTERNAL: Consequence(AttemptState.ERRORED),
    Reason.CANCELLED_BY_PERSON: Consequence(AttemptState.CANCELLED),
    Reason.SUPERSEDED: Consequence(AttemptState.CANCELLED),
}


class Purpose(StrEnum):
    """What a Run is for."""

    TRAIN = "train"
    BASELINE = "baseline"
    """An old Change measured again, so that others can be compared with it."""
    REPRODUCE = "reproduce"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended: a value, never an exception. Times are the host's, in UTC."""

    code: int
    oom_killed: bool = False
    error: str = ""
    """What the engine said when the command could not be started."""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class StopCause(StrEnum):
    """Why the orchestrator stopped a container."""

    TIMEOUT = "timeout"
    LOG_LIMIT = "log_limit"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


_SIGKILL = 137
_NOT_EXECUTABLE = 126
_NOT_FOUND = 127
_NOT_STARTED = 128


_BY_SHUTDOWN = frozenset({143, 255})
_SHUTDOWN = timedelta(seconds=30)
"""So long after its start an engine may still be ending what it found: ten seconds for what ignores it."""
_GOING_DOWN = timedelta(minutes=10)
"""So long before its start a host may have begun to go down: it ends much, then its firmware takes long."""


def may_be_interrupted(exit: Exit) -> bool:  # noqa: A002 - the domain's word
    """Whether a command may have ended so because its engine or its host was started anew.

    143: told to end by the engine before or after its restart; 255: found dead by it. Either may be the
    command's own as well.
    """
    return exit.code in _BY_SHUTDOWN


def was_interrupted(exit: Exit, started: datetime) -> bool:  # noqa: A002 - the domain's word
    """Whether a container ended because its engine, or its host, was started anew at that moment.

    It has begun before and ended no later than soon after; an engine that lets containers live gives them
    more time. An end long before was the command's own, unless by its code a shutdown may have brought it.
    All times are the host's, so that its clock may be wrong.
    """
    if exit.started_at is None or exit.finished_at is None:
        return False
    begins = exit.finished_at if may_be_interrupted(exit) else started - _GOING_DOWN
    return exit.started_at < started and begins <= exit.finished_at < started + _SHUTDOWN


def classify(exit: Exit, stopped: StopCause | None) -> Reason:  # noqa: A002 - the domain's word
    """The reason behind a container's end.

    Our own stop outranks what the kernel reports. An engine that could not start the container for a reason
    other than its command reports 128 and an error: that is not the project's fault. 137 without the
    out-of-memory flag and without a stop of ours is a kill by somebody else. An exit code of 0 is success
    even when a child process ran out of memory: that is a warning, see :func:`warnings_of`.
    """
    match stopped:
        case StopCause.TIMEOUT:
            return Reason.TIMEOUT
        case StopCause.LOG_LIMIT:
            return Reason.LOG_LIMIT
        case StopCause.CANCELLED:
            return Reason.CANCELLED_BY_PERSON
        case StopCause.SUPERSEDED:
            return Reason.SUPERSEDED
        case None:
            pass
    if exit.error and exit.code in (_NOT_EXECUTABLE, _NOT_FOUND):
        return Reason.START
    if exit.error and exit.code == _NOT_STARTED:
        return Reason.ENGINE_REFUSED
    if exit.code == 0:
        return Reason.COMPLETED
    if exit.oom_killed:
        return Reason.OUT_OF_MEMORY
    if exit.code == _SIGKILL:
        return Reason.KILLED
    return Reason.EXIT_CODE


def warnings_of(exit: Exit) -> tuple[str, ...]:  # noqa: A002 - the domain's word
    """What a person should know although the attempt did not fail by it."""
    if exit.oom_killed and exit.code == 0:
        return ("a child process was killed for lack of memory, yet the command ended with 0",)
    return ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One container execution of a Run: replicate index (from 0), seed and try number (from 1), on one Host.

    ``container`` is the name that was chosen before the container was made; ``container_id`` the engine's.
    ``not_before`` delays a new try. ``heartbeat``-like facts of the lease live in the store alone.
    ``log_removed`` says that and why its log was given up; it is empty while the log is there. ``gpus`` are
    those that it has, or had, for itself; ``utilisation`` tells once it has ended how they were used.
    """

    id: int
    run_id: int
    replicate: int
    number: int
    seed: int
    state: AttemptState
    host: str | None = None
    container: str = ""
    container_id: str = ""
    image_digest: str = ""
    reason: Reason | None = None
    message: str = ""
    exit: Exit | None = None
    stop_cause: StopCause | None = None
    warnings: tuple[str, ...] = ()
    not_before: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    log_removed: str = ""
    gpus: tuple[Gpu, ...] = ()
    utilisation: tuple[GpuUse, ...] = ()
    hardware: str = ""
    """The models of its GPUs, or of the CPU of its host; empty: not known."""


@dataclass(frozen=True, slots=True)
class Run:
    """One Change judged by one Pipeline. ``number`` counts within the pipeline from 1; ``id`` over all."""

    id: int
    number: int
    pipeline: str
    project: str
    purpose: Purpose
    state: RunState
    change: Change
    created_at: datetime
    replicates: int = 1
    host_wish: str | None = None
    priority: int = 0
    rerun_of: int | None = None
    reason: Reason | None = None
    message: str = ""
    verdict: Verdict | None = None
    cancel_requested_by: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def title(self) -> str:
        """How people name it: ``wine-quality #42``."""
        return f"{self.pipeline} #{self.number}"


def seed_for(run_id: int, replicate: int) -> int:
    """The seed of one replicate: below 2**31, the same on every try and on a reproduction of that run.

    The first four bytes of SHA-256 over ``run/replicate``, so that baselines average over many seeds.
    """
    digest = hashlib.sha256(f"{run_id}/{replicate}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


_MAX_TRIES = 10
_FIRST_BACKOFF = timedelta(seconds=5)
_LONGEST_BACKOFF = timedelta(minutes=5)


def backoff(tries: int) -> timedelta:
    """How long to wait after that many tries: 5 s, doubled each time, at most 5 minutes."""
    return min(_FIRST_BACKOFF * (1 << min(max(tries, 1) - 1, 10)), _LONGEST_BACKOFF)


_HOSTS_FAULT = frozenset({Reason.KILLED, Reason.LOST, Reason.ENGINE_UNAVAILABLE, Reason.DISK_FULL})


def failed_hosts(attempts: Sequence[Attempt], replicate: int) -> frozenset[str]:
    """The hosts that were at fault when a replicate was tried: the next try goes elsewhere if it can."""
    return frozenset(
        attempt.host
        for attempt in attempts
        if attempt.replicate == replicate and attempt.host and attempt.reason in _HOSTS_FAULT
    )


@dataclass(frozen=True, slots=True)
class NewTry:
    """A replicate deserves another attempt."""

    replicate: int
    number: int
    after: timedelta


@dataclass(frozen=True, slots=True)
class Progress:
    """What a Run's attempts mean for it.

    ``state`` is where to go (None: stay), with its reason; ``new_tries`` are to be enqueued.
    """

    state: RunState | None = None
    reason: Reason | None = None
    message: str = ""
    new_tries: tuple[NewTry, ...] = ()


def latest_tries(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """The newest try of each replicate, by replicate."""
    newest: dict[int, Attempt] = {}
    for attempt in attempts:
        if attempt.replicate not in newest or attempt.number > newest[attempt.replicate].number:
            newest[attempt.replicate] = attempt
    return tuple(newest[replicate] for replicate in sorted(newest))


def representative(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt whose files stand for the run: that of the first replicate which succeeded, else of the
    first.
    """
    latest = latest_tries(attempts)
    return next((a for a in latest if a.state is AttemptState.SUCCEEDED), next(iter(latest), None))


_RANK = {AttemptState.CANCELLED: 0, AttemptState.FAILED: 1, AttemptState.ERRORED: 2}
_OUTCOME = {
    AttemptState.CANCELLED: RunState.CANCELLED,
    AttemptState.FAILED: RunState.FAILED,
    AttemptState.ERRORED: RunState.ERRORED,
}


def progress(
    attempts: Sequence[Attempt], infrastructure_retries: int, cancelling: bool = False, max_failed: int = 0
) -> Progress:
    """Decide what a RUNNING run does next.

    A replicate that ended for a retryable reason is tried again, ``infrastructure_retries`` times at most.
    While any replicate is not final the run stays. A crashed replicate is never dropped: when all have ended,
    the worst one decides (cancelled, then failed, then errored); all succeeded means the gate may judge. A
    run that is to be cancelled does not wait for what no worker has begun: its queued attempts count as
    cancelled, without a reason. Up to ``max_failed`` replicates may have ended badly, beside one at least
    that did not.
    """
    latest = latest_tries(attempts)
    tries: list[NewTry] = []
    ended: list[Attempt] = []
    for attempt in latest:
        if not attempt.state.final:
            if cancelling and attempt.state is AttemptState.QUEUED:
                ended.append(replace(attempt, state=AttemptState.CANCELLED))
            continue
        consequence = CONSEQUENCES[attempt.reason] if attempt.reason else None
        limit = min(1 + infrastructure_retries, _MAX_TRIES)
        if consequence and consequence.retryable and attempt.number < limit and not cancelling:
            tries.append(NewTry(attempt.replicate, attempt.number + 1, backoff(attempt.number)))
        else:
            ended.append(attempt)
    if tries or len(ended) < len(latest) or not latest:
        return Progress(new_tries=tuple(tries))
    bad = [attempt for attempt in ended if attempt.state is not AttemptState.SUCCEEDED]
    cancelled = any(attempt.state is AttemptState.CANCELLED for attempt in bad)
    if not bad or (len(bad) <= max_failed and len(bad) < len(ended) and not cancelled):
        return Progress(state=RunState.EVALUATING)
    worst = min(bad, key=lambda a: (_RANK[a.state], a.reason is None, a.replicate))
    return Progress(state=_OUTCOME[worst.state], reason=worst.reason, message=worst.message)
