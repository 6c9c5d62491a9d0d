"""When a pipeline runs besides changes: at times, and after other pipelines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator, StrictStr, WithJsonSchema

from orchestrator.config.models.common import text_of, wrong
from orchestrator.config.problems import closest
from orchestrator.config.yaml_loader import Plain

CRON_EXPECTED: Final = (
    'five fields: minute, hour, day of the month, month, day of the week; "0 3 * * 1" is Mondays at 03:00'
)
_SHORTHANDS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS: Final = 5


def _cron(value: Plain) -> str:
    from cronsim import CronSim, CronSimError

    text = " ".join(text_of(value).split())
    if text.startswith("@"):
        raise wrong(f'"{text}" is not a schedule here', CRON_EXPECTED, _SHORTHANDS.get(text.lower(), ""))
    if (count := len(text.split())) != _FIELDS:
        raise wrong(f'"{text}" has {count} field{"" if count == 1 else "s"}', CRON_EXPECTED)
    try:
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ").replace("-", " ")
        raise wrong(f'"{text}" is not a schedule: its {field} is not possible', CRON_EXPECTED) from None
    except StopIteration:
        raise wrong(f'"{text}" never comes', CRON_EXPECTED) from None
    return text


Cron: TypeAlias = Annotated[
    StrictStr,
    BeforeValidator(_cron),
    WithJsonSchema({"type": "string", "pattern": r"^\S+( +\S+){4}$"}),
]
"""Five fields of cron, with one space between them."""


def _zone(value: Plain) -> str:
    from zoneinfo import ZoneInfo, available_timezones

    text = text_of(value)
    expected = "a name of the IANA's database, such as Europe/Berlin, or UTC"
    known = available_timezones()
    if text not in known:
        raise wrong(f'there is no time zone "{text}"', expected, closest(text, known))
    try:
        ZoneInfo(text)
    except (OSError, ValueError):
        raise wrong(f'the time zone "{text}" cannot be read on this machine', expected) from None
    return text


Zone: TypeAlias = Annotated[StrictStr, BeforeValidator(_zone), WithJsonSchema({"type": "string"})]
"""A time zone by its name."""
