"""How a host on another machine is reached: the words of its `ssh:`."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

from orchestrator.config.models.common import ExistingFile, Model, Str, plain_text, text_of, wrong
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.pipeline import DOCKER_SOCKET

_HOSTNAME: Final = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+"
)
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}")
_HOP: Final = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9._+-]*@)?(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)
_SOCKET: Final = re.compile(r"(/[A-Za-z0-9._@+-]+)+")


def _hostname(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info).strip()
    if "@" in text:
        user, _, name = text.rpartition("@")
        raise wrong("a user stands before the name", f"hostname: {name}, user: {user}")
    if not _HOSTNAME.fullmatch(text):
        raise wrong(
            f'"{text}" is not the name or address of a machine', "such as lab1.example.org or 10.0.0.5"
        )
    return text


def _user(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info).strip()
    if not _USER.fullmatch(text):
        raise wrong(f'"{text}" is not the name of a user', "such as ci")
    return text


def _jump(value: Plain, info: ValidationInfo) -> str:
    hops = [hop.strip() for hop in plain_text(value, info).split(",")]
    for hop in hops:
        if not _HOP.fullmatch(hop):
            raise wrong(
                f'"{hop}" is not a machine to jump over',
                "USER@HOST:PORT, several with commas; user and port may lack",
            )
    return ",".join(hops)


def _socket(value: Plain) -> str:
    text = text_of(value).removeprefix("unix://")
    if not _SOCKET.fullmatch(text) or ".." in text.split("/"):
        raise wrong(
            f'"{text}" is not the path of a socket',
            f"an absolute path, such as {DOCKER_SOCKET}",
            DOCKER_SOCKET,
        )
    return text


_TEXT: Final = WithJsonSchema({"type": "string"})


class HostSsh(Model):
    """An SSH login on a machine with a Docker engine. Nothing else has to be installed there."""

    hostname: Annotated[Str, BeforeValidator(_hostname), _TEXT] = Field(
        description="Name or address of the machine, or a Host of your ssh_config.",
        examples=["lab1.example.org"],
    )
    user: Annotated[Str | None, BeforeValidator(_user), _TEXT] = Field(
        default=None,
        description="User to log in as, who may use the engine's socket; without it, what ssh_config says,"
        " else this process's user.",
        examples=["ci"],
    )
    port: Annotated[int | None, Field(ge=1, le=65535)] = Field(
        default=None,
        description="Port of its sshd; without it, what ssh_config says, else 22.",
        examples=[22],
    )
    identity_file: ExistingFile | None = Field(
        default=None,
        description="Private key to log in with, without a passphrase; without it, the SSH agent and what"
        " ssh_config says.",
        examples=["~/.ssh/ci"],
    )
    proxy_jump: Annotated[Str | None, BeforeValidator(_jump), _TEXT] = Field(
        default=None,
        description="Machines to go through, as `ssh -J` takes them. Their keys have to be trusted as well.",
        examples=["bastion.example.org", "ci@bastion.example.org:2222"],
    )
    known_hosts: ExistingFile | None = Field(
        default=None,
        description="A known_hosts file that you keep yourself, in place of the keys that `orchestrator hosts"
        " trust` wrote down.",
        examples=["/etc/ssh/ssh_known_hosts"],
    )
    config: ExistingFile | None = Field(
        default=None,
        description="An ssh_config file in place of ~/.ssh/config and the system's.",
        examples=["./ssh_config"],
    )
    socket: Annotated[Str, BeforeValidator(_socket), _TEXT] = Field(
        default=DOCKER_SOCKET,
        description="The engine's socket on that machine; that of Podman or of a rootless engine will do.",
        examples=["/run/user/1000/docker.sock", "/run/user/1000/podman/podman.sock"],
    )
