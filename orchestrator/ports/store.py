"""The database as the services see it.

Every method is one short transaction and thread-safe; none does network input or output. Times come in as
arguments, aware and in UTC. Each change of a state is guarded (``UPDATE ... WHERE id AND state AND lease
token``) and writes its journal row in the same transaction. All raise StoreUnavailable when the database does
not answer; the guarded ones LeaseLost when the row is no longer as the caller believes, IllegalTransition
when the tables in ``domain`` forbid it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import ActionSpec
from orchestrator.domain.change import DatasetVersion, FileEntry
from orchestrator.domain.deployment import Deployment, DeploymentState
from orchestrator.domain.gate import Verdict
from orchestrator.domain.gpu import Gpu
from orchestrator.domain.mailing import Delivery
from orchestrator.domain.manifest import Manifest
from orchestrator.domain.metrics import Metric
from orchestrator.domain.model_registry import ModelVersion, Stage
from orchestrator.domain.pipeline import DatasetSpec, Pipeline
from orchestrator.domain.placement import NO_TERMS, Terms
from orchestrator.domain.run import Attempt, AttemptState, Reason, Run, RunState, StopCause
from orchestrator.domain.tabular import TableFacts
from orchestrator.ports.baselines import Baselines, NewUse
from orchestrator.ports.comments import ReportComments
from orchestrator.ports.findings import Findings
from orchestrator.ports.hooks import Approvals, Decision, Deliveries, Ruling, Statuses
from orchestrator.ports.hosts import Hosts
from orchestrator.ports.queue import Queue
from orchestrator.ports.records import (
    AttemptResult,
    DatasetWatch,
    JournalEntry,
    Lease,
    Move,
    NewAction,
    NewRun,
    OutboxMessage,
    QueuedAttempt,
    ServerRow,
    StagedVolume,
    Standing,
    StoredArtifact,
    Told,
)
from orchestrator.ports.retention import Retention
from orchestrator.ports.secrets import SecretRows
from orchestrator.ports.upkeep import Upkeep
from orchestrator.ports.watches import Occasions, Watches


class Detection(Protocol):
    """What was seen of sources and datasets."""

    def heads(self, pipeline: str, source: str) -> Mapping[str, str]:
        """The branches and commits that this pipeline has seen of a source (by its name)."""

    def head_counts(self, pipeline: str, source: str) -> Mapping[str, tuple[str | None, int]]:
        """The same, with those that are gone (None), and with how often each has moved."""

    def data_counts(self, pipeline: str) -> Mapping[str, tuple[str, int]]:
        """The dataset fingerprints, by dataset name, with how often each has moved."""

    def data_heads(self, pipeline: str) -> Mapping[str, str]:
        """The dataset fingerprints, by dataset name, that this pipeline has seen."""

    def dataset_watch(self, dataset: DatasetSpec) -> DatasetWatch | None:
        """What is remembered of a dataset (by its ``key``), or None before the first look."""

    def save_dataset_watch(self, dataset: DatasetSpec, watch: DatasetWatch) -> None:
        """Remember it."""

    def record_version(
        self, dataset: DatasetSpec, fingerprint: str, entries: Sequence[FileEntry], at: datetime
    ) -> DatasetVersion:
        """Store a version with its manifest, numbered within its dataset; the same fingerprint keeps its
        number.
        """

    def version(self, dataset: DatasetSpec, fingerprint: str) -> DatasetVersion | None:
        """A stored version, or None."""

    def versions(self, dataset: DatasetSpec, newest: int | None = None) -> Sequence[DatasetVersion]:
        """The stored versions, oldest first; only so many of the ``newest`` where that is given."""

    def manifest(self, dataset: DatasetSpec, fingerprint: str) -> Manifest:
        """The files of a stored version, by path. NotFound when it is not stored."""

    def record_tables(self, dataset: DatasetSpec, fingerprint: str, tables: Mapping[str, TableFacts]) -> None:
        """Store what files of a version, by path, look like as tables. Nothing when it is not stored."""

    def tables(self, dataset: DatasetSpec, fingerprint: str) -> Mapping[str, TableFacts]:
        """What is stored of the tables of a version, by path."""


class Runs(Protocol):
    """Runs with their changes."""

    def enqueue(
        self,
        new: NewRun | None,
        moves: Sequence[Move],
        pipeline: str,
        at: datetime,
        told: Sequence[Told] = (),
    ) -> Run | None:
        """Record moves and, when ``new`` is given, the Change, the Run, its attempts and start actions.

        The run is QUEUED, or AWAITING_APPROVAL, and then without attempts and actions. Runs of the same
        branch that still await approval end with it, as those of a pull request do that is gone.

        All in one transaction with the lines that tell of it, guarded by what each move says was there
        before: when any of it is no longer so, somebody else saw the move first; nothing is written and None
        returned. The same where the pipeline has a run for what ``new.once`` names. None is returned as well,
        with the moves written, when ``new`` is None.
        """

    def get(self, run_id: int) -> Run:
        """NotFound when there is none."""

    def find(self, reference: str) -> Run:
        """By id (``12``) or by pipeline and number (``wine-quality#42``). NotFound."""

    def definition(self, run_id: int) -> Pipeline:
        """The pipeline as it was frozen into the run."""

    def listing(
        self,
        pipeline: str | None = None,
        states: Sequence[RunState] = (),
        branch: str | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> Sequence[Run]:
        """Runs, newest first; ``before`` is a run id to page on from."""

    def unfinished(self) -> Sequence[Run]:
        """All runs that are not final, oldest first."""

    def newest_ended(self) -> Mapping[str, Run]:
        """The newest train run of each pipeline that has ended, by pipeline."""

    def moving(self) -> Sequence[Standing]:
        """The unfinished runs that have begun or are asked to end, oldest first."""

    def previous_state(self, run: Run) -> RunState | None:
        """The state of the last train run before it on the same pipeline and branch that passed, was rejected
        or failed. None as well for what is no train run itself: it mends and breaks nothing.
        """

    def passed_before(self, run: Run) -> Run | None:
        """The last train run before it on the same pipeline and branch that PASSED."""

    def metrics(self, run_id: int) -> Mapping[int, Sequence[Metric]]:
        """The metrics of the latest try of each replicate, by replicate.

        One that failed, or could not be executed, is left out where another one succeeded.
        """

    def deployed_ids(self, pipeline: str) -> Sequence[int]:
        """Ids of the runs of which a deployment is or was ACTIVE, oldest activation first."""

    def pins(self, pipeline: str) -> Mapping[str, int]:
        """Pinned baselines: name to run id."""

    def pin(self, pipeline: str, name: str, run_id: int, who: str, reason: str, at: datetime) -> None:
        """Pin a run as a baseline; an older pin of that name is replaced."""

    def unpin(self, pipeline: str, name: str, who: str, reason: str, at: datetime) -> None:
        """Take a pin away. NotFound when there is none of that name."""

    def move(
        self,
        run_id: int,
        before: RunState,
        after: RunState,
        at: datetime,
        reason: Reason | None = None,
        message: str = "",
        who: str = "",
        verdict: Verdict | None = None,
        actions: Sequence[NewAction] = (),
        through: RunState | None = None,
        uses: Sequence[NewUse] = (),
    ) -> Run:
        """Change a run's state, and with it record the verdict, the ``uses`` of evaluation data, each once,
        and the actions now owed. LeaseLost when a use's ``before`` is no longer so.

        ``through`` is a state in between, which is over as soon as it is entered.

        Entering a final state also cancels the run's attempts that are still QUEUED.
        """

    def add_try(self, run_id: int, replicate: int, number: int, not_before: datetime, at: datetime) -> None:
        """Enqueue another try of a replicate with the same seed; one that is there already stays as it is."""

    def begin_look(
        self,
        run_id: int,
        before: RunState,
        replicates: int,
        at: datetime,
        why: str = "",
        uses: Sequence[NewUse] = (),
    ) -> Run:
        """Enqueue the first tries of what a run lacks of so many replicates, which makes it RUNNING.

        ``why`` goes into the journal; ``uses`` are as for ``move``.

        LeaseLost when the run is not in the state ``before`` any more.
        """

    def request_cancel(self, run_id: int, who: str, reason: Reason, at: datetime) -> bool:
        """Ask for a run's end; False when it has ended already. The workers honour it."""

    def cancel_reason(self, run_id: int) -> Reason | None:
        """Why the run was asked to end, or None when it was not."""


class Attempts(Protocol):
    """Attempts, their leases, the slots of hosts, and what attempts left behind."""

    def of_run(self, run_id: int) -> Sequence[Attempt]:
        """All tries of all replicates, by replicate and number."""

    def get(self, attempt_id: int) -> Attempt:
        """NotFound when there is none."""

    def queued(self, at: datetime) -> Sequence[QueuedAttempt]:
        """Attempts that may be claimed now, oldest first."""

    def claim(
        self,
        attempt_id: int,
        host: str,
        slots: int,
        container: str,
        owner: str,
        at: datetime,
        seconds: float,
        gpus: Sequence[Gpu] = (),
        terms: Terms = NO_TERMS,
    ) -> Lease | None:
        """QUEUED to PREPARING on a free slot of the host, with the container's future name (the intent row).

        The run goes from QUEUED to RUNNING with its first attempt. ``gpus`` are the attempt's alone until it
        ends. None when no slot is free, one of them is another's, the terms do not hold, or somebody was
        faster.
        """

    def take_over(
        self,
        owner: str,
        dead: Sequence[str],
        at: datetime,
        seconds: float,
        wants: Callable[[int], bool] = lambda run_id: True,
    ) -> Sequence[Lease]:
        """Leases on active attempts that ran out, were released, or belong to an owner known to be dead.

        Only those of runs that are wanted; ``wants`` is called outside any transaction.
        """

    def lease_owners(self) -> Sequence[str]:
        """The owners of all leases that have not been released, on attempts, actions and mails."""

    def heartbeat(self, lease: Lease, at: datetime, seconds: float) -> Lease:
        """Extend a lease."""

    def release(self, lease: Lease) -> None:
        """Let go of an attempt that stays active, for the next server to take over at once; the slot stays
        taken.
        """

    def advance(
        self,
        lease: Lease,
        before: AttemptState,
        after: AttemptState,
        at: datetime,
        container_id: str = "",
        image_digest: str = "",
        hardware: str = "",
    ) -> Attempt:
        """Move between active states. Empty facts leave what is stored."""

    def note_stop(self, lease: Lease, cause: StopCause, at: datetime) -> None:
        """Write down that, and why, the container is about to be stopped by us; the first cause stays."""

    def finish(self, lease: Lease, before: AttemptState, result: AttemptResult, at: datetime) -> Attempt:
        """The final state with all that was left behind; frees the slot and ends the lease."""

    def artifacts(self, attempt_id: int) -> Sequence[StoredArtifact]:
        """What was kept, by path."""

    def left_out(self, attempt_id: int) -> Sequence[str]:
        """What was not kept, and why."""

    def slots_in_use(self) -> Mapping[str, int]:
        """Taken slots by host."""

    def taken(self) -> Mapping[int, tuple[str, int]]:
        """The host and the slot there of each attempt that has one."""

    def gpus_leased(self) -> Mapping[str, Mapping[str, int]]:
        """The attempt that has a GPU, by host and the GPU's UUID."""

    def is_staged(self, host: str, volume: str) -> bool:
        """Whether a dataset's volume on a host was filled and verified."""

    def mark_staged(
        self, host: str, volume: str, at: datetime, fingerprint: str = "", size: int | None = None
    ) -> None:
        """Write down that it was, with which dataset version and how many bytes.

        A folder of the host's own stands for a volume by its path, without bytes.
        """

    def staged_on(self, host: str) -> Sequence[StagedVolume]:
        """The volumes of a host that were filled and verified, and its own folders that were compared."""

    def forget_staged(self, host: str, volume: str) -> None:
        """It no longer is, as when the volume was removed. Repeating is fine."""


class Actions(Protocol):
    """Actions and the mails in the outbox."""

    def of_run(self, run_id: int) -> Sequence[Action]:
        """A run's actions in the order they were owed."""

    def pending(self, at: datetime) -> Sequence[Action]:
        """PENDING actions whose time has come, and RUNNING ones whose lease ran out, oldest first."""

    def get(self, action_id: int) -> Action:
        """NotFound when there is none."""

    def any_owed(self) -> bool:
        """Whether any action has not ended, or any mail is neither delivered nor given up."""

    def claim(self, action_id: int, owner: str, at: datetime, seconds: float) -> Lease | None:
        """PENDING (or RUNNING with a lease that ran out) to RUNNING; counts a try.

        None when somebody was faster.
        """

    def heartbeat(self, lease: Lease, at: datetime, seconds: float) -> Lease:
        """Extend a lease."""

    def finish(self, lease: Lease, after: ActionState, message: str, at: datetime) -> Action:
        """RUNNING to a final state."""

    def postpone(self, lease: Lease, not_before: datetime, message: str, at: datetime) -> Action:
        """RUNNING back to PENDING for a later try."""

    def wait(self, lease: Lease, not_before: datetime, why: str, at: datetime) -> Action:
        """RUNNING back to PENDING because something else has to happen first: this was no try."""

    def owe(self, run_id: int, spec: ActionSpec, who: str, reason: str, at: datetime) -> Action:
        """Add an action that a person asks for. NotFound when there is no such run."""

    def owe_progress(self, run_id: int, new: NewAction, at: datetime) -> bool:
        """Add an action to a run that has not ended; False when it has, or when it is owed already."""

    def said(self, lease: Lease, output: str, at: datetime) -> None:
        """Keep what was said on its behalf, in place of what was kept before."""

    def release_dead(self, dead: Sequence[str], at: datetime) -> None:
        """Let the leases of dead owners on actions and mails run out at once."""

    def finish_with_mail(
        self, lease: Lease, mail: OutboxMessage | None, message: str, at: datetime
    ) -> Action:
        """RUNNING to DONE and the mail into the outbox (its ``id`` is ignored; a known key adds nothing)."""

    def outbox_due(self, at: datetime) -> Sequence[OutboxMessage]:
        """Pending mails whose time has come and that nobody is sending."""

    def outbox_of_run(self, run_id: int) -> Sequence[OutboxMessage]:
        """All mails of a run."""

    def outbox_claim(self, message_id: int, owner: str, at: datetime, seconds: float) -> Lease | None:
        """The right to send it; counts a try."""

    def outbox_delivered(self, lease: Lease, at: datetime, so_far: Delivery | None = None) -> None:
        """It was handed over, to all who will ever have it; None: to all."""

    def outbox_postpone(
        self, lease: Lease, not_before: datetime, error: str, at: datetime, so_far: Delivery | None = None
    ) -> None:
        """It could not be sent now, or not to all; None: nobody more has it than before."""

    def outbox_give_up(self, lease: Lease, error: str, at: datetime, so_far: Delivery | None = None) -> None:
        """It will never be sent, or not to all."""


class Deployments(Protocol):
    """Deployments, guarded by the lease of the action that they belong to."""

    def of_action(self, action_id: int) -> Sequence[Deployment]:
        """The deployments that earlier tries of this action began, one for each server, oldest first."""

    def get(self, deployment_id: int) -> Deployment:
        """NotFound when there is none."""

    def of_run(self, run_id: int) -> Sequence[Deployment]:
        """All of a run."""

    def listing(self, server: str | None = None, limit: int = 50) -> Sequence[Deployment]:
        """Newest first."""

    def live(self, pipeline: str, server: str) -> Deployment | None:
        """The ACTIVE one of a pipeline on a server."""

    def in_state(self, state: DeploymentState) -> Sequence[Deployment]:
        """All that are in a state now, by pipeline, environment and server."""

    def before(self, live: Deployment) -> Deployment | None:
        """The newest that was live on the server before that release was made, and was not taken back."""

    def decide(self, action_id: int, ruling: Ruling, who: str, reason: str, at: datetime) -> Decision | None:
        """What a person says of a deployment that waits for approval; the action is due at once then.

        None, and nothing written, when it was decided before or has ended.
        """

    def decision(self, action_id: int) -> Decision | None:
        """What was said of it."""

    def nudge(self, run_id: int, at: datetime) -> None:
        """The run's actions that wait for something else may look again now."""

    def begin(
        self,
        lease: Lease,
        run: Run,
        server: str,
        release: str,
        at: datetime,
        environment: str = "",
    ) -> Deployment:
        """Write the row (QUEUED) before any act in the world.

        The one that an action has for the server already stays as it is.
        """

    def move(
        self,
        lease: Lease,
        deployment: Deployment,
        after: DeploymentState,
        at: datetime,
        message: str = "",
        *,
        previous: str | None = None,
        output: str | None = None,
        live: str | None = None,
    ) -> Deployment:
        """Change its state; entering ACTIVE retires the other ACTIVE ones on that server, of any pipeline.

        ``live`` is the release that was read as live there; "" when none was. The row that was retired and
        is of that release is ACTIVE again, and no other one stays so. None: it is not known, or its own.

        ``previous`` and ``output`` are kept with it unless they are None.
        """


class Models(Protocol):
    """Versions of models. A run that passed has one as soon as anybody asks."""

    def versions(self, pipeline: str | None = None, limit: int = 50) -> Sequence[ModelVersion]:
        """Newest first."""

    def of_run(self, run_id: int) -> ModelVersion | None:
        """The version that a run made; None when it did not pass."""

    def history(self, run_id: int) -> Sequence[tuple[Stage, datetime, datetime | None, str]]:
        """The stages that a run's version has and had: since when, until when, and why."""

    def move(self, run_id: int, stage: Stage, who: str, reason: str, at: datetime) -> None:
        """Give a run's version a stage, as ``domain.model_registry`` says. Nothing for a run without one."""


class Servers(Protocol):
    """Serving processes, so that commands know whether one is up."""

    def register(self, owner: str, url: str, at: datetime) -> None:
        """A server started."""

    def seen(self, owner: str, at: datetime) -> None:
        """It lives."""

    def unregister(self, owner: str) -> None:
        """It stopped in good order."""

    def all(self) -> Sequence[ServerRow]:
        """All that registered and did not unregister."""


class Journal(Protocol):
    """The history of every state."""

    def of_run(self, run_id: int) -> Sequence[JournalEntry]:
        """Everything about a run, its attempts, actions, deployments and mails, oldest first."""

    def latest(self, limit: int = 100) -> Sequence[JournalEntry]:
        """Newest first."""

    def of_subject(self, subject: str, limit: int = 100) -> Sequence[JournalEntry]:
        """The newest about a subject such as ``source wine/repository``, oldest of them first."""

    def head(self) -> int:
        """A number that grows with every entry: while it stays, no state has changed. As cheap as can be."""

    def note(self, who: str, subject: str, reason: str, at: datetime) -> None:
        """Write down what is no change of state."""


class Store(Protocol):
    """The whole database."""

    @property
    def instance(self) -> str:
        """This database's id, 32 hexadecimal digits: the instance label on everything made on hosts."""

    @property
    def detection(self) -> Detection: ...

    @property
    def runs(self) -> Runs: ...

    @property
    def attempts(self) -> Attempts: ...

    @property
    def baselines(self) -> Baselines: ...

    @property
    def actions(self) -> Actions: ...

    @property
    def deployments(self) -> Deployments: ...

    @property
    def models(self) -> Models: ...

    @property
    def findings(self) -> Findings: ...

    @property
    def servers(self) -> Servers: ...

    @property
    def hosts(self) -> Hosts: ...

    @property
    def queue(self) -> Queue: ...

    @property
    def secrets(self) -> SecretRows: ...

    @property
    def deliveries(self) -> Deliveries: ...

    @property
    def statuses(self) -> Statuses: ...

    @property
    def comments(self) -> ReportComments: ...

    @property
    def approvals(self) -> Approvals: ...

    @property
    def journal(self) -> Journal: ...

    @property
    def retention(self) -> Retention: ...

    @property
    def upkeep(self) -> Upkeep: ...

    @property
    def watches(self) -> Watches: ...

    @property
    def occasions(self) -> Occasions: ...

    def was_lost(self, attempt_id: int) -> bool:
        """Whether only a database that was lost, and replaced by a backup, can have known that attempt."""

    def close(self) -> None:
        """Free connections."""
