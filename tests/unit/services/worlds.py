"""A small world for the use cases: a real SQLite store, a fake engine, scripted sources and data."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import BinaryIO

from orchestrator.adapters.collectors import format_readers
from orchestrator.adapters.files.blobs import FolderBlobs
from orchestrator.adapters.files.checkpoints import FolderCheckpoints
from orchestrator.adapters.files.logs import FolderLogs
from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.activation import Activation, Answer, Command, HttpRequest, Probe, TcpConnect
from orchestrator.domain.change import Commit, FileEntry, LoggedCommit, PullRequest, Refs, Revision
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.environment import Environment
from orchestrator.domain.errors import (
    DatasetMoved,
    DatasetUnavailable,
    NotFound,
    RevisionGone,
    SecretMissing,
    SourceUnavailable,
    TransferCorrupted,
)
from orchestrator.domain.mailing import Refusal
from orchestrator.domain.pipeline import (
    DatasetSpec,
    Execution,
    HostSpec,
    NamedImage,
    Pipeline,
    RunnerSpec,
    SourceSpec,
)
from orchestrator.domain.run import Attempt, Run
from orchestrator.ports.engine import Engine
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.world import Listing, Lock, Snapshot
from orchestrator.services import naming
from orchestrator.services.act import Actor
from orchestrator.services.benchmark import Benchmarks
from orchestrator.services.checkpoints import Checkpoints
from orchestrator.services.choose import Chooser, HostLooks
from orchestrator.services.collect import OutputCollector
from orchestrator.services.deploying.deployer import Deployer
from orchestrator.services.deploying.gather import Gatherer
from orchestrator.services.deploying.restorer import Restorer
from orchestrator.services.deploying.site import Site
from orchestrator.services.detect import Detector
from orchestrator.services.dispatch import Dispatcher
from orchestrator.services.evaluate import Evaluator
from orchestrator.services.execute import ExecutionPorts
from orchestrator.services.fleet import ByName
from orchestrator.services.gpus import Gpus
from orchestrator.services.hardware import Hardware
from orchestrator.services.images import Images
from orchestrator.services.networks import Networks
from orchestrator.services.parts import PART
from orchestrator.services.predictions import RowReader
from orchestrator.services.prepare import Preparer
from orchestrator.services.reach import Reach
from orchestrator.services.recover import welcome
from orchestrator.services.report import ReportBuilder
from orchestrator.services.staging import Stager
from orchestrator.services.standing import waiting
from orchestrator.services.supply import ImageSupply
from orchestrator.store import SqlStore, open_store
from tests.support.fake_engine import FakeEngine
from tests.support.fake_stager import act_as_stager


class ManualClock:
    """Time that moves only when a test moves it; sleeping moves it, too."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        return self.now().timestamp()

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += timedelta(seconds=seconds)


