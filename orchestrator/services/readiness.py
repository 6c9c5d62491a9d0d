"""Whether work can be done now, and what is not well meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Readiness:
    """``problems`` keep work from being done, ``degraded`` only some of it: by part, why."""

    problems: Mapping[str, str] = field(default_factory=dict)
    degraded: Mapping[str, str] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether nothing is in the way of all work."""
        return not self.problems

    def told_by(self, mask: Callable[[str], str]) -> Readiness:
        """The same in masked words."""
        masked = ({part: mask(why) for part, why in some.items()} for some in (self.problems, self.degraded))
        return Readiness(*masked)


def readiness(
    problems: Mapping[str, str],
    hosts: Iterable[str],
    takes: Callable[[str], bool],
    why_silent: Callable[[str], str | None],
    lacks_room: Callable[[str], str | None],
) -> Readiness:
    """What is not well: ``problems`` as they are, and what hosts lack.

    One host that can take work is enough; ``takes`` says whether people want one to. Hosts of which none can
    are a problem.
    """
    troubled: dict[str, str] = {}
    able = False
    for host in hosts:
        if (why := why_silent(host)) is not None:
            troubled[f"host {host}"] = why.removeprefix(f"host {host}: ")
        elif (lack := lacks_room(host)) is not None:
            troubled[f"room on {host}"] = lack
        else:
            able = able or takes(host)
    return Readiness(problems, troubled) if able else Readiness({**problems, **troubled})
