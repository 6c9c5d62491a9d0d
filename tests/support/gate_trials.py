"""Made-up and real noise for gates: what they say of candidates whose true difference is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy.special import stdtrit

from orchestrator.domain.statistics.bounds import Interval, compare
from orchestrator.domain.statistics.holdout import Release, alpha_of_use
from orchestrator.domain.statistics.looks import bound
from orchestrator.domain.statistics.noise import Noise, pool
from orchestrator.domain.statistics.rows import mcnemar

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Booleans = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
Bounds = tuple[Floats, Floats]
"""Lower and upper bounds, looks x trials, where the true gain is 0. Another true gain shifts both."""

LEDGER_DF: Final = 20
DIGITS: Final = Path(__file__).parents[1] / "data" / "digits_runs.npz"


@dataclass(frozen=True)
class Trials:
    """Replicates of both sides, trials x runs, and the ledger of each trial."""

    candidate: Floats
    baseline: Floats
    ledgers: Sequence[Noise | None]

    def bounds(
        self, candidate_n: int, baseline_n: int, *, ledger: bool = True, equal_noise: bool = False
    ) -> Bounds:
        """By the product's own test, for as many runs of each side."""
        made = [
            compare(
                mine[:candidate_n],
                theirs[:baseline_n],
                noise if ledger else None,
                equal_noise=equal_noise,
            )
            for mine, theirs, noise in zip(
                self.candidate.tolist(), self.baseline.tolist(), self.ledgers, strict=True
            )
        ]
        return _bounds([made])

    def bounds_by_welch(self, candidate_n: int, baseline_n: int) -> Bounds:
        """By Welch's t, whatever the numbers of runs: the textbook's formula, to compare with."""
        mine, theirs = self.candidate[:, :candidate_n], self.baseline[:, :baseline_n]
        first = mine.var(axis=1, ddof=1) / candidate_n
        second = theirs.var(axis=1, ddof=1) / baseline_n
        df = (first + second) ** 2 / (first**2 / (candidate_n - 1) + second**2 / (baseline_n - 1))
        gain, reach = mine.mean(axis=1) - theirs.mean(axis=1), stdtrit(df, 0.95) * np.sqrt(first + second)
        return (gain - reach)[None, :], (gain + reach)[None, :]

    def bounds_of_looks(
        self, looks: Sequence[int], baseline_n: int, *, alpha: float = 0.05, equal_noise: bool = False
    ) -> Bounds:
        """By the product's own test and bound, at each look."""
        common = bound(looks, baseline_n, LEDGER_DF, alpha)
        return _bounds(
            [
                [
                    compare(mine[:size], theirs[:baseline_n], noise, bound=common, equal_noise=equal_noise)
                    for mine, theirs, noise in zip(
                        self.candidate.tolist(), self.baseline.tolist(), self.ledgers, strict=True
                    )
                ]
                for size in looks
            ]
        )


def gaussian(
    trials: int, seed: int, *, candidate_n: int = 8, baseline_n: int = 8, candidate_sd: float = 1.0
) -> Trials:
    """Normal noise with sd 1, and a ledger of 20 degrees of freedom."""
    random = np.random.default_rng(seed)
    sds = np.sqrt(random.chisquare(LEDGER_DF, trials) / LEDGER_DF)
    return Trials(
        random.standard_normal((trials, candidate_n)) * candidate_sd,
        random.standard_normal((trials, baseline_n)),
        [Noise(float(sd), LEDGER_DF, 10) for sd in sds],
    )


def digits() -> Mapping[str, Booleans]:
    """By configuration (base, reg_a, reg_b, imp): which of 899 rows each of 200 trained models has right."""
    with np.load(DIGITS) as file:
        return {name: file[name] for name in file.files}


