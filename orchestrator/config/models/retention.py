"""retention: in config/orchestrator.yaml: how long runs and what they leave behind are kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from orchestrator.config import units
from orchestrator.config.models.common import Duration, Model, Name, Reserved, Size, kind_of, wrong
from orchestrator.config.problems import closest
from orchestrator.config.yaml_loader import Plain

_EXPECTED: Final = "a duration such as 90d, `keep` to keep all, or a mapping such as {age: 90d}"


def _age(value: Plain) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong(f"{kind_of(value)} is not possible here", _EXPECTED)
    text = str(value)
    try:
        age = units.parse_duration(text)
    except units.UnitError as error:
        meant = f"{text}d" if text.isdecimal() else error.suggestion or closest(text, ["keep"])
        raise wrong(str(error), _EXPECTED, meant) from None
    if age < timedelta(minutes=1):
        raise wrong("this is shorter than a minute", f"at least 1m; {_EXPECTED}")
    return age


Age: TypeAlias = Annotated[
    timedelta,
    BeforeValidator(_age),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d|w) ?)+$", "x-unit": "duration"}),
]
Count: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]


def _form(value: object) -> str:
    if isinstance(value, dict | Model):
        return "<rules>"
    return "<keep>" if value == "keep" else "<age>"


class Limits(Model):
    """When runs, artifacts or logs go: when they exceed any of the limits that are given."""

    age: Age | None = Field(default=None, description="Older ones go.", examples=["90d"])
    count: Count | None = Field(
        default=None,
        description="Only so many of the newest runs of each pipeline keep theirs.",
        examples=[200],
        json_schema_extra={"x-unit": "runs"},
    )
    per_branch: Count | None = Field(
        default=None,
        description="Only so many of the newest runs of each branch of a pipeline keep theirs.",
        examples=[20],
        json_schema_extra={"x-unit": "runs"},
    )
    keep_last: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=5,
        description="So many of the newest runs of each pipeline stay, whatever the limits say.",
        examples=[5],
        json_schema_extra={"x-unit": "runs"},
    )
    keep_passed: bool = Field(
        default=False, description="What passed its gate stays, whatever the limits say."
    )


class UnusedRule(Model):
    """When images or volumes go from a host. What an unfinished run needs stays."""

    unused: Age | None = Field(
        default=None, description="Those that nobody used for so long go.", examples=["14d"]
    )
    budget: Size | None = Field(
        default=None,
        description="So much room may they take on each host; beyond it, the least recently used go.",
        examples=["50g"],
    )


class ReleaseRule(Model):
    """When releases go from servers, beside what the server's `keep` says. The current one never does."""

    age: Age | None = Field(default=None, description="Older ones go.", examples=["180d"])


class DiskRule(Model):
    """Room to be made on the disk of `storage.path`."""

    min_free: Reserved = Field(
        default="0",
        validate_default=True,
        description="When less is free, artifacts and then logs go, the oldest first, until it is, but for "
        "those of which `pipelines` says `keep`: a size or a percentage. Set it higher than "
        "`storage.min_free`, below which no run begins.",
        examples=["10%", "20g"],
    )
    hosts_min_free: Reserved = Field(
        default="0",
        validate_default=True,
        description="When less is free where a host's engine keeps its data, or less than the host's own "
        "`min_free`, images and copies of data that nothing needs go there, the least recently used first, "
        "until a quarter more than that is: a size or a percentage.",
        examples=["10%", "20g"],
    )


_Keep = Annotated[Literal["keep"], Tag("<keep>")]
_Shorthand = Annotated[Age, Tag("<age>")]
LimitsRule: TypeAlias = Annotated[
    _Keep | _Shorthand | Annotated[Limits, Tag("<rules>")], Discriminator(_form)
]
HostRule: TypeAlias = Annotated[
    _Keep | _Shorthand | Annotated[UnusedRule, Tag("<rules>")], Discriminator(_form)
]
ServerRule: TypeAlias = Annotated[
    _Keep | _Shorthand | Annotated[ReleaseRule, Tag("<rules>")], Discriminator(_form)
]
JournalRule: TypeAlias = Annotated[_Keep | _Shorthand, Discriminator(_form)]


class PipelineRetention(Model):
    """What counts for one pipeline instead; a kind that is not named follows the general rule."""

    runs: LimitsRule | None = Field(default=None, description="As above.", examples=["730d"])
    artifacts: LimitsRule | None = Field(default=None, description="As above.", examples=["365d"])
    logs: LimitsRule | None = Field(default=None, description="As above.", examples=["365d"])


class Retention(Model):
    """How long things are kept. A plain duration is an age; `keep` keeps all.

    Whatever the rules say, unfinished runs stay, and so do what gates would be compared with now, live
    releases, pinned and kept runs, and runs that still owe an action or a mail.
    """

    runs: LimitsRule = Field(
        default="keep",
        description="Runs with all that belongs to them; their numbers are never given out again.",
        examples=["365d", {"age": "365d", "keep_passed": True}],
    )
    artifacts: LimitsRule = Field(
        default="keep",
        description="The contents of what runs left behind; their list stays, and says when they went.",
        examples=["90d", {"age": "90d", "count": 200, "keep_passed": True}],
    )
    logs: LimitsRule = Field(default="keep", description="The logs of runs.", examples=["180d"])
    images: HostRule = Field(
        default="30d",
        validate_default=True,
        description="Images that were made on hosts for runs, setups included. Those of runners stay.",
        examples=["14d", {"unused": "14d", "budget": "50g"}],
    )
    volumes: HostRule = Field(
        default="30d",
        validate_default=True,
        description="Copies of dataset versions on hosts. Those of the current versions stay.",
        examples=["30d", {"unused": "30d", "budget": "100g"}],
    )
    leftovers: JournalRule = Field(
        default="1h",
        validate_default=True,
        description="Containers with their workspaces, networks and checkpoints on hosts that nothing needs, "
        "once they were made so long ago. Most go at once when their run ends; these were left by a kill, or "
        "while a host was out of reach.",
        examples=["1d"],
    )
    releases: ServerRule = Field(
        default="keep",
        description="Releases on servers, beside each server's own `keep`.",
        examples=["180d"],
    )
    journal: JournalRule = Field(
        default="keep",
        description="Entries of the journal about runs that are gone, and about no run.",
        examples=["730d"],
    )
    versions: JournalRule | None = Field(
        default=None,
        description="Versions of datasets, with the lists of their files, that no run has and nobody looks "
        "at. The newest of each dataset stays. Without a rule: the age of `runs`.",
        examples=["365d"],
    )
    mirrors: JournalRule = Field(
        default="30d",
        validate_default=True,
        description="Copies of repositories that nobody used for so long and that are not watched, such as "
        "those of submodules, and commits in all of them that no run has. Both are fetched again when they "
        "are needed.",
        examples=["30d"],
    )
    gone: JournalRule = Field(
        default="30d",
        validate_default=True,
        description="What was seen for pipelines that are not defined any more and of which no run is left.",
        examples=["30d"],
    )
    disk: DiskRule = Field(default=DiskRule(), description="What happens when the disk is short of room.")
    every: Duration = Field(
        default=timedelta(hours=1), description="How often the server looks by itself.", examples=["1h"]
    )
    pipelines: Mapping[Name, PipelineRetention] = Field(
        default={}, description="Rules of their own, by pipeline.", examples=[{"wine": {"runs": "730d"}}]
    )

    @model_validator(mode="after")
    def _often_enough(self) -> Retention:
        if self.every < timedelta(minutes=1):
            raise wrong("this is shorter than a minute", "a duration such as 1h", key="every")
        return self
