"""Repositories that say themselves what runs, and what the administrator lets them use."""

from __future__ import annotations

import fnmatch
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from orchestrator.config.models.common import Inside, Items, Model, Name, Str, Variable, text_of, wrong
from orchestrator.config.models.source import RefRule, Source
from orchestrator.config.yaml_loader import Plain

FILE = ".mlci.yaml"


class Repository(Source):
    """A watched repository whose own file, which is not trusted, says what runs."""

    file: Inside = Field(
        default=FILE, description="Where the file lies in the repository.", examples=["ci/mlci.yaml"]
    )
    project: Name = Field(
        default="default", description="The group that its pipelines belong to.", examples=["wine"]
    )
    deploy_branches: Items[RefRule] = Field(
        default=(),
        description="Branches whose runs may deploy and be baselines; none: the first watched branch that is "
        "no pattern.",
        examples=[["main"]],
    )

    @property
    def trusted_branches(self) -> tuple[str, ...]:
        """The branches whose runs may deploy."""
        plain = [branch for branch in self.branches if not any(c in branch for c in "*?[!")]
        return tuple(self.deploy_branches or plain[:1])


def _address_rule(value: Plain) -> str:
    text = text_of(value)
    if text.count("@") != 1 or text.startswith("@") or text.endswith("@") or any(ord(c) < 33 for c in text):
        raise wrong(f'"{text}" fits no mail address', "name@example.org, or a pattern such as *@example.org")
    return text


AddressRule = Annotated[Str, BeforeValidator(_address_rule), WithJsonSchema({"type": "string"})]


class Grant(Model):
    """What the file of one repository may use, by name. Nothing that is not named here."""

    secrets: Items[Variable] = Field(
        default=(), description="Secrets that its runs may get.", examples=[["WANDB_API_KEY"]]
    )
    datasets: Items[Name] = Field(
        default=(), description="Datasets of orchestrator.yaml that its runs may read.", examples=[["wine"]]
    )
    runners: Items[Name] = Field(
        default=(),
        description="Runners that its runs may execute on; they say the image, the limits and the hosts.",
        examples=[["cpu", "gpu"]],
    )
    servers: Items[Name] = Field(
        default=(), description="Servers that its runs may be deployed to.", examples=[["wine-prod"]]
    )
    environments: Items[Name] = Field(
        default=(),
        description="Environments that its runs may be deployed to, with the servers in them.",
        examples=[["staging"]],
    )
    commands: bool = Field(
        default=False,
        description="Whether its pipelines may have actions that run a command in a container, as their runs "
        "do: on runners and with secrets that were granted.",
        examples=[True],
    )
    schedules: bool = Field(
        default=False, description="Whether its pipelines may have a `schedule`.", examples=[True]
    )
    replicates: Annotated[int, Field(ge=1, le=100)] = Field(
        default=10,
        description="How many times a change may be trained at most.",
        examples=[10],
        json_schema_extra={"x-unit": "attempts"},
    )
    emails: Items[AddressRule] = Field(
        default=(),
        description="Addresses, or patterns of them, that its reports may be sent to, besides the author.",
        examples=[["*@example.org"]],
    )

    def mails_to(self, address: str) -> bool:
        """Whether a report may be sent there."""
        return any(fnmatch.fnmatchcase(address.lower(), rule.lower()) for rule in self.emails)
