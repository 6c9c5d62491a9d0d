"""Environments: servers that get a release together, and what has to be before."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from orchestrator.config.models.common import Duration, Items, Model, Name, Str, text_of, wrong
from orchestrator.config.models.triggers import Zone
from orchestrator.config.problems import any_of, closest
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.environment import Environment as Place
from orchestrator.domain.environment import Strategy, Window
from orchestrator.domain.model_registry import Stage

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW: Final = re.compile(
    r"(?:(?P<days>[A-Za-z,\-]+) +)?(?P<from>\d{1,2}:\d{2})-(?P<to>\d{1,2}:\d{2})", re.ASCII
)
_EXPECTED: Final = "weekdays and hours such as Mon-Fri 09:00-17:00, Sat,Sun 10:00-12:00, or 22:00-02:00"


def _window(value: Plain) -> str:
    text = " ".join(text_of(value).split())
    try:
        window_of(text)
    except ValueError as error:
        raise wrong(f'"{text}" is no window of time: {error}', _EXPECTED) from None
    return text


def window_of(text: str) -> Window:
    """``Mon-Fri 09:00-17:00`` as a window. ValueError says what is wrong with it."""
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError("weekdays, a space and two times of the day are expected")
    start, end = _minute(found["from"]), _minute(found["to"])
    if start == end:
        raise ValueError("it ends when it begins; all of a day is 00:00-24:00")
    if start == 1440:
        raise ValueError("a day begins at 00:00")
    return Window(_weekdays(found["days"]), start, end)


def _minute(text: str) -> int:
    hours, minutes = (int(part) for part in text.split(":"))
    if hours * 60 + minutes > 1440 or minutes > 59:
        raise ValueError(f"there is no {text} on a clock")
    return hours * 60 + minutes


def _weekdays(text: str | None) -> tuple[int, ...]:
    if text is None:
        return tuple(range(7))
    found: set[int] = set()
    for part in text.split(","):
        ends = [_weekday(each) for each in part.split("-")]
        if len(ends) > 2:
            raise ValueError(f"{part} has more than two ends")
        length = (ends[-1] - ends[0]) % 7
        found |= {(ends[0] + day) % 7 for day in range(length + 1)}
    return tuple(sorted(found))


def _weekday(text: str) -> int:
    if text.lower() not in _DAYS:
        raise ValueError(f"{text or 'nothing'} is no weekday of {', '.join(_DAYS)}")
    return _DAYS.index(text.lower())


HoursText: TypeAlias = Annotated[Str, BeforeValidator(_window), WithJsonSchema({"type": "string"})]


class Approval(Model):
    """Who has to agree before each deployment."""

    by: Items[Str] = Field(
        default=(),
        description="Names of those who may approve: of users of this machine for the command line, of "
        "`web.approval_tokens` for the page. Without it, everybody who can.",
        examples=[["ana", "bo"]],
    )


class Environment(Model):
    """Servers that get the same release, or none."""

    servers: Annotated[Items[Name], Field(min_length=1)] = Field(
        description="Servers of orchestrator.yaml, in the order in which they change.",
        examples=[["web1", "web2", "web3"]],
    )
    strategy: Literal["all", "rolling", "canary"] = Field(
        default="all",
        description="`all`: one right after the other; `rolling`: `batch` at a time; `canary`: the first "
        "one, then the others. What fails on one server is taken back from all.",
        examples=["rolling"],
    )
    batch: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1,
        description="How many servers change together under `rolling`.",
        examples=[2],
        json_schema_extra={"x-unit": "servers"},
    )
    pause: Duration | None = Field(
        default=None, description="How long it waits between two batches.", examples=["5m"]
    )
    approval: bool | Approval = Field(
        default=False,
        description="Whether a person has to approve each deployment, and who may.",
        examples=[True, {"by": ["ana"]}],
    )
    windows: Items[HoursText] = Field(
        default=(),
        description="When may be deployed, as weekdays and hours; without it, at any time. What is rolled "
        "back does not wait.",
        examples=[["Mon-Thu 09:00-16:00", "Fri 09:00-12:00"]],
    )
    timezone: Zone = Field(
        default="UTC",
        description="The time zone of `windows`, by its name in the IANA's database.",
        examples=["Europe/Berlin"],
    )
    after: Name | None = Field(
        default=None,
        description="An environment where a run has to be live before it comes here.",
        examples=["staging"],
    )
    stage: Literal["candidate", "production", "none"] | None = Field(
        default=None,
        description="What a model's version is called that is live here. Without it, `candidate` where "
        "another environment comes after this one, else `production`.",
        examples=["production"],
    )

    @model_validator(mode="after")
    def _each_once(self) -> Environment:
        twice = [name for name in dict.fromkeys(self.servers) if self.servers.count(name) > 1]
        if twice:
            raise wrong(f"{twice[0]} is listed twice", "each server once", key="servers")
        if self.batch != 1 and self.strategy != "rolling":
            raise wrong(f"under {self.strategy} there are no batches", "strategy: rolling", key="batch")
        if self.pause is not None and self.strategy == "all":
            message = "under all, servers change without a pause"
            raise wrong(message, "strategy: rolling or canary", key="pause")
        return self


def check_environments(environments: Mapping[str, Environment], servers: Collection[str]) -> None:
    """Raise for the first environment that names what is not there, or what another one has."""
    owner: dict[str, str] = {}
    for name, environment in environments.items():
        if name in servers:
            message = f'"{name}" is a server and an environment'
            raise wrong(message, "different names, so that commands can tell them apart", key="environments")
        for server in environment.servers:
            if server not in servers:
                message = f'the environment "{name}" names "{server}", which is no server'
                expected = any_of(sorted(servers)) if servers else "a server under servers:"
                raise wrong(message, expected, closest(server, servers), key="environments")
            if server in owner:
                message = f'"{server}" is in the environments "{owner[server]}" and "{name}"'
                raise wrong(message, "each server in one environment", key="environments")
            owner[server] = name
        seen = [name]
        while (before := environments[seen[-1]].after) is not None:
            if before not in environments:
                message = f'the environment "{seen[-1]}" comes after "{before}", which there is not'
                expected = any_of(sorted(set(environments) - {seen[-1]}))
                raise wrong(message, expected, closest(before, environments), key="environments")
            if before in seen:
                message = f"environments come after each other in a circle: {', '.join([*seen, before])}"
                raise wrong(message, "an order", key="environments")
            seen.append(before)


def places_of(environments: Mapping[str, Environment]) -> dict[str, Place]:
    """The environments as the services see them."""
    followed = {each.after for each in environments.values()}
    return {name: _place(name, each, name in followed) for name, each in environments.items()}


def _place(name: str, environment: Environment, followed: bool) -> Place:
    stage = environment.stage or ("candidate" if followed else "production")
    approval = environment.approval
    return Place(
        name,
        tuple(environment.servers),
        Strategy(environment.strategy),
        environment.batch,
        (environment.pause or timedelta()).total_seconds(),
        approval is not False,
        tuple(approval.by) if isinstance(approval, Approval) else (),
        tuple(window_of(text) for text in environment.windows),
        environment.timezone,
        environment.after or "",
        None if stage == "none" else Stage(stage),
    )