def of_digits(
    trials: int, seed: int, configuration: str, *, candidate_n: int = 8, baseline_n: int = 8
) -> Trials:
    """Accuracies in points: baseline and ledger are drawn from ``base``, none of them twice in a trial."""
    points = {name: rows.mean(axis=1) * 100 for name, rows in digits().items()}
    random = np.random.default_rng(seed)
    base = points["base"]
    order = random.permuted(np.tile(np.arange(base.size), (trials, 1)), axis=1)
    drawn = base[order]
    ledger_runs = drawn[:, candidate_n + baseline_n :][:, :30].reshape(trials, 10, 3)
    if configuration == "base":
        candidate = drawn[:, baseline_n : baseline_n + candidate_n]
    else:
        candidate = random.permuted(np.tile(points[configuration], (trials, 1)), axis=1)[:, :candidate_n]
    return Trials(candidate, drawn[:, :baseline_n], [pool(runs.tolist()) for runs in ledger_runs])


@dataclass(frozen=True)
class Shares:
    """How many of the trials ended how, as shares of 1."""

    passed: float
    failed: float


def proof(bounds: Bounds, gain: float, limit: float) -> Shares:
    """Of claims "gain > limit" for a true gain: the first look that shows it or its opposite ends."""
    passed, failed = bounds[0] + gain > limit, bounds[1] + gain < limit
    ended = _first(passed | failed)
    return Shares(_at(passed, ended), _at(failed, ended))


def guard(bounds: Bounds, gain: float, margin: float) -> Shares:
    """Of guards: fails where a loss beyond ``margin`` is shown; ends early on that, or where none can be."""
    failed, safe = bounds[1] + gain < -margin, bounds[0] + gain > -margin
    ended = _first(failed | safe)
    share = _at(failed, ended)
    return Shares(1 - share, share)


def mean_replicates(bounds: Bounds, looks: Sequence[int], gain: float, limit: float) -> float:
    """How many replicates are trained until a look shows "gain > limit" or its opposite, or the last."""
    ended = _first((bounds[0] + gain > limit) | (bounds[1] + gain < limit))
    return float(np.array(looks)[ended].mean())


def plain(candidate: Floats, baseline: Floats, gain: float) -> Shares:
    """Of naive gates: the higher of two numbers wins."""
    passed = float((candidate + gain >= baseline).mean())
    return Shares(passed, 1 - passed)


@dataclass(frozen=True)
class Overfit:
    """By how much the accuracy on a test set exceeds the true one, in points, after many decisions: means."""

    naive: float
    budgeted: float


def overfit(
    repeats: int, seed: int, *, decisions: int = 300, rows: int = 2000, accuracy: float = 0.9
) -> Overfit:
    """Commits that each redraw a tenth of the rows' correctness, accepted where they look better."""
    alpha = alpha_of_use(0.05, 0.05, decisions, Release.FIRST_CHANGE)

    def budgeted(lost: int, gained: int) -> bool:
        return mcnemar(lost, gained, rows).p_better < alpha

    def after(accept: Callable[[int, int], bool]) -> float:
        random = np.random.default_rng(seed)
        excess = 0.0
        for _ in range(repeats):
            right = random.random(rows) < accuracy
            for _ in range(decisions):
                redrawn = random.integers(0, rows, rows // 10)
                proposed = right.copy()
                proposed[redrawn] = random.random(redrawn.size) < accuracy
                lost, gained = int((right & ~proposed).sum()), int((proposed & ~right).sum())
                if accept(lost, gained):
                    right = proposed
            excess += float(right.mean()) - accuracy
        return 100 * excess / repeats

    return Overfit(after(lambda lost, gained: gained > lost), after(budgeted))


def error_of(share: float, trials: int) -> float:
    """The standard error of a share that was found by simulation."""
    return math.sqrt(share * (1 - share) / trials)


def _bounds(looks: Sequence[Sequence[Interval]]) -> Bounds:
    return (
        np.array([[interval.lower for interval in look] for look in looks]),
        np.array([[interval.upper for interval in look] for look in looks]),
    )


def _first(ended: Booleans) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    """The look at which each trial ends: the first that is conclusive, else the last."""
    return np.asarray(np.where(ended.any(axis=0), ended.argmax(axis=0), len(ended) - 1))


def _at(what: Booleans, look: np.ndarray[tuple[int, ...], np.dtype[np.intp]]) -> float:
    return float(np.take_along_axis(what, look[None, :], axis=0).mean())
