"""How often whole gates err, in seeded trials through the same function that judges runs."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from orchestrator.domain.baseline import Measured
from orchestrator.domain.check import Comparison, parse_check
from orchestrator.domain.gate import Gate, JudgingContext, Outcome, Reference, Verdict, judge
from orchestrator.domain.metrics import Direction

METRICS = tuple(f"m{number}" for number in range(6))
DIRECTIONS = dict.fromkeys(METRICS, Direction.HIGHER)
SHARED = 0.7
"""How far the metrics of one training move together."""


class Trainer:
    """Trainings whose metrics have a standard deviation of one."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - trials, no secrets

    def __call__(self, run_id: int, replicates: int, mean: float = 0.0) -> Measured:
        own = math.sqrt(1 - SHARED**2)
        common = [self._random.gauss(0, 1) for _ in range(replicates)]
        values = {
            name: tuple(mean + SHARED * each + own * self._random.gauss(0, 1) for each in common)
            for name in METRICS
        }
        return Measured(run_id, f"wine #{run_id}", "c", "main", values)


def first(candidate: Measured, count: int) -> Measured:
    """The same after as many replicates."""
    values = {name: each[:count] for name, each in candidate.values.items()}
    return Measured(candidate.run_id, candidate.title, "c", "main", values)


def share_of(
    outcome: Outcome,
    checks: Sequence[str],
    trials: int,
    *,
    mean: float = 0.0,
    replicates: int = 3,
    looks: tuple[int, ...] = (),
) -> float:
    """How many of the trials come to an outcome, with 8 runs of the baseline and a ledger of 20 degrees."""
    train = Trainer(len(checks) * 1000 + trials)
    parsed = tuple(parse_check(check) for check in checks)
    hits = 0
    for _ in range(trials):
        ledger = tuple(train(100 + number, 3) for number in range(10))
        baseline, candidate = train(1, 8), train(2, replicates, mean)
        references = {c: Reference(baseline, runs=(1,)) for c in parsed if isinstance(c, Comparison)}
        verdict: Verdict | None = None
        for number, count in enumerate(looks or (replicates,), 1):
            context = JudgingContext(ledger=ledger, look=number if looks else 0, looks=looks)
            verdict = judge(Gate(parsed), first(candidate, count), references, DIRECTIONS, context)
            if verdict.settled:
                break
        hits += verdict is not None and verdict.outcome is outcome
    return hits / trials


def test_six_guards_together_fail_an_unchanged_commit_no_more_often_than_alpha() -> None:
    guards = [f"{name} not worse than best" for name in METRICS]
    assert share_of(Outcome.FAIL, guards, 800) <= 0.055


def test_a_guard_sees_a_loss_of_two_widths_of_the_noise() -> None:
    assert share_of(Outcome.FAIL, ["m0 not worse than best"], 2000, mean=-2) >= 0.87


def test_a_loss_as_large_as_the_margin_is_seldom_proven_harmless_however_often_it_is_looked_at() -> None:
    proof = ["m0 proven not worse than best by 1"]
    assert share_of(Outcome.PASS, proof, 1500, mean=-1, replicates=8, looks=(2, 4, 8)) <= 0.06
    assert share_of(Outcome.PASS, proof, 500, replicates=8, looks=(2, 4, 8)) >= 0.5
