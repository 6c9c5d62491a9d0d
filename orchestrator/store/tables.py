"""The tables. Names of constraints follow one convention, so that migrations can name them everywhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from orchestrator.domain.action import ActionState, Trigger
from orchestrator.domain.change import Cause
from orchestrator.domain.collected import PlotKind
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.host import HostState
from orchestrator.domain.run import AttemptState, Purpose, Reason, RunState, StopCause
from orchestrator.store.columns import Measurement, UtcDateTime, Word

Plain = Any
"""What ``domain.codec.to_plain`` returns: JSON."""

# Containers, keys and seeds derive from ids: none is given out twice, not even after its row was deleted.
_NEVER_REUSED = {"sqlite_autoincrement": True}


class Base(DeclarativeBase):
    """What all tables share."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcDateTime(),
        str: Text(),
        Trigger: Word(Trigger),
        Cause: Word(Cause),
        RunState: Word(RunState),
        AttemptState: Word(AttemptState),
        ActionState: Word(ActionState),
        DeploymentState: Word(DeploymentState),
        HostState: Word(HostState),
        Purpose: Word(Purpose),
        Reason: Word(Reason),
        StopCause: Word(StopCause),
        PlotKind: Word(PlotKind),
    }


class Leased:
    """The columns of a lease. No token: nobody works on the row, or it was released."""

    lease_owner: Mapped[str | None]
    lease_token: Mapped[str | None]
    lease_heartbeat: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]


class MetaRow(Base):
    """Facts about the database itself."""

    __tablename__ = "meta"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


LOST_ATTEMPTS: Final = "lost_attempts"
"""The fact that names the ids of attempts which only a lost database knew, as ``6-100000,100123-200000``."""


def lost_ranges(told: str | None) -> tuple[range, ...]:
    """The ids that ``LOST_ATTEMPTS`` names."""
    pairs = (part.split("-") for part in (told or "").split(",") if part)
    return tuple(range(int(first), int(last) + 1) for first, last in pairs)


class PipelineRow(Base):
    """A pipeline's counter of runs. Its row is also what is locked to put two deployments in order."""

    __tablename__ = "pipelines"

    name: Mapped[str] = mapped_column(primary_key=True)
    last_number: Mapped[int]


class HeadRow(Base):
    """A branch as a pipeline has seen it. ``moves`` counts: a commit that comes back is a new change."""

    __tablename__ = "heads"

    pipeline: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    branch: Mapped[str] = mapped_column(primary_key=True)
    commit: Mapped[str | None]
    """None: the branch is gone. Its row stays, because its moves count on."""
    moves: Mapped[int]


class DataHeadRow(Base):
    """A dataset as a pipeline has seen it."""

    __tablename__ = "data_heads"

    pipeline: Mapped[str] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    moves: Mapped[int]


class DatasetWatchRow(Base):
    """What is remembered between two looks at a dataset."""

    __tablename__ = "dataset_watches"

    dataset_key: Mapped[str] = mapped_column(primary_key=True)
    signature: Mapped[str]
    fingerprint: Mapped[str | None]
    pending: Mapped[str | None]
    pending_since: Mapped[datetime | None]


