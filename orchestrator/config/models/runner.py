"""config/runners/*.yaml: in which image, with which limits and on which hosts attempts execute."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from orchestrator.config.models.common import (
    ExistingFolder,
    Inside,
    Items,
    Model,
    Name,
    Size,
    Str,
    text_of,
    wrong,
)
from orchestrator.config.problems import closest
from orchestrator.config.yaml_loader import Plain

GIB: Final = 1 << 30
_IMAGE = re.compile(r"[a-z0-9]+([._/:-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@sha256:[0-9a-f]{64})?")


def _image_name(value: Plain) -> str:
    text = text_of(value)
    if not _IMAGE.fullmatch(text):
        suggestion = text.lower() if _IMAGE.fullmatch(text.lower()) else ""
        raise wrong(f'"{text}" is not the name of an image', "a name such as python:3.12-slim", suggestion)
    return text


ImageName = Annotated[Str, BeforeValidator(_image_name), WithJsonSchema({"type": "string"})]


class BuiltImage(Model):
    """An image that is built from a folder of the administrator."""

    later: ClassVar[Mapping[str, str]] = {"args": ""}

    build: ExistingFolder = Field(
        description="Folder with a Dockerfile; a relative path counts from the configuration folder.",
        examples=["../runner-images/cpu"],
    )


class RepositoryImage(Model):
    """An image that is built from the watched repository, anew for each commit that changes it."""

    later: ClassVar[Mapping[str, str]] = {
        "args": "",
        "context": "the whole repository is the build's context",
    }

    dockerfile: Inside = Field(description="The Dockerfile in the repository.", examples=["Dockerfile"])


def _image_kind(value: object) -> str | None:
    if isinstance(value, dict):
        return "<dockerfile>" if "dockerfile" in value else "<build>"
    return "<name>"


def _image(value: Plain) -> Plain:
    if isinstance(value, dict) and not {"build", "dockerfile"} & set(value):
        odd = next(iter(value), "")
        raise wrong(
            "the image is neither named nor built",
            "a name, {build: FOLDER} or {dockerfile: FILE}",
            closest(odd, ["build", "dockerfile"]),
            key=odd,
        )
    return value


ImageSource: TypeAlias = Annotated[
    Annotated[ImageName, Tag("<name>")]
    | Annotated[BuiltImage, Tag("<build>")]
    | Annotated[RepositoryImage, Tag("<dockerfile>")],
    Discriminator(_image_kind),
    BeforeValidator(_image),
]


def _whole_gpus(value: Plain) -> Plain:
    if isinstance(value, float) or (isinstance(value, str) and re.fullmatch(r"\d*\.\d+", value.strip())):
        raise wrong(
            f"{value} is no number of GPUs: they are given whole, so that two runs never share one",
            "a whole number, such as 1",
        )
    return value


def _gpu_model(value: Plain) -> str:
    text = text_of(value)
    if not re.search(r"[A-Za-z0-9]", text):
        raise wrong("this names no model of a GPU", "words of the name that nvidia-smi tells, such as H100")
    return text


class Resources(Model):
    """Limits of one container."""

    cpus: Annotated[float, Field(strict=False, gt=0, le=4096)] | None = Field(
        default=None,
        description="Most processor time, in cores; without it, all of the host's.",
        examples=[4],
        json_schema_extra={"x-unit": "cores"},
    )
    memory: Size | None = Field(
        default=None,
        description="Most memory; a run that wants more is stopped. Without it, all of the host's.",
        examples=["8g"],
    )
    shm_size: Size = Field(
        default=GIB, description="Size of /dev/shm, which data loaders use.", examples=["1g"]
    )
    pids: Annotated[int, Field(ge=16, le=1_000_000)] = Field(
        default=512,
        description="Most processes and threads.",
        examples=[512],
        json_schema_extra={"x-unit": "processes"},
    )
    gpus: Annotated[int, BeforeValidator(_whole_gpus), Field(ge=0, le=64)] = Field(
        default=0,
        description="How many GPUs a run has for itself; two runs never share one.",
        examples=[1],
        json_schema_extra={"x-unit": "GPUs"},
    )
    gpu_model: Annotated[Str, BeforeValidator(_gpu_model)] | None = Field(
        default=None,
        description="Words that the model's name, as nvidia-smi tells it, must have; upper and lower case are"
        " the same.",
        examples=["H100", "RTX 4090"],
    )
    gpu_memory: Size | None = Field(
        default=None,
        description="Least memory of each GPU, as it is sold: the driver may keep a twelfth for itself.",
        examples=["24g"],
    )

    @model_validator(mode="after")
    def _which_gpus_are_meant(self) -> Resources:
        for key in ("gpu_model", "gpu_memory"):
            if not self.gpus and getattr(self, key) is not None:
                raise wrong(f"{key} says which GPUs, and gpus gives none", "gpus: 1 beside it", key=key)
        return self


class HostLabels(Model):
    """Hosts chosen by their labels."""

    labels: Mapping[Name, Str] = Field(
        description="Labels that a host must all have.", examples=[{"zone": "desk"}]
    )


def _hosts_kind(value: object) -> str:
    return "<labels>" if isinstance(value, dict) else "<names>"


HostChoice: TypeAlias = Annotated[
    Annotated[Items[Name], Tag("<names>")] | Annotated[HostLabels, Tag("<labels>")],
    Discriminator(_hosts_kind),
]


def _user(value: Plain) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        raise wrong("this must be text, found a number", "uid:gid in quotes", f"{value}:{value}")
    text = text_of(value)
    if not re.fullmatch(r"\d{1,9}:\d{1,9}", text):
        raise wrong(f'"{text}" is not a user', 'uid:gid in numbers, such as "1000:1000"')
    return text


class RunnerFile(Model):
    """config/runners/NAME.yaml: in which image, with which limits and on which hosts attempts execute."""

    later: ClassVar[Mapping[str, str]] = {
        "volumes": "data come from datasets:, results go to $MLCI_OUTPUT_DIR; nothing of the host is mounted",
        "binds": "data come from datasets:, results go to $MLCI_OUTPUT_DIR; nothing of the host is mounted",
        "privileged": "",
        "pull": "",
    }

    runner: Name = Field(description="Name by which pipelines ask for it.", examples=["cpu"])
    image: ImageSource = Field(
        description="The image: a NAME (on the host, else pulled), {build: FOLDER} or {dockerfile: FILE}.",
        examples=["python:3.12-slim", {"build": "../runner-images/cpu"}, {"dockerfile": "Dockerfile"}],
    )
    resources: Resources = Field(
        default=Resources(), description="How much of the host one container may use."
    )
    hosts: HostChoice | None = Field(
        default=None,
        description="Which hosts may execute it: names, most wanted first, or {labels: …}; without it, all.",
        examples=[["local"], {"labels": {"zone": "desk"}}],
    )
    network: Literal["bridge", "none"] = Field(
        default="bridge",
        description="bridge: a network of its own with a way out; none: no network at all.",
        examples=["bridge"],
    )
    user: Annotated[Str, BeforeValidator(_user)] = Field(
        default="1000:1000",
        description="User and group, in numbers, that the run's command has.",
        examples=["1000:1000"],
    )

    @property
    def uid(self) -> int:
        return int(self.user.partition(":")[0])

    @property
    def gid(self) -> int:
        return int(self.user.partition(":")[2])

    @property
    def host_names(self) -> tuple[str, ...]:
        return self.hosts if isinstance(self.hosts, tuple) else ()

    @property
    def host_labels(self) -> Mapping[str, str]:
        return self.hosts.labels if isinstance(self.hosts, HostLabels) else {}
