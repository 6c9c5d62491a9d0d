"""Actions that put a run's results somewhere: into a repository, a bucket, a container."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from orchestrator.config.models.common import Items, Name, Str, Variable, verbatim_text, wrong
from orchestrator.config.models.rules import Taken
from orchestrator.config.problems import any_of, closest
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.placeholders import PLACEHOLDERS, unknown_in

_REF: Final = re.compile(
    r"(?!-)(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)))[^\x00-\x20\x7f~^:?*\[\\]*[^\x00-\x20\x7f~^:?*\[\\/.]"
)


def _filled_later(value: Plain) -> str:
    text = verbatim_text(value)
    if unknown := unknown_in(text):
        raise wrong(f"{{{unknown}}} stands for nothing", any_of(PLACEHOLDERS), closest(unknown, PLACEHOLDERS))
    if any(ord(c) < 32 and c != "\n" for c in text):
        raise wrong("there are control characters in it", "printable text")
    return text


def _place(value: Plain) -> str:
    text = _filled_later(value).rstrip("/")
    if text.startswith("/") or "\\" in text or "\n" in text or {"", ".", ".."} & set(text.split("/")):
        raise wrong(f'"{text}" leaves its folder', "a relative path with forward slashes and without ..")
    return text


def _ref(value: Plain) -> str:
    text = _filled_later(value)
    if not _REF.fullmatch(text) or text.startswith(("refs/", "/")) or text == "HEAD":
        raise wrong(f'"{text}" cannot be the name of a branch or tag', "a name as git allows it")
    return text


def _shell(value: Plain) -> str:
    """Text for a shell; a list of arguments is quoted so that they reach the program as written."""
    if isinstance(value, list) and value:
        return shlex.join(verbatim_text(argument) for argument in value)
    text = verbatim_text(value)
    if not text.strip():
        raise wrong("the command is empty", "text for `sh -c`, or a list of arguments")
    return text


_TEXT: Final = WithJsonSchema({"type": "string", "minLength": 1})
Filled = Annotated[Str, BeforeValidator(_filled_later), _TEXT]
Place = Annotated[Str, BeforeValidator(_place), _TEXT]
Ref = Annotated[Str, BeforeValidator(_ref), _TEXT]


class GitOptions(Taken):
    """Results as a commit of a branch, or the run's commit under a tag."""

    later: ClassVar[Mapping[str, str]] = {"force": "nothing is ever overwritten there"}

    source: Name = Field(
        description="A source of the pipeline, whose login may write to the repository.", examples=["code"]
    )
    branch: Ref | None = Field(
        default=None,
        description="Branch that gets a commit with the results; made when missing, never overwritten.",
        examples=["results"],
    )
    tag: Ref | None = Field(
        default=None,
        description="Tag for the run's commit; one that is there for another commit is never moved.",
        examples=["model-{number}"],
    )
    folder: Place | None = Field(
        default=None,
        description="Folder of the branch whose content is replaced by the results; without it, `results`.",
        examples=["models/wine"],
    )
    message: Filled | Literal[""] = Field(
        default="",
        description="Message of the commit or the tag.",
        examples=["Model {number} of {pipeline}"],
    )

    @model_validator(mode="after")
    def _branch_or_tag(self) -> GitOptions:
        if (self.branch is None) == (self.tag is None):
            both = "both branch and tag are" if self.branch else "neither branch nor tag is"
            raise wrong(f"{both} given", "exactly one of branch and tag")
        taken = self.files or self.data or self.report or self.metrics or self.code or self.templates
        if self.tag is not None and (taken or self.folder):
            raise wrong("a tag names the run's commit and holds no files", "branch: for files", key="tag")
        return self


class UploadOptions(Taken):
    """Results as objects of a bucket."""

    store: Name = Field(description="A store of orchestrator.yaml.", examples=["models"])
    prefix: Place | None = Field(
        default=None,
        description="What the objects' names begin with; without it, `{pipeline}/{run}`.",
        examples=["wine/{number}"],
    )


class ContainerOptions(Taken):
    """Results in a container that keeps running."""

    service: Name = Field(description="A service of orchestrator.yaml.", examples=["api"])


class CommandOptions(Taken):
    """A command with the results in its working folder."""

    run: Annotated[Str, BeforeValidator(_shell)] = Field(
        description="Text for `sh -c`, or a list of arguments; it runs in a fresh container.",
        examples=["python publish.py model.bin"],
    )
    runner: Name | None = Field(
        default=None, description="The runner; without it, the pipeline's.", examples=["cpu"]
    )
    env: Mapping[Variable, Str] = Field(
        default={}, description="Environment variables.", examples=[{"STAGE": "prod"}]
    )
    secrets: Items[Variable] = Field(
        default=(), description="Secrets that become environment variables.", examples=[["HF_TOKEN"]]
    )
