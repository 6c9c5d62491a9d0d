"""From the configuration's models to domain values, and to secrets."""

from __future__ import annotations

import logging
from pathlib import Path

from orchestrator.bootstrap.actions import action_of
from orchestrator.bootstrap.datasets import dataset_of
from orchestrator.bootstrap.forge import forge_url
from orchestrator.bootstrap.secrets import stored_names, unasked
from orchestrator.config.load import Configuration, LoadResult, load
from orchestrator.config.models.baselines import baseline_spec
from orchestrator.config.models.benchmark import benchmark_of
from orchestrator.config.models.collect import declared_files, declared_readings
from orchestrator.config.models.machines import Host
from orchestrator.config.models.pipeline import PipelineFile
from orchestrator.config.models.replicates import looks_plan, most_replicates
from orchestrator.config.models.runner import BuiltImage, RunnerFile
from orchestrator.config.models.runner import RepositoryImage as RepositoryModel
from orchestrator.config.models.source import GITHUB, Source
from orchestrator.config.models.ssh import HostSsh
from orchestrator.domain.action import Trigger
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import (
    Execution,
    FolderImage,
    HostSpec,
    ImageSpec,
    Limits,
    MetricSpec,
    NamedImage,
    Network,
    Pipeline,
    Protection,
    PullRequestRules,
    RepositoryImage,
    Resources,
    RunnerSpec,
    Scale,
    Schedule,
    Setup,
    SourceSpec,
    SshSpec,
)

log = logging.getLogger(__name__)


class ConfigurationInvalid(InvalidInput):
    """The configuration has errors; ``result`` holds all of them."""

    def __init__(self, result: LoadResult) -> None:
        super().__init__("\n".join(str(problem) for problem in result.errors))
        self.result = result


def read_configuration(
    folder: Path, *, check_paths: bool = True, check_stored: bool = False
) -> Configuration:
    """A valid configuration. Raises ConfigurationInvalid with every error.

    A repository, folder or key file that is not there is warned of: what needs it says so, and the rest goes
    on, also after a restart. Only with ``check_stored`` is a secret missed that neither an entry nor the
    encrypted store has: nothing but its runs needs it.
    """
    stored = stored_names if check_stored else unasked
    result = load(folder, check_paths=check_paths, check_references=False, stored=stored)
    if result.configuration is not None:
        return result.configuration
    anyhow = load(folder, check_paths=False, check_references=False, stored=stored) if check_paths else result
    if anyhow.configuration is None:
        raise ConfigurationInvalid(result)
    for problem in result.errors:
        log.warning("%s", problem)
    return anyhow.configuration


def pipeline_of(config: Configuration, file: PipelineFile) -> Pipeline:
    """A pipeline's file as the services see it, with its runner."""
    run = file.run
    branches = file.all_sources[0].branches
    plain = [b for b in branches if not any(c in b for c in "*?[!")]
    deploy = file.deploy_branches if file.deploy_branches is not None else tuple(plain[:1])
    limits = config.orchestrator.storage.limits
    return Pipeline(
        name=file.pipeline,
        project=file.project,
        sources=tuple(source_of(source, forge_url(config)) for source in file.all_sources),
        datasets=tuple(dataset_of(name, dataset) for name, dataset in file.datasets.items()),
        runner=runner_of(config.runners[run.runner]),
        execution=Execution(
            command=tuple(run.argv),
            setup=Setup(("sh", "-c", run.setup.run), tuple(run.setup.key)) if run.setup else None,
            env=tuple(run.env.items()),
            secrets=tuple(run.secrets),
            timeout=run.timeout.total_seconds(),
            infrastructure_retries=run.retry.infrastructure,
            log_limit=run.log_limit,
            checkpoint_copy=run.checkpoint_copy.total_seconds() if run.checkpoint_copy else None,
        ),
        deploy_branches=tuple(deploy),
        cancel_in_progress=file.concurrency.cancel_in_progress,
        cancel_grace=file.concurrency.grace.total_seconds(),
        concurrency=file.concurrency.limit,
        priority=file.priority,
        replicates=most_replicates(file.replicates),
        looks=looks_plan(file.replicates),
        benchmark=benchmark_of(file.benchmark),
        baselines=tuple(baseline_spec(name, each) for name, each in file.baselines.items()),
        collect=declared_files(file.collect),
        readings=declared_readings(file.collect),
        metrics=tuple(
            MetricSpec(
                name,
                Direction(m.direction) if m.direction else None,
                m.unit,
                Scale(m.scale),
                m.predictions or "",
                m.id,
            )
            for name, m in file.metrics.items()
        ),
        artifacts=_kept(file),
        limits=Limits(
            limits.files,
            limits.file_size,
            limits.total_size,
            limits.metrics,
            limits.series,
            limits.points,
            limits.params,
            limits.plots,
        ),
        gate=file.judged_by(),
        actions=tuple(
            (Trigger(trigger), action_of(action, tuple(file.artifacts)))
            for trigger, actions in file.actions.by_trigger().items()
            for action in actions
        ),
        schedules=tuple(Schedule(cron, file.timezone) for cron in dict.fromkeys(file.schedule)),
        after=tuple(file.after),
    )


