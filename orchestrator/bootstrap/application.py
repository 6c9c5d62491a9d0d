"""The product, wired for one configuration."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.adapters.files.blobs import FolderBlobs
from orchestrator.adapters.files.checkpoints import FolderCheckpoints
from orchestrator.adapters.files.locks import FolderLocks
from orchestrator.adapters.process import LocalProcesses, SystemClock
from orchestrator.adapters.sftp import ConfiguredServers
from orchestrator.bootstrap.configured import pipeline_of, runner_of
from orchestrator.bootstrap.masked import MaskedForge, MaskedRenderer, MaskedSources
from orchestrator.bootstrap.secrets import ConfiguredSecrets, key_file
from orchestrator.config.load import Configuration
from orchestrator.domain.errors import NotFound
from orchestrator.domain.pipeline import (
    HostSpec,
    Pipeline,
    RunnerSpec,
    SourceSpec,
)
from orchestrator.domain.retention import Policy, Unused
from orchestrator.domain.run import Run
from orchestrator.observe import Masker
from orchestrator.ports.engine import Engine
from orchestrator.ports.forge import Forge
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.records import ServerRow
from orchestrator.ports.store import Store
from orchestrator.ports.world import (
    Clock,
    DatasetSource,
    LogFiles,
    Mailer,
    Processes,
    Renderer,
    SourceControl,
)
from orchestrator.services import naming
from orchestrator.services.act import Actor
from orchestrator.services.approve import Approver
from orchestrator.services.base_image import BaseImage
from orchestrator.services.choose import Chooser
from orchestrator.services.detect import Detector
from orchestrator.services.dispatch import Dispatcher, ProgressFor, log_progress
from orchestrator.services.evaluate import Evaluator
from orchestrator.services.fleet import ByName, Fleet
from orchestrator.services.gpus import Gpus
from orchestrator.services.images import Images
from orchestrator.services.networks import Networks
from orchestrator.services.plan import Planner
from orchestrator.services.predictions import RowReader
from orchestrator.services.reach import A_PERSONS_PATIENCE, Reach
from orchestrator.services.recover import welcome
from orchestrator.services.replay import Replayer
from orchestrator.services.report import ReportBuilder
from orchestrator.services.repository import RepositoryPipelines
from orchestrator.services.reproduce import Reproducer
from orchestrator.services.room import Room
from orchestrator.services.staging import Stager
from orchestrator.services.statuses import StatusTeller
from orchestrator.services.supply import ImageSupply

if TYPE_CHECKING:
    from fastapi import FastAPI

    from orchestrator.adapters.git import GitCommand
    from orchestrator.adapters.github import GitHub
    from orchestrator.adapters.ssh import SshLinks
    from orchestrator.adapters.vault import Vault
    from orchestrator.ports.collecting import Collectors
    from orchestrator.scheduler import Service
    from orchestrator.services.occasions import OccasionServer
    from orchestrator.services.retain import Retainer
    from orchestrator.services.retain_hosts import HostKeeper
    from orchestrator.services.watches import Looks, Watch

SERVER_SEEN_WITHIN = 30.0
"""Seconds after which a server that wrote nothing is taken for gone."""
SCRATCH_KEPT = 2 * 24 * 3600.0
"""Seconds after which a forgotten checkout is removed at the next start."""


def _remove_older(folder: Path, moment: float) -> None:
    """Remove what a killed process left behind; what others still use is younger, or is theirs to miss."""
    for entry in folder.iterdir():
        with suppress(OSError):
            if entry.lstat().st_mtime < moment:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


@dataclass
class Application:
    """The product, wired for one configuration. Parts are made when they are first asked for."""

    config: Configuration
    masker: Masker = field(default_factory=Masker)
    clock: Clock = field(default_factory=SystemClock)
    processes: Processes = field(default_factory=LocalProcesses)
    _choosers: dict[Reach, Chooser] = field(default_factory=dict)

    @cached_property
    def state(self) -> Path:
        """The folder of the database, logs and artifacts; made when missing, for its owner alone."""
        path = Path(self.config.orchestrator.storage.path)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    @cached_property
    def scratch(self) -> Path:
        """Where checkouts and archives lie while they are used."""
        path = self.state / "scratch"
        path.mkdir(exist_ok=True, mode=0o700)
        _remove_older(path, self.clock.now().timestamp() - SCRATCH_KEPT)
        return path

    @cached_property
    def database_url(self) -> str:
        """The database's URL, whose password is masked from then on."""
        from orchestrator.config.database import passwords, resolved
        from orchestrator.config.interpolation import file_reader

        configured = self.config.orchestrator.storage.database
        if configured is None:
            return f"sqlite:///{self.state / 'orchestrator.db'}"
        url = resolved(configured, os.environ, file_reader(self.config.base))
        self.masker.add(*passwords(url))
        return url

    @cached_property
    def store(self) -> Store:
        """The database, brought to this version's schema."""
        from orchestrator.store import open_store

        return open_store(self.database_url)

    @cached_property
    def vault(self) -> Vault:
        """The encrypted store of secrets."""
        from orchestrator.adapters.vault import Vault

        return Vault(self.store.secrets, key_file(self.config.orchestrator, self.state), self.clock.now)

    @cached_property
    def secrets(self) -> ConfiguredSecrets:
        """Secrets by name, from wherever they are; each is masked from when it is read."""
        return ConfiguredSecrets(self.config, self.masker, lambda: self.vault)

    @cached_property
    def pipelines(self) -> Mapping[str, Pipeline]:
        """All pipelines by name."""
        from orchestrator.bootstrap.repositories import Pipelines

        written = {name: pipeline_of(self.config, file) for name, file in self.config.pipelines.items()}
        return Pipelines(written, lambda: self.repositories)

    @cached_property
    def repositories(self) -> Mapping[str, RepositoryPipelines]:
        """The repositories whose own files say what runs, by name."""
        from orchestrator.bootstrap.repositories import repositories_of

        return repositories_of(self)

    def pipeline(self, name: str) -> Pipeline:
        """One pipeline. NotFound says which there are."""
        from difflib import get_close_matches

        if name in self.pipelines:
            return self.pipelines[name]
        close = get_close_matches(name, self.pipelines, 1)
        meant = f'did you mean "{close[0]}"? ' if close else ""
        known = ", ".join(sorted(self.pipelines)) or "none"
        raise NotFound(f'there is no pipeline "{name}"', f"{meant}the configuration has: {known}")

    @cached_property
    def runners(self) -> Mapping[str, RunnerSpec]:
        """All runners by name."""
        return {name: runner_of(file) for name, file in self.config.runners.items()}

    @cached_property
    def fleet(self) -> Fleet:
        """The execution hosts and their engines, as they are at each look."""
        from orchestrator.bootstrap.hosts import fleet_of

        return fleet_of(self)

    @cached_property
    def links(self) -> SshLinks:
        """The ways to hosts on other machines; each is made when it is first used."""
        from orchestrator.adapters.ssh import SshLinks

        return SshLinks(self.host_keys, self.clock)

    @property
    def hosts(self) -> Sequence[HostSpec]:
        """The execution hosts that may be used."""
        return self.fleet.usable

    @property
    def engines(self) -> Mapping[str, Engine]:
        """Each host's engine; connected when it is first used."""
        return self.fleet.engines

    @cached_property
    def reach(self) -> Reach:
        """Which hosts answer, for whoever asks why a run waits."""

        def told(host: str) -> str | None:
            return self.silent((host,)).get(host)

        return Reach(self.engines, self.clock, patience=A_PERSONS_PATIENCE, told=told)

    def silent(self, hosts: Iterable[str]) -> Mapping[str, str]:
        """Those that do not answer, with why, as a server that lives knows: it goes on asking them.

        Asking takes seconds where nobody answers, so who only looks can leave these alone.
        """
        records = [record for host in hosts if (record := self.fleet.record(host)).unreachable_since]
        if not records or not self.live_servers():
            return {}
        # Of the host's name nobody has to be told once more.
        told = ((r.name, r.trouble.removeprefix(f"host {r.name}: ")) for r in records)
        return {name: trouble or "nobody knows why" for name, trouble in told}

    @cached_property
    def watched(self) -> Reach:
        """Which hosts answer, for the process that executes attempts: it writes down which do not."""
        hosts = ByName(self.fleet.known)

        def returned(host: str, engine: Engine) -> None:
            if host in hosts:
                welcome(self.store, engine, hosts[host], self.clock.now())

        return Reach(self.engines, self.clock, True, self.store.hosts, returned)

    @cached_property
    def checkpoints(self) -> FolderCheckpoints:
        """Copies of checkpoints, for tries that go on elsewhere."""
        return FolderCheckpoints(self.state / "checkpoints")

    @cached_property
    def room(self) -> Room:
        """Whether there is room for another run, here and on the hosts."""
        from orchestrator.adapters.files.disk import LocalDisk

        return Room(
            LocalDisk(),
            self.state,
            self.config.orchestrator.storage.min_free,
            self.fleet.known,
            self.engines,
            self.clock,
            machine=socket.gethostname(),
            helper=lambda host: naming.helper_name(self.store.instance, "room", host, self.processes.this()),
        )

    @cached_property
    def sources(self) -> SourceControl:
        """Watched repositories, mirrored under the state folder."""
        from orchestrator.adapters.github import GitHubSources

        return MaskedSources(GitHubSources(self.git, self.github), self.masker, self.secrets)

    @cached_property
    def github(self) -> GitHub | None:
        """GitHub, or None where the configuration names no login there."""
        from orchestrator.bootstrap.forge import github_of

        return github_of(self)

    @cached_property
    def forge(self) -> Forge | None:
        """Where pull requests are and commits are marked, or None."""
        return None if self.github is None else MaskedForge(self.github, self.masker, self.secrets)

    @cached_property
    def git(self) -> GitCommand:
        """Watched repositories by the git command, with the logins of the configuration."""
        from orchestrator.adapters.git import GitCommand
        from orchestrator.bootstrap.access import SourceAccess
        from orchestrator.bootstrap.forge import configured_sources, token_for_git

        access = SourceAccess(
            configured_sources(self.config), self.secrets.value, partial(token_for_git, self)
        )
        return GitCommand(self.state / "mirrors", keys=self.host_keys, access=access)

    def way_to(self, source: SourceSpec) -> HostSpec | None:
        """The server of a repository that is reached over SSH, as a machine to ask for its key."""
        ssh = self.git.location(source).ssh
        return None if ssh is None else HostSpec(ssh.hostname, str(ssh), ssh=ssh)

    @property
    def host_keys(self) -> Path:
        """The file of the host keys that are trusted, of hosts and of Git servers."""
        return self.state / "ssh" / "known_hosts"

    @cached_property
    def datasets(self) -> DatasetSource:
        """Watched data, wherever they lie; what is fetched is kept under the state folder."""
        from orchestrator.bootstrap.datasets import datasets_of

        return datasets_of(self)

    @cached_property
    def logs(self) -> LogFiles:
        """The logs of attempts."""
        from orchestrator.adapters.files.logs import FolderLogs

        return FolderLogs(self.state / "logs")

    @cached_property
    def blobs(self) -> FolderBlobs:
        """Artifacts by content."""
        return FolderBlobs(self.state / "blobs")

    @cached_property
    def mailer(self) -> Mailer | None:
        """How mail is sent, or None when the configuration has no mail server."""
        email = self.config.orchestrator.email
        if email is None:
            return None
        from orchestrator.adapters.smtp import SmtpMailer

        written = email.password
        password = None if written is None else lambda: self.secrets.value(written)
        return SmtpMailer(email.smtp, password, email.sender)

    @cached_property
    def renderer(self) -> Renderer:
        """Reports as people read them."""
        from orchestrator.adapters.drawing import ChartDrawer
        from orchestrator.adapters.render import CustomTemplates, ReportRenderer

        mask = self.masker.mask_text
        drawer = ChartDrawer(self.state / "cache" / "matplotlib", mask)
        custom = CustomTemplates(self.config.orchestrator.reports.templates.files)
        return MaskedRenderer(ReportRenderer(drawer, mask, custom), self.masker, self.secrets)

    @cached_property
    def reports(self) -> ReportBuilder:
        """Builds reports."""
        from orchestrator.bootstrap.forge import forge_url

        pages = forge_url(self.config)
        return ReportBuilder(self.store, self.sources, self.logs, self.url, self.clock, pages, _readers)

    @property
    def url(self) -> str:
        """Where people reach the pages: as configured, else where a server is, else where one would be."""
        web = self.config.orchestrator.web
        if web.url:
            return web.url
        served = next((server.url for server in self.live_servers() if server.url), "")
        return served or (f"http://{web.host}:{web.port}" if web.port else "")

    @cached_property
    def detector(self) -> Detector:
        """Watches sources and datasets."""
        from orchestrator.bootstrap.repositories import defined

        return Detector(self.store, self.sources, self.datasets, self.clock, partial(defined, self))

    @cached_property
    def looks(self) -> Looks:
        """Looks at what is watched, and remembers how that went."""
        from orchestrator.bootstrap.watching import looks_of

        return looks_of(self)

    @cached_property
    def watches(self) -> Sequence[Watch]:
        """All that is looked at for the pipelines of the configuration, and for those of repositories."""
        from orchestrator.bootstrap.watching import watches_of_all

        return watches_of_all(self)

    @property
    def known_pipelines(self) -> Mapping[str, Pipeline]:
        """All pipelines for people to see: those of repositories as they were seen last, by whomever."""
        from orchestrator.bootstrap.repositories import known_pipelines

        return known_pipelines(self)

    @cached_property
    def occasions(self) -> OccasionServer:
        """Serves schedules and upstream runs."""
        from orchestrator.bootstrap.watching import occasions_of

        return occasions_of(self)

    @cached_property
    def statuses(self) -> StatusTeller:
        """Marks commits with where their runs stand."""
        return StatusTeller(self.store, self.forge, self.reports, self.clock, self.url, self.renderer.comment)

    @cached_property
    def approver(self) -> Approver:
        """Carries out what people say of runs that wait for them."""
        return Approver(self.store, self.clock)

    @cached_property
    def planner(self) -> Planner:
        """Says what would run."""
        return Planner(self.store, self.sources, self.datasets, self.clock)

    @cached_property
    def reproducer(self) -> Reproducer:
        """Repeats runs."""
        return Reproducer(self.store, self.clock)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Judges runs."""
        return Evaluator(self.store, self.clock, self.sources, self._rows)

    @cached_property
    def replayer(self) -> Replayer:
        """Judges runs of the past anew."""
        return Replayer(self.store, self.clock, self._rows)

    @cached_property
    def _rows(self) -> RowReader:
        return RowReader(self.store, self.blobs, _readers())

    @cached_property
    def images(self) -> Images:
        """Makes images."""
        return Images(self.store.instance, self.processes.this(), self.clock, self.supply)

    @cached_property
    def supply(self) -> ImageSupply:
        """Brings images to hosts that no registry gives them."""
        from orchestrator.bootstrap.supply import supply_of

        return supply_of(self)

    @cached_property
    def stager(self) -> Stager:
        """Brings data to hosts."""
        return Stager(
            self.store,
            self.datasets,
            self.supply,
            ByName(self.fleet.known),
            self.clock,
            self.processes.this(),
            shared=FolderLocks(self.state / "staging").of,
        )

    def base_image(self, recipes: Path) -> BaseImage:
        """Makes the image that all runs begin with, by the recipe in ``recipes``/base."""
        from orchestrator.adapters.rootfs import make_rootfs

        bundle = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
        trusted = bundle.read_bytes() if os.access(bundle, os.R_OK) else b""
        return BaseImage(recipes / "base", trusted, os.environ, make_rootfs, self.clock)

    @cached_property
    def networks(self) -> Networks:
        """Gives runs their network."""
        return Networks(self.store.instance, self.fleet.known, self.clock)

    def chooser(self, reach: Reach) -> Chooser:
        """Chooses hosts, of those that answer."""
        from orchestrator.bootstrap.choosing import chooser_of

        if reach not in self._choosers:
            self._choosers[reach] = chooser_of(self, reach)
        return self._choosers[reach]

    @cached_property
    def gpus(self) -> Gpus:
        """Knows the GPUs of all hosts."""
        return Gpus(self.fleet.known, self.engines, self.store, self.clock, self.supply)

    def dispatcher(
        self,
        wake: Callable[[], None],
        wants: Callable[[int], bool] = lambda run_id: True,
        progress_for: ProgressFor = log_progress,
    ) -> Dispatcher:
        """Executes attempts of the runs that are wanted."""
        from orchestrator.bootstrap.executing import dispatcher_of

        return dispatcher_of(self, wake, wants, progress_for)

    def actor(
        self,
        stopping: threading.Event,
        wants: Callable[[int], bool] = lambda run_id: True,
        progress: ProgressSink = lambda event: None,
    ) -> Actor:
        """Carries out actions of the runs that are wanted."""
        from orchestrator.bootstrap.acting import actor_of

        return actor_of(self, stopping, wants, progress)

    @cached_property
    def deployment_servers(self) -> ConfiguredServers:
        """The servers that models are deployed to."""
        from orchestrator.bootstrap.servers import servers_of

        return servers_of(self)

    @cached_property
    def retainer(self) -> Retainer:
        """Removes what has had its time."""
        from orchestrator.bootstrap.retention import retainer_of

        return retainer_of(self)

    @cached_property
    def image_pruner(self) -> HostKeeper:
        """Removes the images on hosts that nothing needs, whatever their age."""
        from orchestrator.bootstrap.retention import host_keeper_of

        return host_keeper_of(self, Policy(images=Unused(age=timedelta.min)))

    def service(self, url: str) -> Service:
        """Everything that ``serve`` runs beside the web server; not started yet.

        ``url`` is where it answers.
        """
        from orchestrator.bootstrap.serving import service_of

        return service_of(self, url)

    def web(self, service: Service) -> FastAPI:
        """The web application of a service."""
        from orchestrator.bootstrap.website import site_of

        return site_of(self, service)

    def live_servers(self) -> tuple[ServerRow, ...]:
        """The serving processes on this database that live."""
        now = self.clock.now()
        return tuple(
            row
            for row in self.store.servers.all()
            if (now - row.seen_at).total_seconds() < SERVER_SEEN_WITHIN
            and not self.processes.is_dead(row.owner)
        )

    def belongs_to(self, run: Run) -> Callable[[int], bool]:
        """Whether another run is that one, or measures a baseline for it."""

        def wanted(run_id: int) -> bool:
            if run_id == run.id:
                return True
            other = self.store.runs.get(run_id)
            return other.id > run.id and other.purpose.value == "baseline" and other.pipeline == run.pipeline

        return wanted

    def close(self) -> None:
        """Free connections."""
        made = self.__dict__
        if "fleet" in made:
            self.fleet.close()
        if "links" in made:
            self.links.close()
        if "store" in made:
            self.store.close()


def _readers() -> Collectors:
    """The readers of formats, whose libraries take a while to load: only when something is to be read."""
    from orchestrator.adapters.collectors import format_readers

    return format_readers()
