"""A Pipeline as the services see it: what to watch, how to train, how to judge, what to do next.

Durations are in seconds, sizes in bytes. Secrets appear by name only.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import ActionSpec
from orchestrator.domain.baseline import BaselineSpec, Selector
from orchestrator.domain.change import DatasetRole, PullRequest
from orchestrator.domain.gate import Gate
from orchestrator.domain.globs import last_decides
from orchestrator.domain.metrics import Direction, infer_direction
from orchestrator.domain.space import NO_RESERVE, Reserve

GIB = 1 << 30


def _named(name: str, rules: Sequence[str]) -> bool:
    return last_decides(rules, lambda pattern: fnmatch.fnmatchcase(name, pattern))


@dataclass(frozen=True, slots=True)
class PullRequestRules:
    """Which pull requests run.

    ``bases`` are branches that they are to be merged into, names or patterns; none: the watched branches.
    ``trusted`` are ids of users whose pull requests from forks need nobody's approval.
    """

    bases: tuple[str, ...] = ()
    forks: bool = True
    drafts: bool = False
    trusted: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A watched repository.

    ``location`` is a URL or an absolute path; ``branches`` and ``tags`` are names or fnmatch patterns, ``!``
    before those that do not count, the last that fits decides.
    """

    name: str
    location: str
    branches: tuple[str, ...] = ("main",)
    poll: float = 60.0
    github: str = ""
    """``owner/name`` when it is watched by GitHub's API; empty: by Git alone."""
    tags: tuple[str, ...] = ()
    pull_requests: PullRequestRules | None = None
    paths: tuple[str, ...] = ()
    """Patterns of files that count, ``!`` before those that do not, the last that matches decides; none: all.
    """
    every_commit: bool = False
    """Whether each commit of a push gets a run, not the newest alone."""
    settle: float = 0.0
    """Seconds that a ref must be still before it counts, so that a burst of pushes makes one run."""
    min_interval: float = 0.0
    """Seconds between two runs of a ref at least; what comes earlier waits."""
    submodules: bool = False
    lfs: bool = False
    strangers: bool = False
    """Whether the commits are of people who are not to be trusted: what these name is not logged in to."""

    def watches(self, branch: str) -> bool:
        """Whether a push to that branch matters. A branch that is called like a tag's full name never does:
        it would be taken for the tag.
        """
        return not branch.startswith("refs/") and _named(branch, self.branches)

    def watches_tag(self, tag: str) -> bool:
        """Whether a tag of that short name matters."""
        return bool(self.tags) and _named(tag, self.tags)

    def watches_pull(self, pull: PullRequest) -> bool:
        """Whether a pull request matters."""
        rules = self.pull_requests
        if rules is None or (pull.fork and not rules.forks) or (pull.draft and not rules.drafts):
            return False
        return _named(pull.base, rules.bases) if rules.bases else self.watches(pull.base)


class DatasetKind(StrEnum):
    """Where watched data lie."""

    FOLDER = "folder"
    HTTP = "http"
    S3 = "s3"
    GCS = "gcs"
    SFTP = "sftp"
    HUGGING_FACE = "hf"
    DVC = "dvc"
    SQL = "sql"


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Watched data.

    ``path`` is the absolute path of a folder, or the address of what lies elsewhere. ``settle``: how long it
    must be still before it is a version. Credentials are never part of it.
    """

    name: str
    path: str
    role: DatasetRole = DatasetRole.TRAIN
    poll: float = 30.0
    settle: float = 10.0
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    kind: DatasetKind = DatasetKind.FOLDER
    marker: str = ""
    """A file in it that says that it is whole; without it there, or with it older than what it stands for,
    the data are being written. Empty: they are whole once they are still."""
    options: tuple[tuple[str, str], ...] = ()
    """What its kind needs besides, none of it secret: ``endpoint``, ``revision``, ``query``."""

    @property
    def key(self) -> str:
        """What identifies the data whatever they are called: 16 hexadecimal digits over where and which."""
        text = "\0".join((self.path, *self.include, "", *self.exclude))
        if self.kind is not DatasetKind.FOLDER:
            text += "\0".join(("", self.kind, *(part for option in self.options for part in option)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def variable(self) -> str:
        """The environment variable that tells a container the path: ``MLCI_DATA_WINE_TEST``."""
        return "MLCI_DATA_" + "".join(c if c.isalnum() else "_" for c in self.name.upper())


class Network(StrEnum):
    """What a container may reach."""

    BRIDGE = "bridge"
    """A network of its own with a way out."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of one container.

    ``cpus`` in cores, the others in bytes or processes; None: the engine's own limit.

    ``gpus`` is how many GPUs it has for itself: each one of ``gpu_model``, as far as that is given, and with
    ``gpu_memory`` bytes at least.
    """

    cpus: float | None = None
    memory: int | None = None
    shm_size: int = GIB
    pids: int = 512
    gpus: int = 0
    gpu_model: str = ""
    gpu_memory: int | None = None


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image by name: on the host already, or pulled."""

    name: str
    kind: str = "named"


