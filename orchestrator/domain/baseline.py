"""What a gate compares with: selectors, who is eligible, the choice among eligible runs, and which of them
measured the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from orchestrator.domain.errors import InvalidSelector
from orchestrator.domain.metrics import Direction
from orchestrator.domain.statistics.best import rank_by_lower_bound


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
    """A way to choose a baseline. ``argument`` is the branch's, pin's or baseline's name or the run's id,
    else empty.
    """

    kind: SelectorKind
    argument: str = ""

    def __str__(self) -> str:
        if self.kind is SelectorKind.NAMED:
            return self.argument
        return f"{self.kind.value}:{self.argument}" if self.argument else self.kind.value


_PLAIN = {
    kind.value: kind
    for kind in (
        SelectorKind.BEST,
        SelectorKind.PREVIOUS,
        SelectorKind.LAST_DEPLOYED,
        SelectorKind.MERGE_BASE,
        SelectorKind.PINNED,
    )
}
SELECTORS = tuple(_PLAIN)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_EXPECTED = "write best, previous, last_deployed, merge_base, pinned, pinned:NAME, branch:NAME or run:ID"


def parse_selector(text: str) -> Selector:
    """Read ``best``, ``previous``, ``last_deployed``, ``merge_base``, ``pinned``, ``pinned:NAME``,
    ``branch:NAME`` or ``run:ID``; another plain name is that of a baseline that the pipeline declares, which
    is not looked up here.

    Raises InvalidSelector with what was expected.
    """
    name, colon, argument = text.strip().partition(":")
    if name in _PLAIN and not colon:
        return Selector(_PLAIN[name])
    if name == "pinned" and _NAME.fullmatch(argument):
        return Selector(SelectorKind.PINNED, argument)
    if name == "branch" and argument and not re.search(r"\s", argument):
        return Selector(SelectorKind.BRANCH, argument)
    if name == "run" and re.fullmatch(r"[1-9][0-9]*", argument):
        return Selector(SelectorKind.RUN, argument)
    if not colon and name not in ("branch", "run") and _NAME.fullmatch(name):
        return Selector(SelectorKind.NAMED, name)
    raise InvalidSelector(f"'{text}' is no baseline", _EXPECTED)


def require_known(selector: Selector, declared: Collection[str]) -> None:
    """Raises InvalidSelector for a plain name that is none of the ``declared`` baselines."""
    if selector.kind is SelectorKind.NAMED and selector.argument not in declared:
        beside = "".join(f"{name}, " for name in declared)
        raise InvalidSelector(f"'{selector}' is no baseline", _EXPECTED.replace("write ", f"write {beside}"))


MOST_TOGETHER: Final = 32
"""So many runs of one recipe are taken together: what is trained again every night must not grow for ever."""


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
    """A run's values, one per replicate in their order, by metric name.

    ``numbers`` are those of the replicates, which some that failed may be missing from; empty: none is.
    """

    run_id: int
    title: str
    commit: str
    branch: str
    values: Mapping[str, tuple[float, ...]]
    numbers: tuple[int, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        """The number of the replicate that each value is of."""
        return self.numbers or tuple(range(self.replicates))

    @property
    def replicates(self) -> int:
        """How many there are, as far as its values tell; 1 where there is none."""
        return max(map(len, self.values.values()), default=1)

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

    ``position`` grows with time; ``evaluation_digest`` names its evaluation data. Runs with the same
    ``recipe`` made the same thing: same commit, same data, trained and measured in the same way; where their
    ``seeds`` are equal, too, it is the same measurement. ``again`` says that it was made to measure an old
    commit again.
    """

    measured: Measured
    position: int
    evaluation_digest: str
    deployed: bool = False
    recipe: str = ""
    again: bool = False
    seeds: int | None = None
    """The run whose id its seeds derive from, 0 where all changes have the same; None: its own."""

    @property
    def same(self) -> str:
        """What it has in common with those whose values may be taken together with its own."""
        return self.recipe or f"run {self.measured.run_id}"