def source_of(source: Source, forge: str = GITHUB) -> SourceSpec:
    """A source as the services see it: without what it takes to log in. ``forge`` is where GitHub is."""
    pulls = source.pulls
    return SourceSpec(
        source.title,
        source.address(forge),
        tuple(source.branches),
        source.poll.total_seconds(),
        github=source.github or "",
        tags=tuple(source.tags),
        pull_requests=None
        if pulls is None
        else PullRequestRules(tuple(pulls.bases), pulls.forks, pulls.drafts, tuple(pulls.trusted)),
        paths=tuple(source.paths),
        every_commit=source.every_commit,
        settle=source.settle.total_seconds(),
        min_interval=source.min_interval.total_seconds(),
        submodules=source.submodules,
        lfs=source.lfs,
    )


def _kept(file: PipelineFile) -> tuple[str, ...]:
    """The patterns of files to keep, predictions among them."""
    predictions = (metric.predictions for metric in file.metrics.values() if metric.predictions)
    return (*file.artifacts, *(name for name in dict.fromkeys(predictions) if name not in file.artifacts))


def runner_of(file: RunnerFile) -> RunnerSpec:
    """A runner's file as the services see it."""
    image: ImageSpec
    match file.image:
        case BuiltImage():
            image = FolderImage(str(file.image.build))
        case RepositoryModel():
            image = RepositoryImage(file.image.dockerfile)
        case _:
            image = NamedImage(file.image)
    resources = file.resources
    return RunnerSpec(
        name=file.runner,
        image=image,
        resources=Resources(
            resources.cpus,
            resources.memory,
            resources.shm_size,
            resources.pids,
            resources.gpus,
            resources.gpu_model or "",
            resources.gpu_memory,
        ),
        host_names=tuple(file.host_names),
        host_labels=tuple(sorted(file.host_labels.items())),
        network=Network(file.network),
        uid=file.uid,
        gid=file.gid,
    )


def host_of(name: str, host: Host) -> HostSpec:
    """A host of orchestrator.yaml as the services see it."""
    ssh = None if host.ssh is None else _ssh_of(host.ssh)
    return HostSpec(
        name,
        host.engine if ssh is None else str(ssh),
        host.slots,
        tuple(sorted(host.labels.items())),
        protection=Protection(host.protect),
        reachable=tuple(host.reachable),
        helper_image=host.helper_image,
        min_free=host.min_free,
        ssh=ssh,
        lost_after=host.lost_after.total_seconds(),
        gpus=None if host.gpus == "auto" else () if isinstance(host.gpus, str) else host.gpus,
        cpus=host.cpus,
        memory=host.memory,
        data_budget=host.data_budget,
        data=tuple(sorted(host.data.items())),
    )


def _ssh_of(ssh: HostSsh) -> SshSpec:
    return SshSpec(
        hostname=ssh.hostname,
        user=ssh.user,
        port=ssh.port,
        identity_file=_text(ssh.identity_file),
        proxy_jump=ssh.proxy_jump,
        known_hosts=_text(ssh.known_hosts),
        config=_text(ssh.config),
        socket=ssh.socket,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