def commit_id(text: str) -> str:
    """A commit's hash for a word."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass
class FakeSources:
    """Branches that tests move; every commit is its word's hash."""

    branches: dict[str, str] = field(default_factory=lambda: {"main": commit_id("first")})
    tags: dict[str, str] = field(default_factory=dict)
    pulls: list[PullRequest] = field(default_factory=list)
    messages: dict[str, str] = field(default_factory=dict)
    changed: dict[str, list[str]] = field(default_factory=dict)
    head: str | None = "main"
    down: bool = False
    vanished: set[str] = field(default_factory=set)
    troubled: set[str] = field(default_factory=set)
    """Commits that cannot be fetched now."""
    parents: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=lambda: {"train.py": b"print('hello')\n"})
    contents: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The files of commits that have others than ``files``."""

    def push(self, branch: str, word: str, *, rewrite: bool = False) -> str:
        new = commit_id(word)
        if branch in self.branches and not rewrite:
            self.parents[new] = self.branches[branch]
        self.branches[branch] = new
        return new

    def heads(self, source: SourceSpec) -> Mapping[str, str]:
        if self.down:
            raise SourceUnavailable(f"{source.location} does not answer")
        return dict(self.branches)

    def refs(self, source: SourceSpec) -> Refs:
        return Refs(self.heads(source), dict(self.tags), tuple(self.pulls), self.head)

    def commits(self, source: SourceSpec, older: str | None, newer: str, limit: int) -> Sequence[Commit]:
        found: list[Commit] = []
        at = newer
        while at != older and len(found) < limit:
            found.append(Commit(at, self.messages.get(at, "a subject")))
            if older is None or at not in self.parents:
                break
            at = self.parents[at]
        return found

    def changed_paths(self, source: SourceSpec, older: str, newer: str) -> Sequence[str] | None:
        return self.changed.get(newer, ["train.py"]) if self.is_ancestor(source, older, newer) else None

    def read(self, source: SourceSpec, commit: str, path: str, limit: int) -> bytes | None:
        return self.contents.get(commit, self.files).get(path)

    def merge_base(self, source: SourceSpec, one: str, other: str) -> str | None:
        at: str | None = one
        while at is not None and not self.is_ancestor(source, at, other):
            at = self.parents.get(at)
        return at

    def default_branch(self, source: SourceSpec) -> str | None:
        return self.head

    def fetch(self, source: SourceSpec, commit: str, branch: str) -> Revision:
        if commit in self.vanished:
            raise RevisionGone(f"{commit} is gone")
        if commit in self.troubled:
            raise SourceUnavailable(f"{source.location} broke off")
        return Revision(source.name, branch, commit, "a subject", "Ana", "ana@example.org")

    def resolve(self, source: SourceSpec, ref: str) -> Revision:
        if ref in self.tags:
            return self.fetch(source, self.tags[ref], f"refs/tags/{ref}")
        return self.fetch(source, self.branches.get(ref, ref), ref if ref in self.branches else "main")

    def checkout(self, source: SourceSpec, commit: str, into: Path) -> None:
        if commit in self.vanished:
            raise RevisionGone(f"{commit} is gone")
        for name, content in self.files.items():
            path = into / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def is_ancestor(self, source: SourceSpec, older: str, newer: str) -> bool:
        at: str | None = newer
        while at is not None and at != older:
            at = self.parents.get(at)
        return at == older

    def logged(self, source: SourceSpec, older: str, newer: str, limit: int) -> Sequence[LoggedCommit]:
        return [LoggedCommit(newer, "a subject", "Ada")]


@dataclass
class FakeData:
    """A dataset's files, and how long ago the newest of them changed.

    Of those that lie ``elsewhere`` the content is known once they are fetched.
    """

    clock: ManualClock
    files: dict[str, bytes] = field(default_factory=lambda: {"rows.csv": b"1,2\n"})
    changed_at: datetime | None = None
    missing: bool = False
    elsewhere: bool = False
    whole: bool = True

    def write(self, name: str, content: bytes) -> None:
        self.files[name] = content
        self.changed_at = self.clock.now()

    def look(self, dataset: DatasetSpec) -> Listing:
        if self.missing:
            raise DatasetUnavailable(f"{dataset.path} is not there")
        text = "".join(f"{n}:{len(c)}:{hash(c)};" for n, c in sorted(self.files.items()))
        newest = self.changed_at or self.clock.now() - timedelta(days=1)
        return Listing(text, len(self.files), sum(map(len, self.files.values())), newest, self.whole)

    def snapshot(self, dataset: DatasetSpec, known: Sequence[FileEntry], progress: ProgressSink) -> Snapshot:
        entries = tuple(self._entry(n, c) for n, c in sorted(self.files.items()))
        fingerprint = hashlib.sha256(repr(entries).encode()).hexdigest()
        return Snapshot(fingerprint, entries, self.look(dataset))

    def _entry(self, name: str, content: bytes) -> FileEntry:
        known = hashlib.sha256(content).hexdigest()
        if self.elsewhere:
            return FileEntry(name, len(content), "", f"etag:{known[:8]}")
        return FileEntry(name, len(content), known)

    def materialise(
        self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink
    ) -> tuple[FileEntry, ...]:
        if self.elsewhere and self.missing:
            raise DatasetUnavailable(f"{dataset.path} does not answer")
        found = []
        for entry in entries:
            content = self.files.get(entry.path, b"")
            if self.elsewhere and self._entry(entry.path, content) != entry:
                raise DatasetMoved(f"{entry.path} changed")
            found.append(replace(entry, sha256=entry.sha256 or hashlib.sha256(content).hexdigest()))
        return tuple(found)

    def archive(self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink) -> BinaryIO:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for entry in entries:
                content = self.files.get(entry.path, b"")
                if hashlib.sha256(content).hexdigest() != entry.sha256:
                    raise DatasetMoved(f"{entry.path} changed")
                member = tarfile.TarInfo(entry.path)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        buffer.seek(0)
        return buffer

    def part(self, dataset: DatasetSpec, entry: FileEntry, offset: int, size: int) -> BinaryIO:
        content = self.files.get(entry.path, b"")
        if len(content) != entry.size:
            raise DatasetMoved(f"{entry.path} has another size")
        return io.BytesIO(content[offset : offset + size])

    def verify(self, dataset: DatasetSpec, entries: Sequence[FileEntry]) -> None:
        for entry in entries:
            if hashlib.sha256(self.files.get(entry.path, b"")).hexdigest() != entry.sha256:
                raise DatasetMoved(f"{entry.path} changed")


class FakeSecrets:
    """Secrets from a dictionary."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)

    def resolve(self, names: Iterable[str]) -> Mapping[str, str]:
        wanted = list(names)
        missing = [n for n in wanted if n not in self.values]
        if missing:
            raise SecretMissing(f"no value for {', '.join(missing)}")
        return {n: self.values[n] for n in wanted}