@dataclass(frozen=True, slots=True)
class FolderImage:
    """An image built from a folder of the administrator's with a Dockerfile (absolute path)."""

    folder: str
    kind: str = "folder"


@dataclass(frozen=True, slots=True)
class RepositoryImage:
    """An image built from the watched repository's own Dockerfile, at the run's commit."""

    dockerfile: str = "Dockerfile"
    kind: str = "repository"


ImageSpec = NamedImage | FolderImage | RepositoryImage


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """Where and in what a run executes. ``uid`` and ``gid`` own the workspace and run the command."""

    name: str
    image: ImageSpec
    resources: Resources = Resources()
    host_names: tuple[str, ...] = ()
    host_labels: tuple[tuple[str, str], ...] = ()
    network: Network = Network.BRIDGE
    uid: int = 1000
    gid: int = 1000


class Protection(StrEnum):
    """What a container with a network must not reach from a host."""

    HOST = "host"
    """The host itself, other containers and the cloud's metadata."""
    PRIVATE = "private"
    """These and all private networks."""
    NONE = "none"


HELPER_IMAGE = "mlci/base:1"
"""What the orchestrator's own small containers on a host run in: it has a shell and ``ip``."""


DOCKER_SOCKET = "/var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class SshSpec:
    """How to reach an engine on another machine. What is None is left to the user's ssh_config.

    ``socket`` is the engine's, there; the other paths are absolute and here. ``proxy_jump`` is as ``ssh -J``
    takes it. ``known_hosts`` replaces the keys that the orchestrator keeps itself.
    """

    hostname: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    proxy_jump: str | None = None
    known_hosts: str | None = None
    config: str | None = None
    socket: str = DOCKER_SOCKET

    def __str__(self) -> str:
        """``ssh://ci@lab1:2222``, for people."""
        user = f"{self.user}@" if self.user else ""
        name = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"ssh://{user}{name}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A Docker engine that runs attempts, at most ``slots`` at a time.

    ``engine`` is the address of its socket on this machine, or for people where ``ssh`` tells the way.
    ``reachable`` are addresses and networks that its containers may reach in spite of ``protection``.
    """

    name: str
    engine: str
    slots: int = 1
    labels: tuple[tuple[str, str], ...] = ()
    protection: Protection = Protection.HOST
    reachable: tuple[str, ...] = ()
    helper_image: str = HELPER_IMAGE
    min_free: Reserve = NO_RESERVE
    """Room that is to stay free where the engine keeps its data."""
    ssh: SshSpec | None = None
    """The way to an engine on another machine."""
    lost_after: float = 600.0
    """Seconds without an answer after which the attempts on it are given up."""
    gpus: tuple[str, ...] | None = None
    """UUIDs of the GPUs that runs may use; None: all that are found."""
    cpus: float | None = None
    """Cores that runs may use together; None: those that the engine has."""
    memory: int | None = None
    """Bytes that runs may use together; None: what the engine has."""
    data_budget: int | None = None
    """Bytes that staged datasets may take; None: no limit."""
    data: tuple[tuple[str, str], ...] = ()
    """Datasets that it has already, with the folders there."""


def eligible_hosts(
    runner: RunnerSpec, hosts: Sequence[HostSpec], wish: str | None = None
) -> tuple[HostSpec, ...]:
    """The hosts that may execute this runner's attempts, most wanted first.

    A person's wish leaves only that host.
    """
    if wish is not None:
        return tuple(h for h in hosts if h.name == wish)
    if runner.host_names:
        by_name = {h.name: h for h in hosts}
        return tuple(by_name[name] for name in runner.host_names if name in by_name)
    return tuple(h for h in hosts if set(runner.host_labels) <= set(h.labels))


@dataclass(frozen=True, slots=True)
class Setup:
    """A command whose result is kept as an image layer, keyed by the contents of the ``key`` files."""

    command: tuple[str, ...]
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Execution:
    """How one attempt runs.

    ``command`` is an argument list; ``secrets`` are names put into the environment.
    """

    command: tuple[str, ...]
    setup: Setup | None = None
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    timeout: float = 24 * 3600.0
    infrastructure_retries: int = 2
    log_limit: int = 2 * GIB
    checkpoint_copy: float | None = None
    """Seconds between two copies of the checkpoint to where another host can have it; None: no copies."""


class Scale(StrEnum):
    """How values of a metric are compared."""

    LINEAR = "linear"
    LOG_RATIO = "log_ratio"
    """By the logarithm of their ratio, as durations are."""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What is declared about one metric."""

    name: str
    direction: Direction | None = None
    unit: str = ""
    scale: Scale = Scale.LINEAR
    predictions: str = ""
    """The artifact with a prediction for each row of the evaluation data, from which it is computed."""
    row_id: str = ""
    """The column of the predictions that names the row."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an attempt may leave behind. Sizes in bytes; whatever exceeds them is listed, not kept."""

    files: int = 1000
    file_size: int = 2 * GIB
    total_size: int = 4 * GIB
    metrics: int = 50_000
    series: int = 2_000
    points: int = 500_000
    """Of all series together; longer ones are thinned out, so that their shape stays."""
    params: int = 5_000
    plots: int = 500


