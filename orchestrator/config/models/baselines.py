"""Baselines that a pipeline declares by name: how each is chosen, and how well it is to be known."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from orchestrator.config.models.common import Model, Verbatim, text_of, wrong
from orchestrator.config.problems import closest
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.baseline import SELECTORS, BaselineSpec, SelectorKind, parse_selector
from orchestrator.domain.errors import InvalidInput

MOST = 100


def _select(value: Plain) -> str:
    text = text_of(value)
    try:
        selector = parse_selector(text)
    except InvalidInput as error:
        raise wrong(error.message, error.remedy.removeprefix("write "), closest(text, SELECTORS)) from None
    if selector.kind is SelectorKind.NAMED:
        raise wrong(
            f'"{text}" chooses no run',
            f"{', '.join(SELECTORS)}, pinned:NAME, branch:NAME or run:ID",
            closest(text, SELECTORS),
        )
    return text


Select: TypeAlias = Annotated[Verbatim, BeforeValidator(_select), WithJsonSchema({"type": "string"})]
Count: TypeAlias = Annotated[int, Field(ge=0, le=MOST)]


class Baseline(Model):
    """A baseline by a name of its own, for checks that say `vs: NAME` or `not worse than NAME`."""

    select: Select = Field(
        description="How the run is chosen: best, previous, last_deployed, merge_base, pinned, pinned:NAME, "
        "branch:NAME or run:ID.",
        examples=["branch:main"],
    )
    replicates: Count = Field(
        default=0,
        description="How many measurements of it are wanted. Where there are fewer, runs that only measure "
        "it are added one at a time while a slot is idle. 0: as many as its run had.",
        examples=[8],
        json_schema_extra={"x-unit": "attempts"},
    )
    confirm: Count = Field(
        default=0,
        description="Of `best` alone: so many fresh measurements decide on its value, because a run that was "
        "chosen for being the highest was lucky too. The verdict waits for them. 0: those it was chosen by.",
        examples=[5],
        json_schema_extra={"x-unit": "attempts"},
    )

    @model_validator(mode="after")
    def _only_the_best_is_confirmed(self) -> Baseline:
        if self.confirm and self.select != "best":
            raise wrong(
                f"{self.select} was not chosen for its value: there is nothing to confirm",
                "replicates:, or select: best",
                key="confirm",
            )
        return self


def baseline_spec(name: str, baseline: Baseline) -> BaselineSpec:
    """As the services see it. The configuration must be free of problems."""
    return BaselineSpec(name, parse_selector(baseline.select), baseline.replicates, baseline.confirm)
