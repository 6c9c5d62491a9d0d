"""What happens on a run's outcome: deployments and mails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from orchestrator.config.models.common import (
    NOT_YET,
    Inside,
    Items,
    Model,
    Name,
    Str,
    kind_of,
    text_of,
    wrong,
)
from orchestrator.config.models.email import mail_address
from orchestrator.config.problems import any_of, closest
from orchestrator.config.yaml_loader import Plain

AUTHOR: Final = "author"
_KINDS: Final = ("deploy", "email")
_LATER_KINDS: Final = ("github", "webhook", "command")


class Deploy(Model):
    """What is put on which server."""

    later: ClassVar[Mapping[str, str]] = {"approval": "", "stage": ""}

    server: Name = Field(description="A server of orchestrator.yaml.", examples=["prod"])
    files: Items[Inside] = Field(
        default=(),
        description="Collected files to deploy, as patterns; without it, all that `artifacts` names.",
        examples=[["model.*", "metrics.json"]],
    )
    data: Items[Name] = Field(
        default=(), description="Datasets to deploy, in the version that the run used.", examples=[["wine"]]
    )
    report: bool = Field(default=False, description="Whether the run's report goes along.", examples=[True])


class DeployAction(Model):
    """Deploy the run."""

    deploy: Deploy = Field(description="Put artifacts, data and the report on a server.")


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


class EmailAction(Model):
    """Mail the run's report."""

    email: EmailOptions = Field(description="Mail the run's report.")


def _kind(value: object) -> str:
    return "<deploy>" if isinstance(value, dict) and "deploy" in value else "<email>"


def _one_action(value: Plain) -> Plain:
    form = "{deploy: {…}} or {email: {…}}"
    if not isinstance(value, dict):
        suggestion = f"{value}: {{…}}" if value in _KINDS else ""
        raise wrong(f"this is no action, found {kind_of(value)}", form, suggestion)
    kinds = [key for key in value if not key.startswith("x-")]
    for kind in kinds:
        if kind in _LATER_KINDS:
            raise wrong(f"the action {kind} is {NOT_YET}", any_of(_KINDS), key=kind)
    unknown = [kind for kind in kinds if kind not in _KINDS]
    if unknown:
        raise wrong(
            f'"{unknown[0]}" is no action', any_of(_KINDS), closest(unknown[0], _KINDS), key=unknown[0]
        )
    if len(kinds) != 1:
        raise wrong(f"one list item holds {len(kinds)} actions", f"one action an item: {form}")
    return value


AnyAction: TypeAlias = Annotated[
    Annotated[DeployAction, Tag("<deploy>")] | Annotated[EmailAction, Tag("<email>")],
    Discriminator(_kind),
    BeforeValidator(_one_action),
]


class Actions(Model):
    """Actions by what they hang on, in the order in which they happen."""

    later: ClassVar[Mapping[str, str]] = {"progress": ""}

    start: Items[AnyAction] = Field(default=(), description="When the run starts.")
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

    def by_trigger(self) -> Mapping[str, tuple[DeployAction | EmailAction, ...]]:
        """All actions under the names that the file uses."""
        fields = type(self).model_fields
        return {spec.alias or name: getattr(self, name) for name, spec in fields.items()}
