"""Environments: servers that get a release together, in which order, when, and who has to agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from orchestrator.domain.model_registry import Stage

_DAYS_AHEAD = 8
"""A window that is open once a week opens within so many days."""


class Strategy(StrEnum):
    """In which order the servers of an environment get a release."""

    ALL = "all"
    """One right after the other."""
    ROLLING = "rolling"
    """A batch at a time."""
    CANARY = "canary"
    """One first; the others once it has proved itself."""


@dataclass(frozen=True, slots=True)
class Window:
    """When something may be deployed: weekdays (0 is Monday) and minutes of the day, the end excluded.

    An end at or before the start is one of the next day.
    """

    days: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Environment:
    """Servers that have the same release. ``pause`` are seconds between two batches.

    ``approval`` asks for a person before each deployment, one of ``approvers`` where any are named. Without
    ``windows`` it may be deployed at any time; they are read in ``zone``. ``after`` is the environment where
    a run has to be live before; ``stage`` is the alias that a model's version gets here.
    """

    name: str
    servers: tuple[str, ...]
    strategy: Strategy = Strategy.ALL
    batch: int = 1
    pause: float = 0.0
    approval: bool = False
    approvers: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    zone: str = "UTC"
    after: str = ""
    stage: Stage | None = None

    @property
    def title(self) -> str:
        """What people call it: its name, or that of the one server which stands for itself."""
        return self.name or self.servers[0]

    @property
    def batches(self) -> tuple[tuple[str, ...], ...]:
        """The servers in the order in which they change, those together that change together."""
        match self.strategy:
            case Strategy.ALL:
                return (self.servers,)
            case Strategy.ROLLING:
                return _parts(self.servers, self.batch)
            case Strategy.CANARY:
                return (self.servers[:1], *((self.servers[1:],) if len(self.servers) > 1 else ()))

    def why_not_approver(self, who: str) -> str | None:
        """Why a person may not decide here, or None when they may."""
        if not self.approvers or who in self.approvers:
            return None
        return f"{who} may not decide on {self.title}: {', '.join(self.approvers)} may"

    def opens(self, now: datetime) -> datetime | None:
        """When its next window opens, in UTC; None while one is open, or where there are none."""
        if not self.windows or any(start <= now < end for start, end in self._spans(now)):
            return None
        return min(start for start, _ in self._spans(now) if start > now)

    def _spans(self, now: datetime) -> list[tuple[datetime, datetime]]:
        zone = ZoneInfo(self.zone)
        today = now.astimezone(zone).date()
        found = []
        for offset in range(-1, _DAYS_AHEAD + 1):
            day = today + timedelta(days=offset)
            for window in self.windows:
                if day.weekday() not in window.days:
                    continue
                midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
                end = window.end if window.end > window.start else window.end + 1440
                # Sums in one time zone go by its clock: where clocks change, windows are longer or shorter.
                span = (midnight + timedelta(minutes=minutes) for minutes in (window.start, end))
                begins, ends = (moment.astimezone(UTC) for moment in span)
                found.append((begins, ends))
        return found


def alone(server: str) -> Environment:
    """A server that no environment holds, as an environment of its own: it is in production."""
    return Environment("", (server,), stage=Stage.PRODUCTION)


def holder(environments: Mapping[str, Environment], server: str) -> Environment | None:
    """The environment that has a server."""
    return next((each for each in environments.values() if server in each.servers), None)


def _parts(servers: Sequence[str], size: int) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(servers[at : at + size]) for at in range(0, len(servers), size))
