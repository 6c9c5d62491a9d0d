"""config/orchestrator.yaml: where things are stored, served, mailed, executed and deployed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from orchestrator.config.database import EXPECTED, mistake
from orchestrator.config.models.common import (
    NOT_YET,
    LocalPath,
    Model,
    Name,
    Reserved,
    Secret,
    Size,
    Str,
    Variable,
    Verbatim,
    is_loopback,
    parse_references,
    plain_text,
    wrong,
)
from orchestrator.config.models.dataset import Dataset
from orchestrator.config.models.email import Email
from orchestrator.config.models.environment import Environment, check_environments
from orchestrator.config.models.github import GitHub
from orchestrator.config.models.machines import Host, Registry, RegistryHost
from orchestrator.config.models.messengers import Hook, Program
from orchestrator.config.models.reporting import Reports
from orchestrator.config.models.repository import Grant, Repository
from orchestrator.config.models.retention import Retention
from orchestrator.config.models.servers import Server
from orchestrator.config.models.services import Service
from orchestrator.config.models.stores import Bucket
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.hostpaths import why_not_mounted

GIB: Final = 1 << 30
SHORTEST_TOKEN: Final = 16
"""Characters of a token that programs show."""


class ArtifactLimits(Model):
    """What one attempt may leave behind. What exceeds a limit is listed in the run, and not kept."""

    files: Annotated[int, Field(ge=1)] = Field(
        default=1000,
        description="Most files kept of one attempt.",
        examples=[1000],
        json_schema_extra={"x-unit": "files"},
    )
    file_size: Size = Field(default=2 * GIB, description="Largest single file kept.", examples=["2g"])
    total_size: Size = Field(
        default=4 * GIB, description="Most that is kept of one attempt in all.", examples=["4g"]
    )
    metrics: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=50_000,
        description="Most metrics of one attempt; those that a gate judges go first.",
        examples=[50_000],
        json_schema_extra={"x-unit": "metrics"},
    )
    series: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=2_000,
        description="Most series of one attempt: metrics over the course of the training.",
        examples=[2_000],
        json_schema_extra={"x-unit": "series"},
    )
    points: Annotated[int, Field(ge=1_000, le=10_000_000)] = Field(
        default=500_000,
        description="Most points of all series of one attempt together. Longer ones are thinned out: each "
        "stretch keeps its lowest and its highest point.",
        examples=[500_000],
        json_schema_extra={"x-unit": "points"},
    )
    params: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=5_000,
        description="Most parameters of one attempt.",
        examples=[5_000],
        json_schema_extra={"x-unit": "parameters"},
    )
    plots: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=500,
        description="Most pictures and charts of one attempt that are shown.",
        examples=[500],
        json_schema_extra={"x-unit": "plots"},
    )


def _database(value: Plain, info: ValidationInfo) -> Plain:
    if isinstance(value, str) and (told := mistake(value)):
        raise wrong(told, EXPECTED)
    for reference in parse_references(value).references if isinstance(value, str) else ():
        if reference.kind == "secret":
            message = f"{reference} is kept in the database, which this is the way to"
            raise wrong(message, "${{ env.NAME }}, ${{ file:PATH }} or ${{ credential:NAME }}")
    return value


class Storage(Model):
    """Where the orchestrator keeps its database, logs and artifacts."""

    later: ClassVar[Mapping[str, str]] = {"artifacts": "artifacts are kept as files under storage.path"}

    path: LocalPath = Field(
        default="../var",
        validate_default=True,
        description="Folder for the database, logs, artifacts and workspaces; made when missing. "
        "A relative path counts from the configuration folder.",
        examples=["../var", "/var/lib/orchestrator"],
    )
    database: Annotated[Secret | None, BeforeValidator(_database)] = Field(
        default=None,
        description="Address of the database; without it, a SQLite file under `path`. PostgreSQL needs the "
        "extra `postgres`; write its password as a reference.",
        examples=[
            "postgresql://orchestrator:${{ file:/run/secrets/postgres_password }}@localhost/orchestrator"
        ],
    )
    key: LocalPath | None = Field(
        default=None,
        description="File with the key of the encrypted secrets, readable for the orchestrator's user alone; "
        "made by the first `orchestrator secrets set`. Without it, systemd's credential `orchestrator.key`, "
        "or `secret.key` under `path`. The variable ORCHESTRATOR_SECRET_KEY_FILE overrides all of these.",
        examples=["/etc/orchestrator/secret.key"],
    )
    limits: ArtifactLimits = Field(default=ArtifactLimits(), description="What one attempt may leave behind.")
    data_cache: Size = Field(
        default=100 * GIB,
        description="Most that is kept under `path` of data that lie elsewhere; what was not used for the"
        " longest time goes first. What a run needs at once has to fit.",
        examples=["500g"],
    )
    min_free: Reserved = Field(
        default="1g",
        validate_default=True,
        description="Room that is to stay free where `path` lies: a size, a percentage, or 0 to switch it "
        "off. With less, no further run begins.",
        examples=["2g", "5%"],
    )


def _web_host(value: Plain, info: ValidationInfo) -> str:
    host = plain_text(value, info)
    if not is_loopback(host):
        raise wrong(
            f"{host} would open the server to the network, and users and passwords are {NOT_YET}",
            "127.0.0.1, and a reverse proxy with a login in front of it",
            "127.0.0.1",
        )
    return host


def _http_url(value: Plain, info: ValidationInfo) -> str:
    url = plain_text(value, info)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong(f'"{url}" is not a web address', "http://HOST:PORT or https://HOST")
    return url.rstrip("/")


def _long_enough(value: Plain) -> Plain:
    if isinstance(value, str) and "${{" not in value and len(value) < SHORTEST_TOKEN:
        raise wrong(
            "this token can be guessed", f"at least {SHORTEST_TOKEN} characters, and a reference to them"
        )
    return value


class Web(Model):
    """The pages, the API and the health endpoints of `orchestrator serve`."""

    host: Annotated[Str, BeforeValidator(_web_host)] = Field(
        default="127.0.0.1",
        description="Address to listen on; only this machine's own in this version.",
        examples=["127.0.0.1"],
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8080, description="Port to listen on; 0 takes any free one.", examples=[8080]
    )
    url: Annotated[Str | None, BeforeValidator(lambda v, info: None if v is None else _http_url(v, info))] = (
        Field(
            default=None,
            description="Address under which people reach the pages; used in links. "
            "Without it, where the server listens.",
            examples=["https://ci.example.org"],
        )
    )
    public: bool = Field(
        default=False,
        description="Whether anybody reaches `url`, from everywhere and without a login. Then the pictures "
        "that runs leave are shown in comments on GitHub, which fetches them from there.",
        examples=[True],
    )
    trigger_token: Annotated[Secret | None, BeforeValidator(_long_enough)] = Field(
        default=None,
        description="What programs show to start runs by `POST /api/v1/pipelines/NAME/trigger`, at least 16 "
        "characters; write a reference. Without it, nothing can be started that way.",
        examples=["${{ env.TRIGGER_TOKEN }}"],
    )
    approval_tokens: Mapping[Str, Annotated[Secret, BeforeValidator(_long_enough)]] = Field(
        default={},
        description="Names of people, each with what they type to approve, reject and roll back deployments"
        " on the page /deployments, at least 16 characters; write references. Without it the command line"
        " does that.",
        examples=[{"ana": "${{ env.ANAS_TOKEN }}"}],
    )

    @model_validator(mode="after")
    def _public_somewhere(self) -> Web:
        if self.public and not (self.url or "").startswith("https://"):
            raise wrong(
                "nothing says where the pages are public", "url: https://HOST beside it", key="public"
            )
        return self


def _default_hosts() -> dict[str, Host]:
    return {"local": Host.model_validate({})}


class ProjectConcurrency(Model):
    """How many runs of a project's pipelines go at the same time."""

    limit: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="How many runs go at the same time; the others wait for their turn.",
        examples=[4],
        json_schema_extra={"x-unit": "runs"},
    )