@dataclass(frozen=True, slots=True)
class Rebase:
    """A person's word that a pipeline's baselines begin anew with a run: none before it is chosen any more.

    What names a run, ``pinned`` and ``run:ID``, still means that run.
    """

    run_id: int
    who: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """Where a change stands, as far as the choice of its baseline asks.

    ``evaluation_digest`` names its evaluation data; ``merge_base`` is the commit at which its branch left the
    default branch, empty where that is not known, and ``default_branch`` that branch's name.
    """

    evaluation_digest: str
    merge_base: str = ""
    default_branch: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The baseline for one check: the run, or None with the reason why there is none."""

    candidate: Candidate | None
    why_none: str = ""
    lost: bool = False
    """Whether what was named cannot be had, which is not that there is none yet."""


def choose(
    spec: BaselineSpec,
    history: Sequence[Candidate],
    metric: str,
    direction: Direction,
    pins: Mapping[str, int],
    place: Place,
    since: int = 0,
) -> Chosen:
    """Choose a baseline among eligible runs, which come in order of time.

    ``best`` looks among the runs on the candidate's own evaluation data first; only where there is none it
    ranks the others, so that a comparison on equal data is preferred to a higher number on other data. It
    ranks by the lower bound of what runs of one recipe measured together, so that a few lucky ones rank low;
    where fresh measurements are to confirm it, these have no part in its choice. NaN and the infinities are
    never best; equal values are won by the older run. ``pins`` maps a pin's name (empty for the plain
    ``pinned``) to a run's id. ``since`` is the run with which the baselines began anew, 0: never.
    """
    selector = spec.select
    if not history:
        return Chosen(None, "no eligible baseline yet")
    if selector.kind is SelectorKind.PINNED:
        if selector.argument not in pins:
            return Chosen(None, f"no run is pinned{f' as {selector.argument}' if selector.argument else ''}")
        return _by_id(history, pins[selector.argument], "the pinned run")
    if selector.kind is SelectorKind.RUN:
        return _by_id(history, int(selector.argument), "run")
    # What measured an old commit again stands in for that one; only `best` may choose it by itself.
    eligible = since_rebase(history, since)
    trained = [c for c in eligible if not c.again]
    found: Chosen | None = None
    match selector.kind:
        case SelectorKind.PREVIOUS:
            found = _last(trained, "no eligible baseline yet")
        case SelectorKind.LAST_DEPLOYED:
            found = _last([c for c in trained if c.deployed], "nothing has been deployed yet")
        case SelectorKind.BRANCH:
            branch = selector.argument
            on_branch = [c for c in trained if c.measured.branch == branch]
            return _last(on_branch, f"no eligible run on branch {branch} yet")
        case SelectorKind.MERGE_BASE:
            found = _at_merge_base(eligible, place)
        case SelectorKind.BEST:
            found = _best(eligible, metric, direction, place.evaluation_digest, bool(spec.confirm))
        case SelectorKind.NAMED:
            return Chosen(None, f"the pipeline has no baseline {selector}")
    if found.candidate is None and since:
        # The run that a person named stands for what was before it.
        return _by_id(trained, since, "the run that the baselines begin with,")
    return found


def since_rebase(history: Sequence[Candidate], since: int) -> list[Candidate]:
    """Those of the runs that count once baselines began anew with the run ``since``: the later ones, and of
    those that measured an old commit again the ones whose commit counts.
    """
    if not since:
        return list(history)
    trained = [c for c in history if not c.again and c.position >= since]
    commits = {c.measured.commit for c in trained}
    return [c for c in history if (c.measured.commit in commits if c.again else c.position >= since)]


def together(chosen: Candidate, history: Sequence[Candidate], spec: BaselineSpec) -> tuple[Candidate, ...]:
    """The runs whose values together are the chosen baseline's, in order of time.

    They are those of its recipe, of very many the last ones, and of those with the same seeds one alone.
    Where ``best`` is to be confirmed, only those that had no part in its choice: none may be there yet.
    """
    mine = _once([c for c in history if c.same == chosen.same], chosen)
    first = mine[: max(0, len(mine) - MOST_TOGETHER)]
    mine = [c for c in first if c == chosen] + mine[len(first) :]
    if spec.select.kind is SelectorKind.BEST and spec.confirm:
        ranked = _ranked(mine, confirm=True)
        return tuple(c for c in mine if c not in ranked)
    return tuple(mine)


def pooled(members: Sequence[Candidate], chosen: Measured) -> Measured:
    """The values of several runs as one's, which is called like ``chosen``.

    A run that lacks a metric that another one has counts as NaN there: it is never dropped.
    """
    names = dict.fromkeys(name for c in members for name in c.measured.values)
    values: dict[str, tuple[float, ...]] = {}
    for name in names:
        per_run = [c.measured.values.get(name, (math.nan,) * c.measured.replicates) for c in members]
        values[name] = tuple(value for some in per_run for value in some)
    numbers = tuple(number for c in members for number in c.measured.order)
    if numbers == tuple(range(len(numbers))):
        numbers = ()
    return Measured(chosen.run_id, chosen.title, chosen.commit, chosen.branch, values, numbers)


def _once(group: Sequence[Candidate], chosen: Candidate | None = None) -> list[Candidate]:
    """Those of a recipe's runs that are measurements of their own: of runs with the same seeds the one with
    the most replicates, which is the ``chosen`` one or else the oldest where several have as many.
    """
    kept: dict[int, Candidate] = {}
    for c in group:
        seeds = c.measured.run_id if c.seeds is None else c.seeds
        there = kept.setdefault(seeds, c)
        more = c.measured.replicates - there.measured.replicates
        if more > 0 or (more == 0 and c == chosen):
            kept[seeds] = c
    ids = {c.measured.run_id for c in kept.values()}
    return [c for c in group if c.measured.run_id in ids]


def _ranked(group: Sequence[Candidate], confirm: bool) -> Sequence[Candidate]:
    """Those of a recipe's runs by which it is ranked."""
    if not confirm:
        return group
    return [c for c in group if not c.again] or group[:1]


