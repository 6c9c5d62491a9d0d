"""What a gate compares with: selectors, who is eligible, and the choice among eligible runs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.domain.errors import InvalidSelector
from orchestrator.domain.metrics import Direction


class SelectorKind(StrEnum):
    """How a baseline is chosen."""

    BEST = "best"
    PREVIOUS = "previous"
    LAST_DEPLOYED = "last_deployed"
    BRANCH = "branch"
    MERGE_BASE = "merge_base"
    """The commit at which the candidate's branch left the default branch."""
    PINNED = "pinned"
    RUN = "run"
    NAMED = "named"
    """One of the pipeline's own `baselines`, by its name."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A way to choose a baseline. ``argument`` is the branch's name or the run's id, else empty."""

    kind: SelectorKind
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.argument}" if self.argument else self.kind.value


_PLAIN = {kind.value: kind for kind in (SelectorKind.BEST, SelectorKind.PREVIOUS, SelectorKind.LAST_DEPLOYED)}


def parse_selector(text: str) -> Selector:
    """Read ``best``, ``previous``, ``last_deployed``, ``pinned``, ``branch:NAME`` or ``run:ID``.

    Raises InvalidSelector with what was expected.
    """
    name, colon, argument = text.strip().partition(":")
    if name in _PLAIN and not colon:
        return Selector(_PLAIN[name])
    if name == "pinned":
        return Selector(SelectorKind.PINNED, argument)
    if name == "branch" and argument and not re.search(r"\s", argument):
        return Selector(SelectorKind.BRANCH, argument)
    if name == "run" and re.fullmatch(r"[1-9][0-9]*", argument):
        return Selector(SelectorKind.RUN, argument)
    raise InvalidSelector(
        f"'{text}' is no baseline", "write best, previous, last_deployed, pinned, branch:NAME or run:ID"
    )


@dataclass(frozen=True, slots=True)
class BaselineSpec:
    """A baseline that a pipeline declares under a name.

    ``replicates`` is how many measurements of it are wanted: runs that only measure it are added when a slot
    is idle. ``confirm``: that many fresh ones decide on the value of ``best``, whose choice they had no part
    in. 0: as many as its run had.
    """

    name: str
    select: Selector
    replicates: int = 0
    confirm: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's values, one per replicate in their order, by metric name."""

    run_id: int
    title: str
    commit: str
    branch: str
    values: Mapping[str, tuple[float, ...]]

    def mean(self, metric: str) -> float | None:
        """The mean over replicates: NaN if any has none or NaN, None if no replicate has the metric."""
        values = self.values.get(metric)
        if not values:
            return None
        # Exact over equal values, which a plain sum is not: three times 0.1 must not miss a limit of 0.1.
        deviations = [value - values[0] for value in values]
        if not all(map(math.isfinite, deviations)):
            return sum(values) / len(values)
        return values[0] + math.fsum(d / len(values) for d in deviations)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An eligible run of the past.

    ``position`` grows with time; ``evaluation_digest`` names its evaluation data.
    """

    measured: Measured
    position: int
    evaluation_digest: str
    deployed: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """The baseline for one check: the run, or None with the reason why there is none."""

    candidate: Candidate | None
    why_none: str = ""


def choose(
    selector: Selector,
    history: Sequence[Candidate],
    metric: str,
    direction: Direction,
    pins: Mapping[str, int],
    evaluation_digest: str,
) -> Chosen:
    """Choose a baseline among eligible runs, which come in order of time.

    ``best`` looks among the runs on the candidate's own evaluation data first; only where there is none it
    ranks the others, so that a comparison on equal data is preferred to a higher number on other data. NaN
    and the infinities are never best; equal values are won by the older run. ``pins`` maps a pin's name
    (empty for the plain ``pinned``) to a run's id.
    """
    if not history:
        return Chosen(None, "no eligible baseline yet")
    match selector.kind:
        case SelectorKind.PREVIOUS:
            return Chosen(history[-1])
        case SelectorKind.LAST_DEPLOYED:
            deployed = [c for c in history if c.deployed]
            return Chosen(deployed[-1]) if deployed else Chosen(None, "nothing has been deployed yet")
        case SelectorKind.BRANCH:
            on_branch = [c for c in history if c.measured.branch == selector.argument]
            if not on_branch:
                return Chosen(None, f"no eligible run on branch {selector.argument} yet")
            return Chosen(on_branch[-1])
        case SelectorKind.PINNED:
            if selector.argument not in pins:
                return Chosen(
                    None, f"no run is pinned{f' as {selector.argument}' if selector.argument else ''}"
                )
            return _by_id(history, pins[selector.argument], "the pinned run")
        case SelectorKind.RUN:
            return _by_id(history, int(selector.argument), "run")
        case SelectorKind.MERGE_BASE | SelectorKind.NAMED:
            return Chosen(None, f"{selector} is not known here")
        case SelectorKind.BEST:
            same = [c for c in history if c.evaluation_digest == evaluation_digest]
            ranked = [
                (mean, -c.position, c)
                for c in (same or history)
                if (mean := c.measured.mean(metric)) is not None and math.isfinite(mean)
            ]
            if not ranked:
                return Chosen(None, f"no eligible run has a value of {metric}")
            return Chosen(max(ranked, key=lambda r: (direction.sign * r[0], r[1]))[2])


def _by_id(history: Sequence[Candidate], run_id: int, what: str) -> Chosen:
    found = next((c for c in history if c.measured.run_id == run_id), None)
    return Chosen(found) if found else Chosen(None, f"{what} {run_id} is not eligible as a baseline")
