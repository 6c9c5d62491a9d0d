"""Services: containers in which results are served."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from orchestrator.config.models.common import (
    Duration,
    ExistingFolder,
    Items,
    Model,
    Name,
    Size,
    Str,
    Variable,
    Verbatim,
    plain_text,
    text_of,
    wrong,
)
from orchestrator.config.yaml_loader import Plain

_PORT: Final = re.compile(r"(?:(\d+\.\d+\.\d+\.\d+):)?(\d{1,5}):(\d{1,5})")
_USER: Final = re.compile(r"\d{1,10}:\d{1,10}")
MIB: Final = 1 << 20


def _port(value: Plain) -> str:
    text = text_of(value)
    found = _PORT.fullmatch(text)
    if not found or not all(0 < int(port) < 65536 for port in found.groups()[1:]):
        raise wrong(
            f'"{text}" is no port', '"HOST:CONTAINER", or "ADDRESS:HOST:CONTAINER"', f'"{text}:{text}"'
        )
    return text if found.group(1) else f"127.0.0.1:{text}"


def _user(value: Plain) -> str:
    text = text_of(value)
    if not _USER.fullmatch(text):
        raise wrong(f'"{text}" is no user', '"UID:GID" in numbers', '"1000:1000"')
    return text


def _folder_inside(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info)
    if not text.startswith("/") or not text.strip("/") or ".." in text.split("/"):
        raise wrong(f'"{text}" is no folder in a container', "an absolute path, such as /models")
    return text.rstrip("/")


class ServiceHealth(Model):
    """How a service tells that it is well."""

    command: Annotated[Items[Verbatim], Field(min_length=1)] = Field(
        description="A command in the container whose exit code 0 says that it is well.",
        examples=[["curl", "-fsS", "http://localhost:8080/health"]],
    )
    interval: Duration = Field(
        default=timedelta(seconds=2), description="How often it is asked.", examples=["2s"]
    )
    patience: Duration = Field(
        default=timedelta(minutes=2),
        description="How long a new container may take until it is well; then it has failed.",
        examples=["2m"],
    )


class Service(Model):
    """A container that keeps running with the results of the last run that was deployed to it."""

    host: Name = Field(default="local", description="A host under `hosts`.", examples=["local"])
    image: Str | None = Field(
        default=None, description="Its image, by name.", examples=["registry.example.org/serve:1"]
    )
    build: ExistingFolder | None = Field(
        default=None,
        description="In place of `image`: a folder with a Dockerfile that it is built from, once for each"
        " content.",
        examples=["./serve"],
    )
    command: Items[Verbatim] = Field(
        default=(),
        description="What runs in it, as a list of arguments; without it, what the image says.",
        examples=[["python", "serve.py", "/models"]],
    )
    ports: Items[Annotated[Str, BeforeValidator(_port), WithJsonSchema({"type": "string"})]] = Field(
        default=(),
        description="Ports that the host gives it, as HOST:CONTAINER on 127.0.0.1, or with an address of the"
        " host before. With ports, the old container is stopped before the new one starts.",
        examples=[["8080:8080"]],
    )
    env: Mapping[Variable, Str] = Field(
        default={}, description="Environment variables.", examples=[{"WORKERS": "2"}]
    )
    health: ServiceHealth | None = Field(
        default=None,
        description="How it tells that it is well; without it, it has to run for 5 s without ending.",
        examples=[{"command": ["curl", "-fsS", "http://localhost:8080/health"]}],
    )
    folder: Annotated[Str, BeforeValidator(_folder_inside), WithJsonSchema({"type": "string"})] = Field(
        default="/mlci/artifacts", description="Where the results lie in it.", examples=["/models"]
    )
    user: Annotated[Str, BeforeValidator(_user), WithJsonSchema({"type": "string"})] = Field(
        default="65534:65534", description="User and group that it runs as.", examples=["1000:1000"]
    )
    cpus: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="How many CPU cores it may use; without it, all.",
        examples=[2.0],
        json_schema_extra={"x-unit": "cores"},
    )
    memory: Size | None = Field(
        default=None, description="How much memory it may use; without it, all.", examples=["2g"]
    )
    pids: Annotated[int, Field(ge=1)] = Field(
        default=512,
        description="How many processes and threads it may have.",
        examples=[512],
        json_schema_extra={"x-unit": "processes"},
    )

    @model_validator(mode="after")
    def _one_image(self) -> Service:
        if (self.image is None) == (self.build is None):
            both = "both image and build are" if self.image else "neither image nor build is"
            raise wrong(f"{both} given", "exactly one of image and build")
        return self