def _best(
    eligible: Sequence[Candidate], metric: str, direction: Direction, digest: str, confirm: bool
) -> Chosen:
    same = [c for c in eligible if c.evaluation_digest == digest] or eligible
    groups: dict[str, list[Candidate]] = {}
    for candidate in same:
        groups.setdefault(candidate.same, []).append(candidate)
    ranked = [_ranked(_once(group), confirm) for group in groups.values()]
    measured = [
        (group, values)
        for group in ranked
        if (values := pooled(group, group[0].measured).values.get(metric))
        and all(math.isfinite(value) for value in values)
    ]
    if not measured:
        return Chosen(None, f"no eligible run has a value of {metric}")
    first, *_ = rank_by_lower_bound([values for _, values in measured], None, sign=direction.sign)
    return Chosen(measured[first][0][0])


def _at_merge_base(eligible: Sequence[Candidate], place: Place) -> Chosen:
    if not place.default_branch:
        return Chosen(None, "it is not known at which commit the branch left the default branch")
    if not place.merge_base:
        on_default = [c for c in eligible if c.measured.branch == place.default_branch and not c.again]
        return _last(on_default, f"no eligible run on branch {place.default_branch} yet")
    there = [c for c in eligible if c.measured.commit == place.merge_base]
    return _last(
        [c for c in there if not c.again] or there,
        f"the commit {place.merge_base[:8]}, where the branch left, has no eligible run",
    )


def _last(candidates: Sequence[Candidate], why_none: str) -> Chosen:
    return Chosen(candidates[-1]) if candidates else Chosen(None, why_none)


def _by_id(history: Sequence[Candidate], run_id: int, what: str) -> Chosen:
    found = next((c for c in history if c.measured.run_id == run_id), None)
    why = f"{what} {run_id} is not eligible as a baseline"
    return Chosen(found) if found else Chosen(None, why, lost=True)
