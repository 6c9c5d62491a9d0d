"""What happens on a run's outcome: deployments, mails, and what tells others of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from orchestrator.config.models.common import (
    Items,
    Model,
    Name,
    Str,
    kind_of,
    text_of,
    wrong,
)
from orchestrator.config.models.email import mail_address
from orchestrator.config.models.results import CommandOptions, ContainerOptions, GitOptions, UploadOptions
from orchestrator.config.models.rules import Ruled, Taken
from orchestrator.config.problems import any_of, closest
from orchestrator.config.yaml_loader import Plain

AUTHOR: Final = "author"
_KINDS: Final = ("deploy", "email", "github", "git", "upload", "container", "command", "webhook", "exec")
_COMMON: Final = tuple(Ruled.model_fields)
ONLY_PASSED: Final = ("deploy", "container")
"""Kinds that put what passed into service."""
WITHOUT_RESULTS: Final = ("email", "github", "webhook", "exec")
"""Kinds that need nothing that a run leaves."""


class Deploy(Taken):
    """What is put on which server, or on all servers of which environment."""

    server: Name | None = Field(default=None, description="A server of orchestrator.yaml.", examples=["prod"])
    environment: Name | None = Field(
        default=None,
        description="In place of `server`: an environment of orchestrator.yaml, with all its servers.",
        examples=["production"],
    )

    @model_validator(mode="after")
    def _one_place(self) -> Deploy:
        if self.server and self.environment:
            raise wrong("both server and environment are given", "one of the two", key="environment")
        if not self.server and not self.environment:
            raise wrong("nothing says where to deploy", "server: NAME, or environment: NAME")
        return self


class DeployAction(Ruled):
    """Deploy the run."""

    deploy: Deploy = Field(description="Put artifacts, data and more on servers.")


def _recipient(value: Plain) -> str:
    text = text_of(value)
    if text == AUTHOR:
        return text
    if "@" not in text and (meant := closest(text, [AUTHOR])):
        raise wrong(f'"{text}" is not a mail address', "name@example.org, or the word author", meant)
    return mail_address(text)


Recipient = Annotated[Str, BeforeValidator(_recipient), WithJsonSchema({"type": "string"})]


class EmailOptions(Model):
    """Who gets the report."""

    later: ClassVar[Mapping[str, str]] = {"attach": "", "subject": "", "cc": "put all addresses under to"}

    to: Annotated[Items[Recipient], Field(min_length=1)] = Field(
        description="Addresses; the word `author` stands for the author of the commit.",
        examples=[["team@example.org", "author"]],
    )


class EmailAction(Ruled):
    """Mail the run's report."""

    email: EmailOptions = Field(description="Mail the run's report.")


class GithubOptions(Model):
    """What GitHub is told."""

    status: bool = Field(
        default=True,
        description="With `false`, no run of the pipeline sets a commit status (or check run), under "
        "whichever trigger this stands. Without any `github` action they are set.",
        examples=[False],
    )
    comment: Literal["always", "changed", "never"] = Field(
        default="always",
        description="`always`: the one comment under the pull request tells of the newest run. `changed`: "
        "only where the word (passed, rejected, fixed, …) is not the one that it says. `never`: no comment.",
        examples=["changed"],
    )


class GithubAction(Ruled):
    """Comment the report under the pull request."""

    github: GithubOptions = Field(
        description="Write the run's report under the pull request, in one comment that is kept up to date."
    )


class WebhookAction(Ruled):
    """Tell another service of the run."""

    timed = True

    webhook: Name = Field(
        description="A hook of orchestrator.yaml, which gets the run as JSON.", examples=["chat"]
    )


class ExecAction(Ruled):
    """Start an executable of the administrator's."""

    timed = True

    exec: Name = Field(
        description="A program of orchestrator.yaml, which gets the run as JSON on its standard input.",
        examples=["notify"],
    )