class FakeProcesses:
    """This process, and others that tests declare dead."""

    def __init__(self, name: str = "me") -> None:
        self.name = name
        self.dead: set[str] = set()

    def this(self) -> str:
        return self.name

    def is_dead(self, owner: str) -> bool:
        return owner in self.dead


def serves(probe: Probe) -> Answer:
    """What a service answers that is well."""
    return Answer(200 if isinstance(probe, HttpRequest) else 0, "ok")


class FakeTarget:
    """One server's releases in memory. ``faults`` are raised by the method of that name, one each call."""

    def __init__(self) -> None:
        self.releases: dict[str, dict[str, bytes]] = {}
        self.live: str | None = None
        self.calls: list[str] = []
        self.faults: dict[str, list[BaseException]] = {}
        self.late: dict[str, list[BaseException]] = {}
        self.before: Callable[[str], None] = lambda call: None
        self.has_shell = True
        self.answer: Callable[[Probe], Answer] = serves
        self.told: list[tuple[str, str, Mapping[str, str]]] = []
        self.spared: Collection[str] = ()

    def __enter__(self) -> FakeTarget:
        self._called("connect")
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def current(self) -> str | None:
        return self.live

    def upload(
        self,
        release: str,
        files: Sequence[ReleaseFile],
        read: Callable[[ReleaseFile], BinaryIO],
        progress: ProgressSink,
    ) -> None:
        self._called("upload")
        if release != self.live:
            self.releases[release] = {}
            for file in files:
                with read(file) as stream:
                    self.releases[release][file.path] = stream.read()
        self._done("upload")

    def verify(self, release: str, files: Sequence[ReleaseFile]) -> None:
        self._called("verify")
        there = {n: hashlib.sha256(c).hexdigest() for n, c in self.releases[release].items()}
        if there != {file.path: file.sha256 for file in files}:
            raise TransferCorrupted(f"{release} is not what was sent")
        self._done("verify")

    def activate(self, release: str) -> str | None:
        self._called("activate")
        before, self.live = self.live, release
        self._done("activate")
        return before

    def discard(self, release: str) -> None:
        self.releases.pop(release, None)

    def verified(self) -> Sequence[str]:
        self._called("verified")
        return sorted(self.releases)

    def withdraw(self, release: str) -> None:
        self._called("withdraw")
        if self.live == release:
            self.live = None

    @property
    def shell(self) -> bool:
        return self.has_shell

    def run(self, command: Command, release: str, variables: Mapping[str, str]) -> Answer:
        self._called(f"run {command}")
        self.told.append((str(command), release, variables))
        return self.answer(command)

    def ask(self, probe: HttpRequest | TcpConnect, timeout: float) -> Answer:
        self._called(f"ask {probe}")
        return self.answer(probe)

    def prune(self, keep: int, spare: Collection[str] = ()) -> Sequence[str]:
        self._called("prune")
        self.spared = spare
        return []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)
        if self.faults.get(name):
            raise self.faults[name].pop(0)

    def _done(self, name: str) -> None:
        if self.late.get(name):
            raise self.late[name].pop(0)


