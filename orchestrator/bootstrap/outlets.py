"""Where results go beside servers, wired: one Act for each kind of action."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.adapters.git.push import GitPush
from orchestrator.config.models.services import Service
from orchestrator.config.models.stores import Bucket as BucketModel
from orchestrator.domain.pipeline import FolderImage, NamedImage, Resources
from orchestrator.domain.service import ServicePort, ServiceSpec
from orchestrator.ports.progress import ProgressSink
from orchestrator.services.acting.act import Act
from orchestrator.services.acting.command import Commander, CommandPorts
from orchestrator.services.acting.git_push import GitPusher
from orchestrator.services.acting.results import Results
from orchestrator.services.acting.service import ServicePorts, Servicer
from orchestrator.services.acting.upload import Uploader
from orchestrator.services.deploying.gather import Gatherer

if TYPE_CHECKING:
    from orchestrator.adapters.buckets import S3Stores
    from orchestrator.bootstrap.application import Application

_KEYS = {
    "access_key": "aws_access_key_id",
    "secret_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}


def acts_with_results(app: Application, gatherer: Gatherer, progress: ProgressSink) -> dict[str, Act]:
    """The kinds of actions that put results somewhere else than on servers."""
    results = Results(app.store, app.blobs, gatherer)
    return {
        "upload": Uploader(app.store, results, stores_of(app), progress),
        "git": GitPusher(app.store, results, GitPush(app.git, app.scratch)),
        "command": Commander(
            CommandPorts(
                app.store,
                results,
                app.engines,
                tuple(app.hosts),
                app.runners,
                app.images,
                app.networks,
                app.secrets,
                app.masker,
                app.clock,
                app.scratch,
                progress,
            )
        ),
        "container": Servicer(
            ServicePorts(
                app.store,
                results,
                services_of(app.config.orchestrator.services),
                app.engines,
                app.images,
                app.masker,
                app.clock,
                app.scratch,
                progress,
            )
        ),
    }


def services_of(services: Mapping[str, Service]) -> Mapping[str, ServiceSpec]:
    """The services of the configuration."""
    return {name: _service(name, service) for name, service in services.items()}


def _service(name: str, service: Service) -> ServiceSpec:
    ports = (port.split(":") for port in service.ports)
    health = service.health
    timing = {} if health is None else {"interval": health.interval, "patience": health.patience}
    image = NamedImage(service.image) if service.image is not None else FolderImage(str(service.build))
    return ServiceSpec(
        name,
        service.host,
        image,
        tuple(service.command),
        tuple(ServicePort(address, int(host), int(inside)) for address, host, inside in ports),
        tuple(service.env.items()),
        () if health is None else tuple(health.command),
        folder=service.folder,
        user=service.user,
        resources=Resources(service.cpus, service.memory, pids=service.pids),
        **{key: value.total_seconds() for key, value in timing.items()},
    )


def stores_of(app: Application) -> S3Stores:
    """The buckets of the configuration."""
    from orchestrator.adapters.buckets import Bucket, S3Stores

    return S3Stores(
        {
            name: Bucket(
                name,
                bucket.s3,
                partial(_keys, app, bucket),
                bucket.endpoint,
                bucket.region,
                bucket.allow_private,
                None if bucket.ca_file is None else str(bucket.ca_file),
            )
            for name, bucket in app.config.orchestrator.stores.items()
        }
    )


def _keys(app: Application, bucket: BucketModel) -> Mapping[str, str]:
    written = {theirs: getattr(bucket, ours) for ours, theirs in _KEYS.items()}
    return {name: app.secrets.value(text) for name, text in written.items() if text is not None}