class GitAction(Ruled):
    """Push results, or a tag."""

    git: GitOptions = Field(description="Commit results to a branch, or tag the run's commit, and push.")


class UploadAction(Ruled):
    """Upload results."""

    upload: UploadOptions = Field(description="Put results into S3-compatible storage.")


class ContainerAction(Ruled):
    """Keep a container with the results running."""

    container: ContainerOptions = Field(description="Keep a container running with the results in it.")


class CommandAction(Ruled):
    """Run a command on the results."""

    timed = True

    command: CommandOptions = Field(description="Run a command in a fresh container with the results.")


def _kind(value: object) -> str:
    found = next((kind for kind in _KINDS if isinstance(value, dict) and kind in value), "email")
    return f"<{found}>"


def _one_action(value: Plain) -> Plain:
    form = "{deploy: {…}} or {email: {…}}"
    if not isinstance(value, dict):
        suggestion = f"{value}: {{…}}" if value in _KINDS else ""
        raise wrong(f"this is no action, found {kind_of(value)}", form, suggestion)
    kinds = [key for key in value if not key.startswith("x-") and key not in _COMMON]
    unknown = [kind for kind in kinds if kind not in _KINDS]
    known = (*_KINDS, *_COMMON)
    if unknown and len(kinds) > 1:
        raise wrong(f'unknown key "{unknown[0]}"', any_of(known, 24), closest(unknown[0], known), unknown[0])
    if unknown:
        raise wrong(f'"{unknown[0]}" is no action', any_of(_KINDS), closest(unknown[0], known), unknown[0])
    if len(kinds) != 1:
        raise wrong(f"one list item holds {len(kinds)} actions", f"one action an item: {form}")
    return value


ActionModel: TypeAlias = (
    DeployAction
    | EmailAction
    | GithubAction
    | WebhookAction
    | ExecAction
    | GitAction
    | UploadAction
    | ContainerAction
    | CommandAction
)
AnyAction: TypeAlias = Annotated[
    Annotated[DeployAction, Tag("<deploy>")]
    | Annotated[EmailAction, Tag("<email>")]
    | Annotated[GithubAction, Tag("<github>")]
    | Annotated[WebhookAction, Tag("<webhook>")]
    | Annotated[ExecAction, Tag("<exec>")]
    | Annotated[GitAction, Tag("<git>")]
    | Annotated[UploadAction, Tag("<upload>")]
    | Annotated[ContainerAction, Tag("<container>")]
    | Annotated[CommandAction, Tag("<command>")],
    Discriminator(_kind),
    BeforeValidator(_one_action),
]


class Actions(Model):
    """Actions by what they hang on, in the order in which they happen."""

    start: Items[AnyAction] = Field(default=(), description="When the run starts.")
    progress: Items[AnyAction] = Field(
        default=(), description="Now and then while the run is under way; each says how often with `every`."
    )
    on_pass: Items[AnyAction] = Field(
        default=(), alias="pass", description="The gate passed: the only place for deploy."
    )
    fail: Items[AnyAction] = Field(default=(), description="The gate rejected the run.")
    inconclusive: Items[AnyAction] = Field(default=(), description="The gate could not decide.")
    failed: Items[AnyAction] = Field(default=(), description="The training failed: exit code, memory, time.")
    error: Items[AnyAction] = Field(default=(), description="The orchestrator or a host failed.")
    cancelled: Items[AnyAction] = Field(default=(), description="The run was cancelled.")
    fixed: Items[AnyAction] = Field(
        default=(), description="The first run that passed after one that did not."
    )
    broken: Items[AnyAction] = Field(
        default=(), description="The first run that did not pass after one that did."
    )

    def by_trigger(self) -> Mapping[str, tuple[ActionModel, ...]]:
        """All actions under the names that the file uses."""
        fields = type(self).model_fields
        return {spec.alias or name: getattr(self, name) for name, spec in fields.items()}