class FakeServers:
    """The server ``prod``, and others that tests add."""

    def __init__(self) -> None:
        self.prod = FakeTarget()
        self.targets = {"prod": self.prod}
        self.activations: dict[str, Activation] = {}

    def add(self, *names: str) -> None:
        self.targets |= {name: FakeTarget() for name in names}

    def target(self, server: str) -> FakeTarget:
        if server not in self.targets:
            raise NotFound(f"there is no server {server}")
        return self.targets[server]

    def keep(self, server: str) -> int:
        return 5

    def activation(self, server: str) -> Activation:
        return self.activations.get(server, Activation())


class FakeMailer:
    """A mail server that keeps what it gets."""

    sender = "CI <ci@example.org>"

    def __init__(self) -> None:
        self.sent: list[EmailMessage] = []
        self.faults: list[BaseException] = []
        self.late: list[BaseException] = []
        self.refusals: list[list[Refusal]] = []
        self.asked: list[tuple[str, ...]] = []

    def send(self, message: EmailMessage, to: Sequence[str] = ()) -> Sequence[Refusal]:
        if self.faults:
            raise self.faults.pop(0)
        self.sent.append(message)
        self.asked.append(tuple(to))
        if self.late:
            raise self.late.pop(0)
        return self.refusals.pop(0) if self.refusals else []


class Killed(BaseException):
    """The process dies here: nothing catches it."""


def pipeline(**changes: object) -> Pipeline:
    """A small pipeline; any field may be given anew."""
    values: dict[str, object] = {
        "name": "wine",
        "sources": (SourceSpec("repo", "/repo"),),
        "runner": RunnerSpec("cpu", NamedImage("image:1")),
        "execution": Execution(("sh", "-c", "python train.py")),
        "deploy_branches": ("main",),
    } | changes
    return Pipeline(**values)  # type: ignore[arg-type]


