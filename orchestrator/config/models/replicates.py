"""How many times a change is trained: a number, or looks that stop as soon as the verdict is fixed."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from orchestrator.config.models.common import Duration, Items, Model, kind_of, wrong
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.pipeline import Looks

MOST = 100
Count: TypeAlias = Annotated[int, Field(ge=1, le=MOST)]


class LookPlan(Model):
    """Replicates that are trained in looks. After each the gate looks whether its verdict is fixed."""

    looks: Items[Count] = Field(
        min_length=1,
        max_length=10,
        description="How many replicates there are at each look; the last number is the most.",
        examples=[[2, 4, 8]],
        json_schema_extra={"x-unit": "attempts"},
    )
    max_failed: Annotated[int, Field(ge=0, le=MOST)] = Field(
        default=0,
        description="How many replicates may fail without the run failing. Those that did are left out of "
        "the comparison, which flatters a change that crashes at times.",
        examples=[0],
        json_schema_extra={"x-unit": "attempts"},
    )
    pair_seeds: bool = Field(
        default=False,
        description="Whether every change is trained with the same seeds, so that replicates of two changes "
        "can be set side by side. Verdicts then speak of these seeds, and compare as if they were others.",
        examples=[False],
    )
    budget: Duration | None = Field(
        default=None,
        description="No look is begun with which all attempts together would train for longer than this.",
        examples=["6h"],
    )

    @field_validator("looks")
    @classmethod
    def _rise(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in pairwise(looks)):
            raise wrong(f"{list(looks)} does not rise", "rising numbers, such as [2, 4, 8]")
        return looks

    @property
    def most(self) -> int:
        """The replicates at the last look."""
        return self.looks[-1]


def _kind(value: object) -> str:
    return "<looks>" if isinstance(value, dict | LookPlan) else "<number>"


def _number_or_looks(value: Plain) -> Plain:
    if isinstance(value, list):
        raise wrong(f"this is {kind_of(value)}", "a number, or {looks: [2, 4, 8]}")
    return value


Replicates: TypeAlias = Annotated[
    Annotated[Count, Tag("<number>")] | Annotated[LookPlan, Tag("<looks>")],
    Discriminator(_kind),
    BeforeValidator(_number_or_looks),
]


def most_replicates(replicates: int | LookPlan) -> int:
    """The most that a change is trained."""
    return replicates.most if isinstance(replicates, LookPlan) else replicates


def looks_plan(replicates: int | LookPlan) -> Looks:
    """As the services see it."""
    if isinstance(replicates, int):
        return Looks()
    budget = replicates.budget.total_seconds() if replicates.budget else None
    return Looks(replicates.looks, replicates.max_failed, replicates.pair_seeds, budget)