class DatasetVersionRow(Base):
    """One state of a dataset."""

    __tablename__ = "dataset_versions"
    __table_args__ = (
        UniqueConstraint("dataset_key", "fingerprint"),
        UniqueConstraint("dataset_key", "number"),
        _NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_key: Mapped[str]
    number: Mapped[int]
    fingerprint: Mapped[str]
    files: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class ManifestPartRow(Base):
    """Some of the files of a dataset version, packed as in ``domain.manifest``."""

    __tablename__ = "manifest_parts"

    version_id: Mapped[int] = mapped_column(ForeignKey("dataset_versions.id"), primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True)
    files: Mapped[int]
    content: Mapped[bytes] = mapped_column(LargeBinary)


class VersionTableRow(Base):
    """What a table looked like that is a file of a dataset version."""

    __tablename__ = "version_tables"

    version_id: Mapped[int] = mapped_column(ForeignKey("dataset_versions.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    facts: Mapped[Plain] = mapped_column(JSON)


class ManifestRow(Base):
    """The files of a dataset version that an older release stored: all of them at once."""

    __tablename__ = "manifests"

    version_id: Mapped[int] = mapped_column(ForeignKey("dataset_versions.id"), primary_key=True)
    entries: Mapped[Plain] = mapped_column(JSON)


class ChangeRow(Base):
    """What became new."""

    __tablename__ = "changes"
    __table_args__ = (UniqueConstraint("pipeline", "key"), _NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    pipeline: Mapped[str]
    key: Mapped[str]
    cause: Mapped[Cause]
    branch: Mapped[str]
    """The revision's, once more, to select by."""
    revision: Mapped[Plain] = mapped_column(JSON)
    datasets: Mapped[Plain] = mapped_column(JSON)
    note: Mapped[str]
    requested_by: Mapped[str]
    rank: Mapped[int]
    """The order in which changes were seen; a re-run has its original's."""


class RunRow(Base):
    """A change judged by a pipeline."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("pipeline", "number"),
        Index(None, "state"),
        Index(None, "pipeline", "state"),
        _NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    pipeline: Mapped[str]
    project: Mapped[str]
    purpose: Mapped[Purpose]
    state: Mapped[RunState]
    change_id: Mapped[int] = mapped_column(ForeignKey("changes.id"), index=True)
    created_at: Mapped[datetime]
    replicates: Mapped[int]
    host_wish: Mapped[str | None]
    priority: Mapped[int] = mapped_column(server_default=text("0"))
    """The greater comes first where several wait."""
    rerun_of: Mapped[int | None] = mapped_column(ForeignKey("runs.id"), index=True)
    seed_run_id: Mapped[int]
    """The run whose id the seeds derive from: its own, or that of the run that it reproduces."""
    reason: Mapped[Reason | None]
    message: Mapped[str]
    verdict: Mapped[Plain] = mapped_column(JSON(none_as_null=True), nullable=True)
    cancel_requested_by: Mapped[str | None]
    cancel_reason: Mapped[Reason | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # Large, and few readers want it: a listing of runs never loads it.
    definition: Mapped[Plain] = mapped_column(JSON, deferred=True)


class AttemptRow(Leased, Base):
    """One container execution of a run."""

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("run_id", "replicate", "number"), Index(None, "state"), _NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    replicate: Mapped[int]
    number: Mapped[int]
    seed: Mapped[int]
    state: Mapped[AttemptState]
    host: Mapped[str | None]
    container: Mapped[str]
    container_id: Mapped[str]
    image_digest: Mapped[str]
    reason: Mapped[Reason | None]
    message: Mapped[str]
    exit: Mapped[Plain] = mapped_column(JSON(none_as_null=True), nullable=True)
    stop_cause: Mapped[StopCause | None]
    warnings: Mapped[Plain] = mapped_column(JSON)
    left_out: Mapped[Plain] = mapped_column(JSON, deferred=True)
    not_before: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    log_removed_at: Mapped[datetime | None]
    log_removed_why: Mapped[str | None]
    gpus: Mapped[Plain] = mapped_column(JSON(none_as_null=True), nullable=True)
    utilisation: Mapped[Plain] = mapped_column(JSON(none_as_null=True), nullable=True)
    hardware: Mapped[str] = mapped_column(server_default=text("''"))
    """The models of its GPUs, or of the CPU of its host; empty: not known."""


class SlotRow(Base):
    """A taken slot of a host. Its primary key is why two attempts never share one."""

    __tablename__ = "slots"

    host: Mapped[str] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), unique=True)
    cpus: Mapped[float | None] = mapped_column(Double)
    memory: Mapped[int | None] = mapped_column(BigInteger)
    """Bytes that the attempt may use; None, as of ``cpus``: it has no limit of its own."""


class GpuLeaseRow(Base):
    """A GPU that an attempt has. Its primary key is why two attempts never share one."""

    __tablename__ = "gpu_leases"

    host: Mapped[str] = mapped_column(primary_key=True)
    uuid: Mapped[str] = mapped_column(primary_key=True)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), index=True)


class HostRow(Base):
    """What is known of a host beyond the configuration. A host without a row is active."""

    __tablename__ = "hosts"

    name: Mapped[str] = mapped_column(primary_key=True)
    definition: Mapped[Plain] = mapped_column(JSON(none_as_null=True), nullable=True)
    """Of a host that was added by command; the configuration's goes first."""
    state: Mapped[HostState]
    changed_at: Mapped[datetime]
    changed_by: Mapped[str]
    reason: Mapped[str]
    unreachable_since: Mapped[datetime | None]
    trouble: Mapped[str]
    boot_id: Mapped[str]


class MetricRow(Base):
    """A value that an attempt left."""

    __tablename__ = "metrics"

    id: Mapped[int] = mapped_column(primary_key=True)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), index=True)
    name: Mapped[str]
    value: Mapped[float] = mapped_column(Measurement, nullable=True)
    source: Mapped[str]
    reader: Mapped[str]
    told: Mapped[Plain] = mapped_column(JSON(none_as_null=True), nullable=True)
    """What its file says of it besides, where it says anything: step, timestamp, stderr, direction, unit."""


class ParamRow(Base):
    """What an attempt was told, as its files say."""

    __tablename__ = "params"

    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    source: Mapped[str]
    reader: Mapped[str]


class SeriesRow(Base):
    """A series of an attempt. ``content`` holds its points as ``store.findings`` packs them."""

    __tablename__ = "series"

    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    points: Mapped[int]
    kept: Mapped[int]
    least: Mapped[float] = mapped_column(Measurement, nullable=True)
    most: Mapped[float] = mapped_column(Measurement, nullable=True)
    last: Mapped[float] = mapped_column(Measurement, nullable=True)
    last_step: Mapped[float] = mapped_column(Measurement, nullable=True)
    source: Mapped[str]
    reader: Mapped[str]
    content: Mapped[bytes] = mapped_column(LargeBinary)


class PlotRow(Base):
    """Something to look at that an attempt left; the file is the artifact of that path."""

    __tablename__ = "plots"

    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]
    kind: Mapped[PlotKind]
    title: Mapped[str]
    hints: Mapped[Plain] = mapped_column(JSON)
    source: Mapped[str]
    reader: Mapped[str]


class ArtifactRow(Base):
    """A file that an attempt left."""

    __tablename__ = "artifacts"

    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(index=True)
    removed_at: Mapped[datetime | None]
    """When retention gave the content up; the row stays, and says so."""
    removed_why: Mapped[str | None]


class PinRow(Base):
    """A run that somebody pinned as a baseline."""

    __tablename__ = "pins"

    pipeline: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))


