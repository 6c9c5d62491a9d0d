"""A check made ready for its test: what is asked of which values, on which scale, and the test's answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from orchestrator.domain.baseline import Measured
from orchestrator.domain.check import Check, Claim, Comparison, Test
from orchestrator.domain.gate.context import Rows, RowScore
from orchestrator.domain.metrics import Direction
from orchestrator.domain.statistics.bounds import Interval, compare, compare_paired, compare_with_constant
from orchestrator.domain.statistics.looks import bound
from orchestrator.domain.statistics.noise import Noise
from orchestrator.domain.statistics.rows import auc, f1, mcnemar_of_rows, paired_bootstrap, paired_rows

_DECIMALS = 4
"""Values with as few decimals were rounded, or counted: their last digit is as fine as they get."""
_SEED = 353_833


@dataclass(frozen=True, slots=True)
class Answer:
    """What a test found about "gain > limit", on the scale that it compared on.

    ``p_above`` is how probable as great a gain were if the true one was the limit, ``p_below`` the same for
    as small a one. ``interval`` is None for exact McNemar, which has no bounds.
    """

    gain: float
    above: bool
    below: bool
    p_above: float
    p_below: float
    alpha: float
    test: str
    interval: Interval | None = None
    changed: tuple[int, int] | None = None

    @property
    def is_point(self) -> bool:
        """Whether there was no noise to go by."""
        return self.interval is not None and self.interval.method.is_point


@dataclass(frozen=True, slots=True)
class Question:
    """One claim about a metric: that the gain is greater than ``limit``.

    ``values`` and ``theirs`` are on the scale of the test: logarithms where ``ratio`` is set. ``theirs`` is
    empty, and ``constant`` the number, for a threshold. ``other`` is the baseline's value as people read it.
    ``numbers`` are those of the replicates that ``values``, or rows, are of; empty: none is missing. Where
    ``paired``, ``theirs`` are of the same ones.
    """

    check: Check
    direction: Direction | None
    sign: int
    limit: float
    values: tuple[float, ...]
    theirs: tuple[float, ...]
    measured: Measured | None = None
    runs: tuple[int, ...] = ()
    constant: float | None = None
    other: float = 0.0
    ledger: Noise | None = None
    resolution: float = 0.0
    ratio: bool = False
    paired: bool = False
    rows: Rows | None = None
    slice: str = ""
    numbers: tuple[int, ...] = ()

    @property
    def guard(self) -> bool:
        """Whether it is to be shown that the claim does not hold."""
        return isinstance(self.check, Comparison) and self.check.claim is Claim.NO_REGRESSION

    @property
    def by_points(self) -> bool:
        """Whether plain values decide, whatever their noise."""
        return self.check.test is Test.POINT

    @property
    def count(self) -> int:
        """How many runs of the candidate there are."""
        return len(self.rows.candidate) if self.rows is not None else len(self.values)

    @property
    def baseline_n(self) -> int:
        """How many runs of the baseline there are; 0 for a fixed number."""
        return len(self.rows.baseline) if self.rows is not None else len(self.theirs)

    def there_at(self, count: int) -> int:
        """How many there were when ``count`` replicates had been trained, some of which may have failed."""
        order = self.numbers or range(self.count)
        return min(self.count, sum(number < count for number in order))

    def compared_with(self, n: int) -> int:
        """How many runs of the baseline the first ``n`` replicates are compared with."""
        return n if self.paired else self.baseline_n

    def ask(self, n: int, alpha: float, looks: tuple[int, ...] = ()) -> Answer:
        """What the first ``n`` replicates show; of ``looks`` planned ones this is one."""
        each = alpha / max(1, len(looks))
        if self.rows is not None:
            return self._ask_rows(self.rows, n, each)
        mine = self.values[:n]
        if self.constant is not None:
            found = compare_with_constant(
                mine, self.constant, self.ledger, alpha=each, sign=self.sign, resolution=self.resolution
            )
        elif self.paired:
            found = compare_paired(
                mine, self.theirs[:n], alpha=each, sign=self.sign, resolution=self.resolution
            )
        else:
            found = compare(
                mine,
                self.theirs,
                self.ledger,
                alpha=alpha,
                sign=self.sign,
                resolution=self.resolution,
                bound=bound(looks, len(self.theirs), self.ledger.df if self.ledger else 0, alpha)
                if looks
                else None,
            )
        return self._answer(found)

    def _answer(self, found: Interval) -> Answer:
        return Answer(
            found.estimate,
            found.lower > self.limit,
            found.upper < self.limit,
            found.p_above(self.limit),
            found.p_below(self.limit),
            found.alpha,
            found.method.value,
            found,
        )

    def _ask_rows(self, rows: Rows, n: int, alpha: float) -> Answer:
        mine = rows.candidate[:n]
        if rows.score is not RowScore.MEAN:
            score = f1 if rows.score is RowScore.F1 else auc
            return self._answer(
                paired_bootstrap(
                    score, rows.labels, mine, rows.baseline, seed=_SEED, alpha=alpha, sign=self.sign
                )
            )
        if len(mine) == len(rows.baseline) == 1 and self.limit == 0 and _is_binary(mine[0], rows.baseline[0]):
            right = 1.0 if self.sign > 0 else 0.0
            exact = mcnemar_of_rows([v == right for v in mine[0]], [v == right for v in rows.baseline[0]])
            return Answer(
                exact.estimate,
                exact.p_better < alpha,
                exact.p_worse < alpha,
                exact.p_better,
                exact.p_worse,
                alpha,
                "exact McNemar",
                changed=(exact.lost, exact.gained),
            )
        return self._answer(paired_rows(mine, rows.baseline, alpha=alpha, sign=self.sign))

    def sides(self, n: int) -> tuple[float, float]:
        """The values of both sides as people read them, of the candidate's first ``n`` runs."""
        rows = self.rows
        if rows is not None and rows.score is RowScore.MEAN:
            return _mean_of_rows(rows.candidate[:n]), _mean_of_rows(rows.baseline)
        mine = _mean(self.values[:n])
        theirs = _mean(self.theirs[:n]) if self.paired else None
        if self.ratio:
            return math.exp(mine), self.other if theirs is None else math.exp(theirs)
        return mine, self.other if theirs is None else theirs


def of_slice(rows: Rows, name: str) -> Rows:
    """The rows of one slice alone."""
    places = rows.slices[name]

    def part(values: Sequence[float]) -> Sequence[float]:
        return [values[place] for place in places]

    return replace(
        rows,
        candidate=tuple(part(run) for run in rows.candidate),
        baseline=tuple(part(run) for run in rows.baseline),
        labels=part(rows.labels) if rows.labels else (),
        slices={},
    )


def resolution_of(*sides: Sequence[float]) -> float:
    """The smallest step of values that were rounded or counted; 0 where they were not."""
    exponents = [Decimal(repr(value)).normalize().as_tuple().exponent for side in sides for value in side]
    finest = min((e for e in exponents if isinstance(e, int)), default=-_DECIMALS - 1)
    return 10.0**finest if -_DECIMALS <= finest <= 0 else 0.0


def _is_binary(*runs: Sequence[float]) -> bool:
    return all(value in (0.0, 1.0) for run in runs for value in run)


def _mean_of_rows(runs: Sequence[Sequence[float]]) -> float:
    return _mean([math.fsum(run) / len(run) for run in runs])


def _mean(values: Sequence[float]) -> float:
    return values[0] + math.fsum(value - values[0] for value in values) / len(values)


def level_of(check: Check, default: float) -> float:
    """The error rate that a check asks for, or the gate's."""
    return default if check.alpha is None else check.alpha
