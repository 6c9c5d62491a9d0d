"""config/orchestrator.yaml: the machine room. Where things are stored, served, mailed, executed and deployed."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from orchestrator.config.models.common import (
    NOT_YET,
    ExistingFile,
    LocalPath,
    Model,
    Name,
    Secret,
    Size,
    Str,
    Variable,
    plain_text,
    text_of,
    wrong,
)
from orchestrator.config.problems import any_of, closest
from orchestrator.config.yaml_loader import Plain

GIB: Final = 1 << 30
DEFAULT_ENGINE: Final = "unix:///var/run/docker.sock"
KEY_TYPES: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)
SMTP_EXAMPLE: Final = "smtps://user@mail.example.org:465"
_SMTP_PORTS: Final = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


def is_loopback(host: str) -> bool:
    """Whether nothing outside this machine is reached by that name or address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


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


def _database(value: Plain, info: ValidationInfo) -> Plain:
    if isinstance(value, str) and not value.startswith("${{"):
        scheme = value.partition(":")[0]
        if scheme.startswith("postgresql"):
            raise wrong(f"PostgreSQL is {NOT_YET}", "sqlite:///PATH, or no database key at all")
        if not value.startswith("sqlite:///"):
            raise wrong("this is not the address of a database", "sqlite:///PATH, or no database key at all")
    return value


class Storage(Model):
    """Where the orchestrator keeps its database, logs and artifacts."""

    later: ClassVar[Mapping[str, str]] = {"artifacts": "artifacts are kept as files under storage.path"}

    path: LocalPath = Field(
        default="../var",  # type: ignore[assignment]
        validate_default=True,
        description="Folder for the database, logs, artifacts and workspaces; made when missing. "
        "A relative path counts from the configuration folder.",
        examples=["../var", "/var/lib/orchestrator"],
    )
    database: Annotated[Secret | None, BeforeValidator(_database)] = Field(
        default=None,
        description="SQLAlchemy URL of the database; without it, a SQLite file under `path`.",
        examples=["sqlite:////var/lib/orchestrator/orchestrator.db"],
    )
    limits: ArtifactLimits = Field(default=ArtifactLimits(), description="What one attempt may leave behind.")


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
            description="Address under which people reach the pages; used in mails. Without it http://HOST:PORT.",
            examples=["https://ci.example.org"],
        )
    )


@dataclass(frozen=True)
class SmtpAddress:
    """A mail server: how the connection is secured, where it is, and who logs in (None: nobody)."""

    security: Literal["smtp", "smtp+starttls", "smtps"]
    host: str
    port: int
    username: str | None


