"""What goes into the database and comes out of it: plain values, beside those of the domain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import ActionSpec
from orchestrator.domain.change import Cause, DatasetVersion, Revision
from orchestrator.domain.collected import Param, Plot
from orchestrator.domain.curves import KeptSeries
from orchestrator.domain.gpu import GpuUse
from orchestrator.domain.metrics import Metric
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import AttemptState, Exit, Purpose, Reason, RunState


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one row until ``expires_at``. ``token`` fences: an older token changes nothing."""

    subject: str
    """``attempt``, ``action`` or ``outbox``."""
    id: int
    owner: str
    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class HeadMove:
    """A branch seen to move, in one pipeline's eyes.

    ``old`` None: new to us. ``new`` None: the branch is gone. The same commit twice: it must still be there,
    and nothing moves.
    """

    source: str
    branch: str
    old: str | None
    new: str | None
    count: int | None = None
    """How often it had moved when it was seen, for what goes and comes back is the same and was moved; None:
    whatever."""


@dataclass(frozen=True, slots=True)
class DataMove:
    """A dataset seen to change, in one pipeline's eyes: fingerprints.

    ``old`` None: new to us. The same twice: it must still be what was seen, and nothing moves.
    """

    dataset: str
    old: str | None
    new: str
    count: int | None = None
    """As with a HeadMove."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run is made from. The pipeline is frozen into the run."""

    pipeline: Pipeline
    cause: Cause
    revision: Revision
    datasets: tuple[DatasetVersion, ...]
    purpose: Purpose = Purpose.TRAIN
    rerun_of: int | None = None
    note: str = ""
    requested_by: str = ""
    host_wish: str | None = None
    priority: int | None = None
    """None: its pipeline's."""
    replicates: int | None = None
    start_actions: tuple[NewAction, ...] = ()
    needs_approval: bool = False
    """Whether it waits for a person's approval before anything is done for it."""
    rank: int | None = None
    """How new its change is among others, where somebody asks for what is not the newest; None: newest."""
    supersede: bool = False
    """Whether older runs of the same source and branch that have not ended are asked to end."""
    once: str = ""
    """Names what it is made for, where that is to be made once in a pipeline; empty: as often as asked."""


@dataclass(frozen=True, slots=True)
class Told:
    """What was decided of something that was seen, for people to read: a line of the journal."""

    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class ScheduleMove:
    """A time of a schedule that has come: ``at`` follows on ``before``, None: the first."""

    schedule: str
    before: datetime | None
    at: datetime


@dataclass(frozen=True, slots=True)
class UpstreamMove:
    """A run of another pipeline that this one follows, once."""

    upstream: str
    run_id: int


@dataclass(frozen=True, slots=True)
class CommentMove:
    """A comment under a pull request that asks for a run: of each pipeline one, however often it is read."""

    comment: int


Move: TypeAlias = HeadMove | DataMove | ScheduleMove | UpstreamMove | CommentMove
"""What was seen, and makes a change."""


@dataclass(frozen=True, slots=True)
class UpstreamRun:
    """What has to be known of another pipeline's run to follow it."""

    id: int
    number: int
    state: RunState
    purpose: Purpose
    branch: str


@dataclass(frozen=True, slots=True)
class Watched:
    """How the last looks at a source or a dataset went. ``name`` is such as ``source wine/repository``."""

    name: str
    checked_at: datetime | None = None
    changed_at: datetime | None = None
    trouble: str = ""
    """Why it could not be found out; empty: all is well."""
    trouble_since: datetime | None = None
    tries: int = 0
    """How many looks in a row failed."""
    not_before: datetime | None = None
    note: str = ""
    """What else to know, such as the quota that is left."""


@dataclass(frozen=True, slots=True)
class OwedStatus:
    """The mark that a run owes to its commit; ``sent`` is what the forge was told last, empty: nothing."""

    run_id: int
    context: str
    sent: str = ""
    external_id: str = ""
    tries: int = 0
    not_before: datetime | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class NewAction:
    """An action to be owed by a run; its key derives from the run's id, the trigger and the position."""

    trigger: Trigger
    position: int
    spec: ActionSpec


@dataclass(frozen=True, slots=True)
class DatasetWatch:
    """What is remembered between two looks at a dataset.

    ``signature`` is the listing that the current version was made from; ``pending`` a newer one that has to
    be still since ``pending_since``.
    """

    signature: str
    fingerprint: str | None
    pending: str | None = None
    pending_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class QueuedAttempt:
    """An attempt that may be claimed; ``host_wish`` is the host that a person wants its run on."""

    id: int
    run_id: int
    host_wish: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides whether a run that has begun, or is to end, moves on.

    ``ended`` is how many of its attempts have ended.
    """

    run_id: int
    state: RunState
    cancelling: bool
    ended: int


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """A file that an attempt left, by content. ``kind`` is ``artifact``, ``metrics`` for a file of which
    something was read, or ``plot`` for a picture that was embedded in one.

    ``removed`` says that and why its content was given up; it is empty while the content is there.
    """

    path: str
    size: int
    sha256: str
    kind: str = "artifact"
    removed: str = ""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended and what it left.

    ``left_out`` lists files that exceeded a limit or were no plain files.
    """

    state: AttemptState
    reason: Reason
    message: str = ""
    exit: Exit | None = None
    metrics: tuple[Metric, ...] = ()
    artifacts: tuple[StoredArtifact, ...] = ()
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    utilisation: tuple[GpuUse, ...] = ()
    series: tuple[KeptSeries, ...] = ()
    params: tuple[Param, ...] = ()
    plots: tuple[Plot, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Who changed what, when, from which state to which, and why. ``subject`` is such as ``run 12``."""

    at: datetime
    who: str
    subject: str
    before: str
    after: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A mail that is owed.

    ``message`` is the whole RFC 5322 text; ``key`` its Message-ID, stable over all tries. A digest belongs to
    no action and no run. ``reached`` have it already, ``refused`` never will, for what their server said.
    """

    id: int
    action_id: int | None
    run_id: int | None
    key: str
    recipients: tuple[str, ...]
    subject: str
    message: bytes
    state: str
    """``pending``, ``delivered`` or ``given_up``."""
    tries: int = 0
    last_error: str = ""
    delivered_at: datetime | None = None
    reached: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StagedVolume:
    """A dataset version on a host. ``size`` in bytes; None for a folder of the host's own, whose path is in
    ``volume``, and for what an older release staged.
    """

    volume: str
    fingerprint: str
    size: int | None
    used_at: datetime
    """When it was staged; runs that used it later are not written down here."""


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A serving process. ``url`` is where it answers."""

    owner: str
    url: str
    started_at: datetime
    seen_at: datetime
