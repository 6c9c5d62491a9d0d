"""The machines: Docker engines that execute attempts, and registries of images."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from orchestrator.config.models.common import (
    Duration,
    Items,
    Model,
    Name,
    Reserved,
    Secret,
    Size,
    Str,
    kind_of,
    plain_text,
    text_of,
    wrong,
)
from orchestrator.config.models.ssh import HostSsh
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.hostpaths import why_not_mounted
from orchestrator.domain.pipeline import HELPER_IMAGE

DEFAULT_ENGINE: Final = "unix:///var/run/docker.sock"


def _engine(value: Plain, info: ValidationInfo) -> str:
    url = plain_text(value, info)
    if url.startswith("unix:///") and len(url) > len("unix:///"):
        return url
    if url.startswith(("tcp://", "http://", "https://")):
        raise wrong("a Docker engine on an open port gives root to everyone who reaches it", DEFAULT_ENGINE)
    if url.startswith("ssh://"):
        login = urlsplit(url)
        user = f", user: {login.username}" if login.username else ""
        raise wrong(
            "an engine on another machine is not written so", f"ssh: {{hostname: {login.hostname}{user}}}"
        )
    meant = f"unix://{url}" if url.startswith("/") else DEFAULT_ENGINE
    raise wrong(f'"{url}" is not the address of a Docker engine', "unix:///PATH/TO/SOCKET", meant)


_REGISTRY = re.compile(r"(?=.{1,253}(:|$))[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?")


def _registry(value: Plain) -> str:
    text = text_of(value)
    bare = text.partition("://")[2] or text
    host = bare.partition("/")[0].lower()
    if host == "index.docker.io":
        host = "docker.io"
    if text != host or not _REGISTRY.fullmatch(text):
        raise wrong(
            f'"{text}" is not the name of a registry', "HOST or HOST:PORT, as image names begin", host
        )
    return text


RegistryHost = Annotated[
    Str, BeforeValidator(_registry), WithJsonSchema({"type": "string", "pattern": "^[a-z0-9.:-]+$"})
]


class Registry(Model):
    """A login at a registry of images, for the images of runners and for FROM of the administrator's builds.

    It is never lent to a repository's own Dockerfile.
    """

    username: Secret = Field(description="Who to log in as.", examples=["ci"])
    password: Secret = Field(
        description="Password or token of that user; write a reference, not the password.",
        examples=["${{ env.REGISTRY_PASSWORD }}", "${{ file:/run/secrets/registry }}"],
    )


def _way(value: Plain) -> str:
    text = text_of(value).strip()
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise wrong(
            f'"{text}" is neither an IPv4 address nor a network', "such as 172.17.0.1 or 10.0.0.0/24"
        ) from None
    if network.prefixlen == 0:
        raise wrong("this opens every way to the host", "the addresses that runs need, or `protect: none`")
    return str(network).removesuffix("/32")


Way = Annotated[Str, BeforeValidator(_way), WithJsonSchema({"type": "string"})]


_UUID = re.compile(r"(GPU|MIG)-[0-9A-Za-z][0-9A-Za-z/-]{7,127}")


def _gpus(value: Plain) -> str | tuple[str, ...]:
    expected = "auto, none, or a list of UUIDs as `nvidia-smi -L` prints them"
    if isinstance(value, str) and value in ("auto", "none"):
        return value
    if not isinstance(value, list):
        raise wrong(f"{kind_of(value)} is not possible here", expected)
    uuids = tuple(text_of(item) for item in value)
    for uuid in uuids:
        if not _UUID.fullmatch(uuid):
            raise wrong(f'"{uuid}" is not the UUID of a GPU', expected)
    if len(set(uuids)) < len(uuids):
        raise wrong("a GPU is named twice", expected)
    return uuids


def _host_folder(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info)
    why_not = why_not_mounted(text)
    if why_not:
        raise wrong(f'"{text}" cannot be shown to runs: {why_not}', "the absolute path of a folder of data")
    return text.rstrip("/")


HostFolder = Annotated[Str, BeforeValidator(_host_folder), WithJsonSchema({"type": "string"})]


class Host(Model):
    """A Docker engine that executes attempts: on this machine, or on another over SSH."""

    engine: Annotated[Str, BeforeValidator(_engine)] = Field(
        default=DEFAULT_ENGINE, description="The engine's socket on this machine.", examples=[DEFAULT_ENGINE]
    )
    ssh: HostSsh | None = Field(
        default=None,
        description="The way to an engine on another machine, in place of `engine`.",
        examples=[{"hostname": "lab1.example.org", "user": "ci"}],
    )
    slots: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1,
        description="How many attempts it executes at the same time.",
        examples=[2],
        json_schema_extra={"x-unit": "attempts"},
    )
    min_free: Reserved = Field(
        default="2g",
        validate_default=True,
        description="Room that is to stay free where the engine keeps its data: a size, a percentage, or 0 to"
        " switch it off. With less, runs wait.",
        examples=["5g", "10%"],
    )
    protect: Literal["host", "private", "none"] = Field(
        default="host",
        description="What runs with a network must not reach: `host` is the host itself, other containers and"
        " the cloud's metadata; `private` these and all private networks; `none` forbids nothing.",
        examples=["private"],
    )
    reachable: Items[Way] = Field(
        default=(),
        description="Addresses and networks that runs may reach in spite of `protect`. The host's own"
        " addresses have to be named one by one.",
        examples=[["172.17.0.1", "10.0.0.0/24"]],
    )
    helper_image: Annotated[Str, Field(min_length=1)] = Field(
        default=HELPER_IMAGE,
        description="Image of the small containers that keep runs from the host and compare data there; it"
        " needs a shell, `ip`, GNU find and coreutils. The default one is brought to hosts that lack it.",
        examples=[HELPER_IMAGE],
    )
    labels: Mapping[Name, Str] = Field(
        default={}, description="Free words by which runners choose hosts.", examples=[{"zone": "desk"}]
    )
    cpus: Annotated[float | None, Field(gt=0, le=10000)] = Field(
        default=None,
        description="Cores that runs with a limit on them may take together; without it, all it has.",
        examples=[8],
        json_schema_extra={"x-unit": "cores"},
    )
    memory: Size | None = Field(
        default=None,
        description="Memory that runs with a limit on it may take together; without it, all it has.",
        examples=["48g"],
    )
    gpus: Annotated[
        str | tuple[str, ...],
        BeforeValidator(_gpus),
        WithJsonSchema(
            {"anyOf": [{"enum": ["auto", "none"]}, {"type": "array", "items": {"type": "string"}}]}
        ),
    ] = Field(
        default="auto",
        description="NVIDIA GPUs that runs may be given: `auto` all, `none` none, or these by UUID.",
        examples=["auto", ["GPU-3c1f4a52-9d5e-4f3b-8f53-0d2a5b1f8b67"]],
    )
    lost_after: Duration = Field(
        default=timedelta(minutes=10),
        description="How long it may be out of reach before its runs are given up and tried elsewhere.",
        examples=["10m"],
    )
    data_budget: Size | None = Field(
        default=None,
        description="Room that datasets may take on it; those unused for longest go first.",
        examples=["200g"],
    )
    data: Mapping[Name, HostFolder] = Field(
        default={},
        description="Datasets that it has already, by their names in pipelines, with the folder there. A run"
        " gets that folder itself, read-only, as long as it holds exactly the version that the run is about;"
        " else the data are brought as usual.",
        examples=[{"wine": "/data/wine"}],
    )

    @model_validator(mode="after")
    def _one_way(self) -> Host:
        if self.ssh is not None and "engine" in self.model_fields_set:
            raise wrong(
                "both engine and ssh are given, and each names another engine",
                "ssh: with the other machine's socket under ssh: socket",
                key="engine",
            )
        for name, path in self.data.items() if self.ssh is None else ():
            # A link on this machine may lead anywhere; of one elsewhere its contents are compared.
            why_not = why_not_mounted(os.path.realpath(path))
            if why_not:
                message = f"{path}, the data of {name}, leads to {os.path.realpath(path)}: {why_not}"
                raise wrong(message, "a folder of data", key="data")
        return self
