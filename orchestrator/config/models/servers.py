"""The servers that models are deployed to."""

from __future__ import annotations

import base64
import binascii
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from orchestrator.config.models.common import (
    Duration,
    ExistingFile,
    Items,
    Model,
    Secret,
    Size,
    Str,
    plain_text,
    text_of,
    wrong,
)
from orchestrator.config.models.proof import Proof
from orchestrator.config.yaml_loader import Plain

if TYPE_CHECKING:
    from typing import Self

KEY_TYPES: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)


def _host_key(value: Plain) -> str:
    text = text_of(value).strip()
    fields = text.split()
    expected = "TYPE and KEY as `ssh-keyscan -t ed25519 HOST` prints them after the host's name"
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


class Login(Model):
    """An SSH login."""

    hostname: Str = Field(
        min_length=1, description="Name or address of the machine.", examples=["prod.example.org"]
    )
    user: Str = Field(min_length=1, description="User to log in as.", examples=["deploy"])
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=22, description="Port of its sshd.", examples=[22]
    )
    identity_file: ExistingFile | None = Field(
        default=None,
        description="Private key to log in with; without it and without a password, the SSH agent is asked.",
        examples=["~/.ssh/id_ed25519"],
    )
    passphrase: Secret | None = Field(
        default=None,
        description="What opens the private key, as a reference to a secret.",
        examples=["${{ secrets.DEPLOY_KEY }}"],
    )
    certificate_file: ExistingFile | None = Field(
        default=None,
        description="OpenSSH certificate of the key; without it, the `-cert.pub` beside the key, if there is"
        " one.",
        examples=["~/.ssh/id_ed25519-cert.pub"],
    )
    password: Secret | None = Field(
        default=None,
        description="Password to log in with, as a reference.",
        examples=["${{ secrets.DEPLOY_PASSWORD }}"],
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
    def _some_key_is_pinned(self) -> Self:
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
        if self.identity_file is None and (self.passphrase or self.certificate_file):
            what = "passphrase" if self.passphrase else "certificate_file"
            raise wrong(f"{what} is given without the key that it belongs to", "identity_file as well")
        return self


class Ssh(Login):
    """An SSH login on a deployment server."""

    proxy_jump: Items[Login] = Field(
        default=(),
        description="Machines to go through, the nearest first, each with a login and a pinned key of its"
        " own.",
        examples=[[{"hostname": "bastion.example.org", "user": "jump", "known_hosts": "./known_hosts"}]],
    )
    timeout: Duration = Field(
        default=timedelta(seconds=30),
        description="How long connecting, and each silence of the server, may take.",
        examples=["30s"],
    )
    keepalive: Duration = Field(
        default=timedelta(seconds=15),
        description="How often an idle connection shows the machines between that it is in use.",
        examples=["15s"],
    )


def _server_path(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info)
    clean = text.rstrip("/")
    if not text.startswith("/") or not clean or ".." in text.split("/") or any(ord(c) < 32 for c in text):
        raise wrong(
            f'"{text}" is no folder for releases', "an absolute path on the server, such as /srv/models"
        )
    return clean


def _shared(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info)
    parts = text.split("/")
    if not all(parts) or not {".", ".."}.isdisjoint(parts) or any(ord(c) < 32 for c in text):
        raise wrong(f'"{text}" is no path inside a release', "a relative path, such as logs")
    return text


class Server(Proof):
    """A machine that models are deployed to."""

    ssh: Ssh = Field(
        description="How to log in.", examples=[{"hostname": "prod.example.org", "user": "deploy"}]
    )
    path: Annotated[Str, BeforeValidator(_server_path)] = Field(
        description="Folder on the server that gets `releases/` and the link `current`.",
        examples=["/srv/models"],
    )
    keep: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=5,
        description="How many of the newest releases stay on the server; the current one always does.",
        examples=[5],
        json_schema_extra={"x-unit": "releases"},
    )
    shared: Items[Annotated[Str, BeforeValidator(_shared)]] = Field(
        default=(),
        description="Paths in each release that are links to the same path in `shared/`, which outlives"
        " releases.",
        examples=[["logs", "cache"]],
    )
    rate: Size | None = Field(
        default=None,
        description="How much is sent in a second, at most; without it, as much as the line takes.",
        examples=["10MiB"],
    )
    concurrency: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None,
        description="How many connections deployments may have to it at once; without it, any number. The"
        " folder itself takes one deployment at a time in any case.",
        examples=[1],
    )
