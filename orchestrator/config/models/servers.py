"""The servers that models are deployed to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from orchestrator.config.models.common import ExistingFile, Model, Str, plain_text, text_of, wrong
from orchestrator.config.yaml_loader import Plain

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
        description="How many of the newest releases stay on the server; the current one always does.",
        examples=[5],
        json_schema_extra={"x-unit": "releases"},
    )
