"""The gate as a whole keeps its promise: checks, ledger, looks and correction together, as runs meet them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from orchestrator.domain.baseline import Measured, parse_selector
from orchestrator.domain.check import Check, Claim, Comparison, Margin, parse_check
from orchestrator.domain.gate import Gate, JudgingContext, Outcome, Reference, judge
from orchestrator.domain.metrics import Direction

GUARD = parse_check("m not worse than best")
PROOF = Comparison("m", parse_selector("best"), Claim.NON_INFERIOR, Margin(1.0))
GAIN = parse_check("m better than best")
SIX = tuple(parse_check(f"{name} not worse than best") for name in "abcdef")
LOOKS = (2, 4, 8)
MOST = 0.06
"""Twice the standard error of 3,000 trials above alpha."""


class Commits:
    """Commits whose true gain over the baseline is known, each judged by a gate."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def values(self, names: Sequence[str], count: int, gain: float = 0.0) -> dict[str, tuple[float, ...]]:
        return {name: tuple((self.random.standard_normal(count) + gain).tolist()) for name in names}

    def judged(
        self, checks: Sequence[Check], gain: float, count: int, looks: tuple[int, ...], *, ledger: bool
    ) -> Outcome:
        """Of ``count`` replicates against eight, or at the first look that settles it."""
        names = [check.metric for check in checks]
        noise = tuple(run(100 + past, self.values(names, 3)) for past in range(10)) if ledger else ()
        baseline, mine = run(1, self.values(names, 8)), self.values(names, count, gain)
        references = {c: Reference(baseline, runs=(1,)) for c in checks if isinstance(c, Comparison)}
        directions = dict.fromkeys(names, Direction.HIGHER)
        for look, size in enumerate(looks or (count,), 1):
            candidate = run(2, {name: values[:size] for name, values in mine.items()})
            context = JudgingContext(noise, look=look if looks else 0, looks=looks)
            verdict = judge(Gate(tuple(checks)), candidate, references, directions, context)
            if verdict.settled:
                break
        return verdict.outcome

    def share(
        self,
        outcome: Outcome,
        checks: Sequence[Check],
        gain: float,
        *,
        count: int = 3,
        looks: tuple[int, ...] = (),
        ledger: bool = True,
        trials: int = 3000,
    ) -> float:
        """How many of the commits end so."""
        ended = [self.judged(checks, gain, count, looks, ledger=ledger) for _ in range(trials)]
        return ended.count(outcome) / trials


def run(number: int, values: dict[str, tuple[float, ...]]) -> Measured:
    return Measured(number, f"wine#{number}", "c0ffee", "main", values)


@pytest.fixture
def commits() -> Commits:
    return Commits(31)


def test_an_unchanged_commit_is_failed_no_more_often_than_promised(commits: Commits) -> None:
    assert commits.share(Outcome.FAIL, [GUARD], 0) <= MOST
    assert commits.share(Outcome.FAIL, [GUARD], 0, ledger=False) <= MOST
    assert commits.share(Outcome.FAIL, [GUARD], 0, count=1) <= MOST


def test_nothing_is_proved_by_mistake_more_often_than_promised(commits: Commits) -> None:
    assert commits.share(Outcome.PASS, [PROOF], -1) <= MOST
    assert commits.share(Outcome.PASS, [GAIN], 0) <= MOST


def test_three_looks_err_no_more_often_than_one(commits: Commits) -> None:
    assert commits.share(Outcome.FAIL, [GUARD], 0, count=8, looks=LOOKS) <= MOST


def test_six_guards_at_three_looks_fail_an_unchanged_commit_no_more_often_than_one(commits: Commits) -> None:
    assert commits.share(Outcome.FAIL, SIX, 0, count=8, looks=LOOKS, trials=800) <= MOST + 0.005