class MeasurementRow(Base):
    """What a run was measured with, and what it was compared with."""

    __tablename__ = "measurements"
    __table_args__ = (Index(None, "pipeline", "evaluation", "metric_code", "hardware"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    pipeline: Mapped[str]
    evaluation: Mapped[str]
    metric_code: Mapped[str]
    hardware: Mapped[str]
    recipe: Mapped[str]
    compared: Mapped[Plain] = mapped_column(JSON(none_as_null=True), nullable=True)


class RebaseRow(Base):
    """A run with which a pipeline's baselines begin anew; the newest counts."""

    __tablename__ = "rebases"
    __table_args__ = (_NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    pipeline: Mapped[str] = mapped_column(index=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    who: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime]


class EvaluationUseRow(Base):
    """A run that was judged with a version of evaluation data. It stays when the run is removed."""

    __tablename__ = "evaluation_uses"
    __table_args__ = (UniqueConstraint("fingerprint", "run_id"),)

    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Counts the uses of these data from 1, whichever pipeline's they are."""
    run_id: Mapped[int]
    title: Mapped[str]
    outcome: Mapped[str]
    """Of the verdict; empty while there was but a look."""
    at: Mapped[datetime]


class KeepRow(Base):
    """A run that somebody wants kept, whatever the rules of retention say."""

    __tablename__ = "keeps"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    who: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime]


class StagedRow(Base):
    """A dataset's volume on a host that was filled and verified."""

    __tablename__ = "staged_volumes"

    host: Mapped[str] = mapped_column(primary_key=True)
    volume: Mapped[str] = mapped_column(primary_key=True)
    staged_at: Mapped[datetime]
    fingerprint: Mapped[str] = mapped_column(server_default=text("''"))
    size: Mapped[int | None] = mapped_column(BigInteger)
    used_at: Mapped[datetime | None]


class ActionRow(Leased, Base):
    """An act owed by a run."""

    __tablename__ = "actions"
    __table_args__ = (UniqueConstraint("key"), Index(None, "state"), _NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    key: Mapped[str]
    trigger: Mapped[Trigger]
    position: Mapped[int]
    spec: Mapped[Plain] = mapped_column(JSON)
    state: Mapped[ActionState]
    tries: Mapped[int]
    not_before: Mapped[datetime | None]
    message: Mapped[str]
    waits: Mapped[str] = mapped_column(server_default="")
    output: Mapped[str] = mapped_column(server_default="")
    who: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class OutboxRow(Leased, Base):
    """A mail that is owed. A digest belongs to no run and no action."""

    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("key"), Index(None, "state"), _NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    action_id: Mapped[int | None] = mapped_column(ForeignKey("actions.id"), index=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"), index=True)
    key: Mapped[str]
    recipients: Mapped[Plain] = mapped_column(JSON)
    subject: Mapped[str]
    message: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str]
    tries: Mapped[int]
    not_before: Mapped[datetime | None]
    last_error: Mapped[str]
    delivered_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    reached: Mapped[Plain] = mapped_column(JSON)
    """The recipients that have it."""
    refused: Mapped[Plain] = mapped_column(JSON)
    """The recipients that will never have it, with what their server said."""


class DeploymentRow(Base):
    """A run's artifacts on a server: one row for each server that an action deploys to."""

    __tablename__ = "deployments"
    __table_args__ = (
        UniqueConstraint("action_id", "server"),
        Index(None, "pipeline", "server", "state"),
        _NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    action_id: Mapped[int] = mapped_column(ForeignKey("actions.id"))
    pipeline: Mapped[str]
    server: Mapped[str]
    release: Mapped[str]
    state: Mapped[DeploymentState]
    change_rank: Mapped[int]
    message: Mapped[str]
    environment: Mapped[str] = mapped_column(server_default="")
    previous: Mapped[str] = mapped_column(server_default="")
    output: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime]
    activated_at: Mapped[datetime | None]


class ModelVersionRow(Base):
    """What a passed run left, as a numbered version of its pipeline's model."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("pipeline", "number"), UniqueConstraint("run_id"), _NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    pipeline: Mapped[str]
    number: Mapped[int]
    created_at: Mapped[datetime]


class ModelAliasRow(Base):
    """A name that a model's version has or had; ``until`` is empty for the one that has it now."""

    __tablename__ = "model_aliases"
    __table_args__ = (Index(None, "pipeline", "alias", "until"), _NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"), index=True)
    pipeline: Mapped[str]
    alias: Mapped[str]
    who: Mapped[str]
    reason: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime | None]


class WatchRow(Base):
    """How the last looks at a source or a dataset went."""

    __tablename__ = "watches"

    name: Mapped[str] = mapped_column(primary_key=True)
    checked_at: Mapped[datetime | None]
    changed_at: Mapped[datetime | None]
    trouble: Mapped[str]
    trouble_since: Mapped[datetime | None]
    tries: Mapped[int]
    not_before: Mapped[datetime | None]
    note: Mapped[str]


class RepositoryPipelineRow(Base):
    """A pipeline that a watched repository defines itself, as it was seen last."""

    __tablename__ = "repository_pipelines"

    repository: Mapped[str] = mapped_column(primary_key=True)
    pipeline: Mapped[str] = mapped_column(primary_key=True)
    definition: Mapped[Plain] = mapped_column(JSON)


class ScheduleRow(Base):
    """The time of a schedule that was served last: each time makes one run, whoever sees it."""

    __tablename__ = "schedules"

    pipeline: Mapped[str] = mapped_column(primary_key=True)
    schedule: Mapped[str] = mapped_column(primary_key=True)
    served: Mapped[datetime]


class UpstreamRow(Base):
    """The run of another pipeline up to which a pipeline has dealt with all; as ``prep#12``, one above it
    that it has dealt with too, while an earlier one goes on.
    """

    __tablename__ = "upstreams"

    pipeline: Mapped[str] = mapped_column(primary_key=True)
    upstream: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[int]


class DeliveryRow(Base):
    """A webhook's delivery that was taken: the same one again is a replay."""

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)
    event: Mapped[str]
    repository: Mapped[str]
    received_at: Mapped[datetime] = mapped_column(index=True)


class StatusRow(Base):
    """The mark that a run owes to its commit, and what the forge was told last."""

    __tablename__ = "commit_statuses"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    context: Mapped[str] = mapped_column(primary_key=True)
    sent: Mapped[str]
    external_id: Mapped[str]
    tries: Mapped[int]
    not_before: Mapped[datetime | None]
    last_error: Mapped[str]


class ReportCommentRow(Base):
    """The one comment about a pipeline under a pull request, and what it says."""

    __tablename__ = "report_comments"

    repository: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    """``pull/7``, or ``commit/`` and its full name."""
    pipeline: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str]
    """What the forge calls it."""
    run_id: Mapped[int]
    """Whose report it holds; that run may have been removed since."""
    told: Mapped[str]
    """The hash of what it says."""
    changed_at: Mapped[datetime]


class DecisionRow(Base):
    """What a person said of a run that waited for it, or of an action of it."""

    __tablename__ = "decisions"
    __table_args__ = (_NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    action_id: Mapped[int | None] = mapped_column(index=True)
    decision: Mapped[str]
    who: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime]


class ServerRecord(Base):
    """A serving process."""

    __tablename__ = "servers"

    owner: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class SecretRow(Base):
    """A secret's value, encrypted with a key that is not in the database, bound to its name."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(primary_key=True)
    ciphertext: Mapped[str]
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    updated_by: Mapped[str]


class JournalRow(Base):
    """One line of history. ``run_id`` is the run that it belongs to, where there is one."""

    __tablename__ = "journal"
    __table_args__ = (_NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str]
    subject: Mapped[str]
    run_id: Mapped[int | None] = mapped_column(index=True)
    before: Mapped[str]
    after: Mapped[str]
    reason: Mapped[str]