class Project(Model):
    """What all pipelines of a project share."""

    concurrency: ProjectConcurrency | None = Field(
        default=None,
        description="How many runs of all its pipelines go at the same time; without it, no limit.",
        examples=[{"limit": 4}],
    )


class OrchestratorFile(Model):
    """config/orchestrator.yaml: where things are stored, served, mailed, executed and deployed."""

    later: ClassVar[Mapping[str, str]] = {
        "users": "",
    }

    storage: Storage = Field(
        # Validated with the folder at hand, so that the default path counts from it as a written one does.
        default={},
        validate_default=True,
        description="Database, logs and artifacts.",
    )
    web: Web = Field(default=Web(), description="Pages, API and health endpoints.")
    email: Email | None = Field(
        default=None, description="How mail is sent; without it, pipelines cannot send any."
    )
    reports: Reports = Field(default=Reports(), description="How reports look.")
    github: GitHub | None = Field(
        default=None,
        description="GitHub, or a GitHub Enterprise server. Without it, public repositories are watched by "
        "Git alone: no pull requests, no statuses.",
    )
    repositories: Mapping[Name, Repository] = Field(
        default={},
        description="Watched repositories that say themselves what runs, in a file of their own, by name. "
        "The file is not trusted: it may use what `grants` names and nothing else.",
        examples=[{"wine": {"github": "acme/wine", "pull_requests": True}}],
    )
    grants: Mapping[Verbatim, Grant] = Field(
        default={},
        description="What the files of repositories may use, by the name under `repositories`, by OWNER/NAME "
        "on GitHub or by address; nothing unless it is written here.",
        examples=[{"acme/wine": {"secrets": ["WANDB_API_KEY"], "datasets": ["wine"], "runners": ["cpu"]}}],
    )
    datasets: Mapping[Name, Dataset] = Field(
        default={},
        description="Data that the files of repositories may name once they were granted; written as in "
        "pipelines.",
        examples=[{"wine": {"path": "/data/wine"}}],
    )
    hosts: Mapping[Name, Host] = Field(
        default_factory=_default_hosts,
        description="Docker engines by name; without it, one named `local` at the usual socket.",
    )
    projects: Mapping[Name, Project] = Field(
        default={},
        description="Projects by the name that pipelines give under `project`; one needs an entry only for "
        "what is said of it here.",
        examples=[{"wine": {"concurrency": {"limit": 4}}}],
    )
    servers: Mapping[Name, Server] = Field(default={}, description="Deployment servers by name.")
    environments: Mapping[Name, Environment] = Field(
        default={},
        description="Servers that get a release together, by name, for `deploy: {environment: NAME}`.",
        examples=[{"prod": {"servers": ["web1", "web2"], "strategy": "rolling", "approval": True}}],
    )
    stores: Mapping[Name, Bucket] = Field(
        default={},
        description="S3-compatible storage that results are uploaded to, by name.",
        examples=[{"models": {"s3": "s3://models/ci", "region": "eu-central-1"}}],
    )
    services: Mapping[Name, Service] = Field(
        default={},
        description="Containers in which results are served, by name.",
        examples=[{"api": {"image": "registry.example.org/serve:1", "ports": ["8080:8080"]}}],
    )
    hooks: Mapping[Name, Hook] = Field(
        default={},
        description="Services that are told of runs over HTTP, by name.",
        examples=[{"chat": {"url": "https://chat.example.org/ci", "secret": "${{ env.HOOK_SECRET }}"}}],
    )
    programs: Mapping[Name, Program] = Field(
        default={},
        description="Executables that are started for runs, by name.",
        examples=[{"notify": {"path": "/usr/local/bin/ci-notify"}}],
    )
    registries: Mapping[RegistryHost, Registry] = Field(
        default={},
        description="Logins at registries of images, by the name that images begin with; docker.io is "
        "Docker's own. What `docker login` stored for this user counts for the others.",
        examples=[{"registry.example.org": {"username": "ci", "password": "${{ env.REGISTRY_PASSWORD }}"}}],
    )
    retention: Retention = Field(
        default=Retention(), description="How long runs and what they leave behind are kept."
    )
    secrets: Mapping[Variable, Secret] = Field(
        default={},
        description="Secrets that pipelines may name in run.secrets; write references, not values. What "
        "`orchestrator secrets set` stores needs no entry; an entry of the same name counts more.",
        examples=[{"WANDB_API_KEY": "${{ env.WANDB_API_KEY }}"}],
    )

    @model_validator(mode="after")
    def _some_host(self) -> OrchestratorFile:
        if not self.hosts:
            raise wrong(
                "hosts is empty, so nothing can run",
                "a host, such as local: {slots: 2}",
                key="hosts",
            )
        own = (os.path.realpath(self.storage.path),)
        for name, host in self.hosts.items():
            for path in host.data.values() if host.ssh is None else ():
                why_not = why_not_mounted(os.path.realpath(path), own)
                if why_not:
                    message = f"{path}, data of the host {name}, cannot be shown to runs: {why_not}"
                    raise wrong(message, "a folder apart from storage.path", key="hosts")
        return self

    @model_validator(mode="after")
    def _environments_are_of_servers(self) -> OrchestratorFile:
        check_environments(self.environments, self.servers)
        return self

    @model_validator(mode="after")
    def _somebody_sees_pull_requests(self) -> OrchestratorFile:
        logged_in = self.github is not None and (self.github.token or self.github.app)
        for name, repository in self.repositories.items():
            if repository.pulls is not None and repository.token is None and not logged_in:
                raise wrong(
                    f"pull requests of {name} cannot be seen: there is no login at GitHub",
                    "github: {token: …}, or token: at the repository",
                    key="repositories",
                )
        return self