class World:
    """Everything wired for one pipeline's life. ``server()`` makes another server on the same database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.sources = FakeSources()
        self.data = FakeData(self.clock)
        self.secrets = FakeSecrets({})
        self.store: SqlStore = open_store(f"sqlite:///{folder / 'db.sqlite'}")
        self.engine = FakeEngine(self.store.instance)
        self.engines: dict[str, FakeEngine] = {"local": self.engine}
        self.blobs = FolderBlobs(folder / "blobs")
        self.logs = FolderLogs(folder / "logs")
        self.checkpoints = FolderCheckpoints(folder / "checkpoints")
        self.supply = ImageSupply()
        self.part = PART
        self.filling: Callable[[str, str], Lock] = lambda host, volume: threading.Lock()
        """The lock that servers share while they fill a volume."""
        act_as_stager(self.engine)
        self.hosts: tuple[HostSpec, ...] = (HostSpec("local", "unix:///x", 2),)
        self.detector = Detector(self.store, self.sources, self.data, self.clock)
        rows = RowReader(self.store, self.blobs, format_readers())
        self.evaluator = Evaluator(self.store, self.clock, self.sources, rows)
        self.woken = threading.Event()
        self.servers = FakeServers()
        self.environments: dict[str, Environment] = {}
        self.mailer: FakeMailer | None = FakeMailer()
        self.reports = ReportBuilder(self.store, self.sources, self.logs, "http://ci.example.org", self.clock)
        self.stopping = threading.Event()
        self.progress: list[ProgressEvent] = []
        self.no_room: Callable[[str], str | None] = lambda host: None
        self.state_lack: str | None = None
        self.full: Callable[[str], str | None] = lambda host: None
        self._dispatchers: list[Dispatcher] = []

    def restart(self) -> None:
        """A new process, which remembers nothing but what is stored."""
        self.detector = Detector(self.store, self.sources, self.data, self.clock)

    def close(self) -> None:
        """Let all servers go, so that no thread outlives its test."""
        for engine in self.engines.values():
            engine.restore()
            for container in list(engine.containers):
                engine.stop(container, 0)
        for dispatcher in self._dispatchers:
            assert dispatcher.drain(10), "a worker did not let go"
        self.store.close()

    def actor(self, owner: str = "me") -> Actor:
        gatherer = Gatherer(self.store, self.data, self.reports, ReportRenderer(), self.progress.append)
        site = Site(self.store, self.servers, self.clock, self.progress.append)
        deployer = Deployer(
            self.store,
            self.blobs,
            self.servers,
            gatherer,
            self.clock,
            self.progress.append,
            self.environments,
            site,
        )
        restorer = Restorer(
            self.store, self.blobs, self.servers, gatherer, self.clock, site, self.environments
        )
        return Actor(
            self.store,
            {"deploy": deployer, "rollback": restorer},
            self.reports,
            ReportRenderer(),
            self.mailer,
            self.clock,
            owner,
            "ci.example.org",
            self.stopping,
        )

    def server(
        self,
        processes: FakeProcesses | None = None,
        wants: Callable[[int], bool] = lambda run_id: True,
    ) -> Dispatcher:
        networks = Networks(self.store.instance, self.hosts, self.clock)
        gpus = self.gpus = Gpus(self.hosts, self.engines, self.store, self.clock, self.supply)
        preparer = Preparer(
            self.store,
            self.sources,
            Stager(
                self.store,
                self.data,
                self.supply,
                ByName(self.hosts),
                self.clock,
                "me",
                self.part,
                self.filling,
            ),
            Images(self.store.instance, "me", self.clock),
            self.supply,
            networks,
            gpus,
            self.folder / "scratch",
        )
        outputs = OutputCollector(self.blobs, format_readers())
        ports = ExecutionPorts(
            self.store,
            preparer,
            networks,
            gpus,
            outputs,
            Benchmarks(preparer, outputs, self.blobs, gpus, self.clock, self.folder / "scratch"),
            self.logs,
            self.secrets,
            self.clock,
            Reach(self.engines, self.clock, True, self.store.hosts, self._returned),
            {host.name: host for host in self.hosts},
            Checkpoints(self.store, self.checkpoints, lambda: self.state_lack),
            Hardware(self.clock),
            lambda host: self.full(host),
        )
        looks = HostLooks(
            why_silent=ports.reach.why_not, no_room=lambda host: self.no_room(host), gpus=gpus.on
        )
        self.chooser = Chooser(self.store, self.hosts, self.clock, looks)
        made = Dispatcher(
            ports,
            self.chooser,
            self.engines,
            processes or FakeProcesses(),
            self._progress_for,
            self.woken.set,
            wants,
        )
        self._dispatchers.append(made)
        return made

    def add_host(self, name: str, **spec: object) -> FakeEngine:
        """One more host, before a server is made; its engine. It is wanted less than those before it."""
        engine = self.engines[name] = FakeEngine(self.store.instance)
        act_as_stager(engine)
        self.hosts = (*self.hosts, HostSpec(name, f"unix:///{name}", **spec))  # type: ignore[arg-type]
        return engine

    def waiting(self, run: Run) -> list[str]:
        """Why a run is not further, as the last server sees it."""
        return waiting(self.store, self.chooser, self.clock.now(), run, served=True)

    def _returned(self, host: str, engine: Engine) -> None:
        (spec,) = (spec for spec in self.hosts if spec.name == host)
        welcome(self.store, engine, spec, self.clock.now())

    def _progress_for(self, attempt: Attempt) -> Callable[[ProgressEvent], None]:
        return self.progress.append

    def _unended(self, run: Run) -> list[Attempt]:
        return [a for a in self.store.attempts.of_run(run.id) if not a.state.final]

    def name_of(self, run: Run, replicate: int = 0, number: int = 1) -> str:
        """What the container of an attempt is, or will be, called."""
        (attempt,) = [
            a for a in self.store.attempts.of_run(run.id) if (a.replicate, a.number) == (replicate, number)
        ]
        return naming.container_name(self.store.instance, attempt.id)

    def first_run(self, made_of: Pipeline) -> Run:
        """Let the pipeline see its source for the first time."""
        (run,) = self.detector.poll_source(made_of, made_of.sources[0])
        return run

    def finish(self, run: Run, dispatcher: Dispatcher, seconds: float = 10.0) -> Run:
        """Tick until a run has ended. Time passes fast enough for retries to be due."""

        deadline = time.monotonic() + seconds
        while True:
            self.woken.clear()
            dispatcher.tick()
            self.evaluator.tick()
            if self.store.runs.get(run.id).state.final:
                break
            assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {run.title} to end"
            if all(a.not_before and not a.state.active for a in self._unended(run)):
                self.clock.advance(5)
            elif any(a.state.active for r in self.store.runs.unfinished() for a in self._unended(r)):
                # A worker that ends wakes the server.
                self.woken.wait(0.2)
            else:
                # What is waited for is a host that is being asked, and is asked now and then.
                self.woken.wait(0.01)
                self.clock.advance(1)
        return self.store.runs.get(run.id)