@dataclass(frozen=True, slots=True)
class CollectSpec:
    """How a declared file, or with ``file`` empty the program's output, is read where its name does not tell.

    ``file`` is a pattern as in ``Pipeline.collect``, where it stands as well. ``expression`` is a regular
    expression with named groups; ``format`` is the name of a reader; without both, lines are read that are a
    JSON object.
    """

    file: str = ""
    expression: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times at which a pipeline runs: five fields of cron, in a zone of the IANA's database."""

    cron: str
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Looks:
    """How the replicates of a run are trained: all at once, or in looks, until the verdict is fixed.

    ``counts`` are the replicates that there are at each look, rising; none: one look at all of them.
    ``max_failed`` replicates may crash without the run failing; ``pair_seeds`` gives candidate and baseline
    the same seeds. ``budget`` is how many seconds all attempts together may train before no further look is
    begun; None: no limit.
    """

    counts: tuple[int, ...] = ()
    max_failed: int = 0
    pair_seeds: bool = False
    budget: float | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A command of the user's that computes metrics from a run's artifacts, in a container of its own.

    ``command`` is an argument list; the artifacts are at ``$MLCI_ARTIFACTS``, read-only, and what it leaves
    in ``$MLCI_OUTPUT_DIR`` is collected as usual. ``metrics`` are those that it must leave. It executes in
    the image of the attempt.
    """

    command: tuple[str, ...]
    metrics: tuple[str, ...]
    timeout: float = 3600.0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One definition, frozen into each Run that it makes."""

    name: str
    sources: tuple[SourceSpec, ...]
    runner: RunnerSpec
    execution: Execution
    project: str = "default"
    datasets: tuple[DatasetSpec, ...] = ()
    deploy_branches: tuple[str, ...] = ()
    cancel_in_progress: bool = False
    cancel_grace: float = 10.0
    """Seconds that a command has to end by itself when its run is cancelled."""
    concurrency: int | None = None
    """Most runs of it that go at the same time; None: as many as there are slots."""
    priority: int = 0
    """The greater goes first where several wait."""
    replicates: int = 1
    """The most that a change is trained; see ``looks``."""
    looks: Looks = Looks()
    baselines: tuple[BaselineSpec, ...] = ()
    benchmark: Benchmark | None = None
    collect: tuple[str, ...] = ()
    """Files of metrics that must be there."""
    readings: tuple[CollectSpec, ...] = ()
    metrics: tuple[MetricSpec, ...] = ()
    artifacts: tuple[str, ...] = ()
    limits: Limits = Limits()
    gate: Gate = field(default_factory=Gate)
    actions: tuple[tuple[Trigger, ActionSpec], ...] = ()
    schedules: tuple[Schedule, ...] = ()
    after: tuple[str, ...] = ()
    """Pipelines after whose passed runs this one runs."""
    untrusted: bool = False
    """Whether people may have written its code who are not to be trusted: no secrets, nothing shared."""

    def baseline_of(self, selector: Selector) -> BaselineSpec:
        """What a selector stands for: the declared baseline of that name, else one of the selector alone."""
        named = next((b for b in self.baselines if b.name == str(selector)), None)
        return named or BaselineSpec(str(selector), selector)

    def direction_of(self, metric: str) -> Direction | None:
        """The declared direction, or the one that the name says, or None."""
        for spec in self.metrics:
            if spec.name == metric and spec.direction is not None:
                return spec.direction
        return infer_direction(metric)

    def unit_of(self, metric: str) -> str:
        """The declared unit; empty where none is."""
        return next((spec.unit for spec in self.metrics if spec.name == metric), "")

    def source_named(self, name: str) -> SourceSpec | None:
        """The source of that name, or None."""
        return next((s for s in self.sources if s.name == name), None)

    def dataset_named(self, name: str) -> DatasetSpec | None:
        """The dataset of that name, or None."""
        return next((d for d in self.datasets if d.name == name), None)