def parse_smtp_url(url: str) -> SmtpAddress:
    """`smtps://user@host:465` taken apart. Raises the same error that validation reports."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong(f'"{url}" is not a mail server', SMTP_EXAMPLE) from None
    if parts.scheme not in _SMTP_PORTS:
        meant = closest(parts.scheme, _SMTP_PORTS)
        rest = url.partition("://")[2]
        raise wrong(
            "this is not the address of a mail server",
            f"smtp://, smtp+starttls:// or smtps://, for example {SMTP_EXAMPLE}",
            f"{meant}://{rest}" if meant and "@" not in rest else "",
        )
    if parts.password is not None:
        raise wrong("the password stands in the address, where it would be shown", "password: beside smtp:")
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise wrong("this is not the address of a mail server", SMTP_EXAMPLE)
    username = unquote(parts.username) if parts.username else None
    security: Literal["smtp", "smtp+starttls", "smtps"]
    if parts.scheme == "smtps":
        security = "smtps"
    else:
        security = "smtp+starttls" if parts.scheme == "smtp+starttls" else "smtp"
    return SmtpAddress(
        security, parts.hostname, _SMTP_PORTS[parts.scheme] if port is None else port, username
    )


def _smtp(value: Plain, info: ValidationInfo) -> str:
    url = plain_text(value, info)
    parse_smtp_url(url)
    return url


def mail_address(value: Plain) -> str:
    """An e-mail address, bare or as `Name <address>`."""
    text = text_of(value)
    bare = text[text.rfind("<") + 1 : -1] if text.endswith(">") and "<" in text else text
    local, at, domain = bare.rpartition("@")
    if (
        not (at and local and domain)
        or any(c.isspace() or ord(c) < 32 or c in "<>," for c in bare)
        or "\n" in text
    ):
        raise wrong(f'"{text}" is not a mail address', "name@example.org or Name <name@example.org>")
    return text


MailAddress = Annotated[Str, BeforeValidator(mail_address), WithJsonSchema({"type": "string"})]


class Email(Model):
    """How mail is sent."""

    smtp: Annotated[Str, BeforeValidator(_smtp)] = Field(
        description="The mail server: smtp:// (no encryption), smtp+starttls:// or smtps://, with the user name before the @.",
        examples=[SMTP_EXAMPLE],
    )
    password: Secret | None = Field(
        default=None,
        description="Password of that user; write a reference, not the password.",
        examples=["${{ env.SMTP_PASSWORD }}"],
    )
    sender: MailAddress = Field(
        alias="from", description="Who the mails come from.", examples=["ML CI <ci@example.org>"]
    )

    @property
    def server(self) -> SmtpAddress:
        return parse_smtp_url(self.smtp)

    @model_validator(mode="after")
    def _password_has_a_user(self) -> Email:
        if self.password is not None and self.server.username is None:
            raise wrong("there is a password and no user", "smtps://USER@host in smtp:", key="password")
        return self


def _engine(value: Plain, info: ValidationInfo) -> str:
    url = plain_text(value, info)
    if url.startswith("unix:///") and len(url) > len("unix:///"):
        return url
    if url.startswith(("tcp://", "http://", "https://")):
        raise wrong("a Docker engine on an open port gives root to everyone who reaches it", DEFAULT_ENGINE)
    if url.startswith("ssh://"):
        raise wrong(f"an engine on another machine is {NOT_YET}", DEFAULT_ENGINE)
    meant = f"unix://{url}" if url.startswith("/") else DEFAULT_ENGINE
    raise wrong(f'"{url}" is not the address of a Docker engine', "unix:///PATH/TO/SOCKET", meant)


class Host(Model):
    """A Docker engine that executes attempts."""

    later: ClassVar[Mapping[str, str]] = {
        "ssh": "only an engine on this machine can be used; write engine:",
        "gpus": "",
        "lost_after": "",
    }

    engine: Annotated[Str, BeforeValidator(_engine)] = Field(
        default=DEFAULT_ENGINE, description="The engine's socket on this machine.", examples=[DEFAULT_ENGINE]
    )
    slots: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1,
        description="How many attempts it executes at the same time.",
        examples=[2],
        json_schema_extra={"x-unit": "attempts"},
    )
    labels: Mapping[Name, Str] = Field(
        default={}, description="Free words by which runners choose hosts.", examples=[{"zone": "desk"}]
    )


def _host_key(value: Plain) -> str:
    text = text_of(value).strip()
    fields = text.split()
    expected = "a public key such as `ssh-ed25519 AAAA…`, as printed by: ssh-keyscan -t ed25519 HOST (without the host name)"
    if len(fields) >= 3 and fields[1] in KEY_TYPES:
        raise wrong("the host name stands before the key", expected, " ".join(fields[1:3]))
    if len(fields) < 2 or fields[0] not in KEY_TYPES:
        raise wrong("this is not a host key", expected)
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except (binascii.Error, ValueError):
        raise wrong("the host key is damaged: it is not base64", expected) from None
    name = fields[0].encode()
    if not blob.startswith(len(name).to_bytes(4, "big") + name):
        raise wrong("the host key is damaged or of another type than it says", expected)
    return f"{fields[0]} {fields[1]}"


HostKey = Annotated[Str, BeforeValidator(_host_key), WithJsonSchema({"type": "string"})]


class Ssh(Model):
    """An SSH login on a deployment server."""

    later: ClassVar[Mapping[str, str]] = {"proxy_jump": ""}

    hostname: Str = Field(
        min_length=1, description="Name or address of the machine.", examples=["prod.example.org"]
    )
    user: Str = Field(min_length=1, description="User to log in as.", examples=["deploy"])
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=22, description="Port of its sshd.", examples=[22]
    )
    identity_file: ExistingFile | None = Field(
        default=None,
        description="Private key to log in with; without it, the SSH agent is asked.",
        examples=["~/.ssh/id_ed25519"],
    )
    host_key: HostKey | None = Field(
        default=None,
        description="The server's public key. Any other key is refused.",
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…"],
    )
    known_hosts: ExistingFile | None = Field(
        default=None,
        description="A known_hosts file that holds the server's key, in place of `host_key`.",
        examples=["./known_hosts"],
    )

    @model_validator(mode="after")
    def _some_key_is_pinned(self) -> Ssh:
        if (self.host_key is None) == (self.known_hosts is None):
            both = (
                "both host_key and known_hosts are"
                if self.host_key
                else "neither host_key nor known_hosts is"
            )
            raise wrong(
                f"{both} given, so the server's identity is unclear",
                "exactly one of host_key and known_hosts",
            )
        return self


def _server_path(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info)
    clean = text.rstrip("/")
    if not text.startswith("/") or not clean or ".." in text.split("/") or any(ord(c) < 32 for c in text):
        raise wrong(
            f'"{text}" is no folder for releases', "an absolute path on the server, such as /srv/models"
        )
    return clean


class Server(Model):
    """A machine that models are deployed to."""

    later: ClassVar[Mapping[str, str]] = {
        "activate": "restart the service on the server itself when `current` changes",
        "health": "",
        "approval": "",
        "bake": "",
    }

    ssh: Ssh = Field(
        description="How to log in.", examples=[{"hostname": "prod.example.org", "user": "deploy"}]
    )
    path: Annotated[Str, BeforeValidator(_server_path)] = Field(
        description="Folder on the server that gets `releases/` and the link `current`.",
        examples=["/srv/models"],
    )
    keep: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=5,
        description="How many releases stay on the server, the current one included.",
        examples=[5],
        json_schema_extra={"x-unit": "releases"},
    )


def _default_hosts() -> dict[str, Host]:
    return {"local": Host.model_validate({})}


class OrchestratorFile(Model):
    """config/orchestrator.yaml: where things are stored, served, mailed, executed and deployed."""

    later: ClassVar[Mapping[str, str]] = {
        "github": "watch the repository as a plain git source",
        "grants": "",
        "retention": "",
        "users": "",
    }

    storage: Storage = Field(
        default_factory=lambda: Storage.model_validate({}), description="Database, logs and artifacts."
    )
    web: Web = Field(default=Web(), description="Pages, API and health endpoints.")
    email: Email | None = Field(
        default=None, description="How mail is sent; without it, pipelines cannot send any."
    )
    hosts: Mapping[Name, Host] = Field(
        default_factory=_default_hosts,
        description="Docker engines by name; without it, one named `local` at the usual socket.",
    )
    servers: Mapping[Name, Server] = Field(default={}, description="Deployment servers by name.")
    secrets: Mapping[Variable, Secret] = Field(
        default={},
        description="Secrets that pipelines may name in run.secrets; write references, not values.",
        examples=[{"WANDB_API_KEY": "${{ env.WANDB_API_KEY }}"}],
    )

    @model_validator(mode="after")
    def _some_host(self) -> OrchestratorFile:
        if not self.hosts:
            raise wrong(
                "hosts is empty, so nothing can run",
                any_of(["a host, such as local: {slots: 2}"]),
                key="hosts",
            )
        return self
