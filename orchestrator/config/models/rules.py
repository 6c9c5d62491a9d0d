"""What actions of all kinds may say: their name, what they need, how often they are tried; and contents."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from orchestrator.config.models.common import Duration, Inside, Items, Model, Name, wrong
from orchestrator.domain.action_spec import Contents, Rule

_LONGEST: Final = timedelta(days=1)
_SHORTEST_EVERY: Final = timedelta(minutes=1)


class ActionRetry(Model):
    """How often an action is tried."""

    tries: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None,
        description="How often it is tried in all before it is given up; without it, as the kind of action "
        "has it.",
        examples=[3],
        json_schema_extra={"x-unit": "tries"},
    )
    pause: Duration | None = Field(
        default=None,
        description="How long it waits before the second try; twice as long before each further one, at most "
        "an hour. Without it, 5s, and at most 5m.",
        examples=["30s"],
    )


class Ruled(Model):
    """Keys that stand beside an action's kind."""

    timed: ClassVar[bool] = False
    """Whether one try has a time of its own. The others are given up after silence, or by times elsewhere."""

    name: Name | None = Field(
        default=None, description="What `needs` of later actions call it.", examples=["to-staging"]
    )
    needs: Items[Name] = Field(
        default=(),
        description="Names of actions before it in the same list; unless all of them were done, it is "
        "skipped.",
        examples=[["to-staging"]],
    )
    retry: ActionRetry = Field(default=ActionRetry(), description="How often it is tried.")
    timeout: Duration | None = Field(
        default=None,
        description="Beside `webhook`, `exec` and `command` alone: longest time of one try, at most 24h; "
        "without it, as the kind of action has it.",
        examples=["10m"],
    )
    every: Duration | None = Field(
        default=None,
        description="Under `progress` alone: how often it happens while the run is under way, at least 1m.",
        examples=["30m"],
    )

    @model_validator(mode="after")
    def _times_are_sensible(self) -> Self:
        if self.timeout is not None and not self.timed:
            expected = "timeout beside webhook, exec or command; servers, services and health have their own"
            raise wrong("this action takes no timeout", expected, key="timeout")
        if self.timeout is not None and self.timeout > _LONGEST:
            expected = "a time in which one try comes to an end, at most 24h"
            raise wrong("this is longer than a day", expected, key="timeout")
        if self.every is not None and self.every < _SHORTEST_EVERY:
            raise wrong("this is more often than each minute", "1m or longer", key="every")
        return self

    @property
    def rule(self) -> Rule:
        """As the domain has it."""
        return Rule(
            name=self.name or "",
            needs=tuple(self.needs),
            tries=self.retry.tries or 0,
            pause=_seconds(self.retry.pause),
            timeout=_seconds(self.timeout),
            every=_seconds(self.every),
        )


def _seconds(duration: timedelta | None) -> float:
    return 0.0 if duration is None else duration.total_seconds()


class Taken(Model):
    """What an action takes from the run."""

    files: Items[Inside] = Field(
        default=(),
        description="Collected files, as patterns; without it, all that `artifacts` names.",
        examples=[["model.*", "metrics.json"]],
    )
    data: Items[Name] = Field(
        default=(), description="Datasets, in the version that the run used.", examples=[["wine"]]
    )
    report: bool = Field(default=False, description="Whether the run's report goes along.", examples=[True])
    metrics: bool = Field(
        default=False, description="Whether all metrics go along, as metrics.json.", examples=[True]
    )
    code: bool = Field(
        default=False, description="Whether the repository at the run's commit goes along.", examples=[True]
    )
    templates: Items[Inside] = Field(
        default=(),
        description="Small text files of the repository that are filled in with facts of the run.",
        examples=[["serve/config.ini"]],
    )

    def contents(self, artifacts: tuple[str, ...]) -> Contents:
        """As the domain has it, where the pipeline keeps these artifacts."""
        return Contents(
            tuple(self.files or artifacts),
            tuple(self.data),
            self.report,
            self.metrics,
            self.code,
            tuple(self.templates),
        )
