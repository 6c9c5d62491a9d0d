"""What is collected and how it is read, where a file's name does not tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from orchestrator.config.models.common import Inside, Model, kind_of, verbatim_text, wrong
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.pipeline import CollectSpec

JSON_LINES: Final = "jsonlines"
_LONGEST: Final = 1000
Format: TypeAlias = Literal["json", "yaml", "toml", "jsonl", "csv", "tsv", "junit", "mlflow", "tensorboard"]


def _pattern(value: Plain) -> str:
    import re2

    text = verbatim_text(value)
    if len(text) > _LONGEST:
        raise wrong(f"the pattern has {len(text)} characters", f"at most {_LONGEST}")
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        told = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise wrong(
            f"the pattern cannot be used: {told}",
            "a regular expression as RE2 knows it: no back references, nothing that looks around",
        ) from None
    if not set(compiled.groupindex) - {"step"}:
        raise wrong(
            "the pattern has no named group, so its numbers have no name",
            r"a named group for each metric, such as Accuracy:\s+(?P<accuracy>[0-9.]+)",
        )
    return text


def _printed(value: Plain) -> str:
    return JSON_LINES if value == JSON_LINES else _pattern(value)


Pattern: TypeAlias = Annotated[str, BeforeValidator(_pattern)]


class DeclaredFile(Model):
    """A file of which more is said than its name."""

    file: Inside = Field(
        description="The file, or a pattern of files, that must be there after the run.",
        examples=["metrics.txt"],
    )
    pattern: Pattern | None = Field(
        default=None,
        description="A regular expression (RE2) that is searched for in each line; its named groups are "
        "metrics, and one called `step` tells the step. Of each metric the last match counts.",
        examples=[r"Accuracy:\s+(?P<accuracy>[0-9.]+)"],
    )
    format: Format | None = Field(
        default=None,
        description="What the file is, where its name does not tell.",
        examples=["csv"],
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> DeclaredFile:
        if self.pattern is not None and self.format is not None:
            raise wrong("both pattern and format are given", "one of them", key="format")
        return self


class DeclaredOutput(Model):
    """The program's output, where metrics are printed."""

    stdout: Annotated[str, BeforeValidator(_printed)] = Field(
        description="`jsonlines`, or a regular expression (RE2) that is searched for in each line of the "
        "output; its named groups are metrics.",
        examples=[JSON_LINES, r"^epoch (?P<step>\d+): loss (?P<loss>\S+)"],
    )


def _item_kind(value: object) -> str:
    if isinstance(value, str):
        return "<text>"
    return "<stdout>" if isinstance(value, Mapping) and "stdout" in value else "<file>"


def _item(value: Plain) -> Plain:
    if not isinstance(value, str | dict):
        raise wrong(f"{kind_of(value)} is not possible here", "a file, {file: …, pattern: …} or {stdout: …}")
    return value


Collected: TypeAlias = Annotated[
    Annotated[Inside, Tag("<text>")]
    | Annotated[DeclaredFile, Tag("<file>")]
    | Annotated[DeclaredOutput, Tag("<stdout>")],
    Discriminator(_item_kind),
    BeforeValidator(_item),
]
"""One entry of `collect:`."""


def declared_files(items: tuple[str | DeclaredFile | DeclaredOutput, ...]) -> tuple[str, ...]:
    """The files, and patterns of files, that must be there."""
    named = (item.file if isinstance(item, DeclaredFile) else item for item in items)
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str)))


def declared_readings(items: tuple[str | DeclaredFile | DeclaredOutput, ...]) -> tuple[CollectSpec, ...]:
    """How they, and the output, are read where the name does not tell."""
    readings = []
    for item in items:
        if isinstance(item, DeclaredOutput):
            readings.append(CollectSpec(expression="" if item.stdout == JSON_LINES else item.stdout))
        elif isinstance(item, DeclaredFile) and (item.pattern or item.format):
            readings.append(CollectSpec(item.file, item.pattern or "", item.format or ""))
    return tuple(readings)
