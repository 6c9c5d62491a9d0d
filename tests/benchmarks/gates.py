"""How often gates err and how much they see, on noise whose truth is known: made up, and of digits."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Final

from tests.benchmarks.harness import Figures, Parameters
from tests.support.gate_trials import (
    Bounds,
    Trials,
    error_of,
    gaussian,
    guard,
    mean_replicates,
    of_digits,
    overfit,
    plain,
    proof,
)

COLUMNS: Final = {
    "pass_unchanged": "A: pass at 0",
    "wrong_pass_at_limit": "A: wrong pass at -1",
    "detect_minus_2_sigma": "A: fail at -3",
    "wrong_fail_unchanged": "A: wrong fail at 0",
    "false_promote": "B: promote at 0",
    "promote_plus_2_sigma": "B: promote at +2",
    "guard_wrong_fail": "guard: fail at limit",
}
"""A claims no loss beyond 1 sd, B a gain. Two sds below what A and the guard allow is a true loss of 3."""

PUBLISHED: Final[Mapping[str, tuple[float, ...]]] = {
    "naive_1v1": (0.504, 0.241, 0.983, 0.496, 0.501, 0.922),
    "best_of_5": (0.833, 0.550, 0.935, 0.167, 0.831, 0.996),
    "welch_3v3": (0.224, 0.040, 0.575, 0.003, 0.041, 0.578),
    "student_3v3": (0.270, 0.051, 0.646, 0.004, 0.051, 0.646),
    "ledger_3v8": (0.417, 0.049, 0.895, 0.001, 0.051, 0.892),
    "ledger_5v8": (0.525, 0.050, 0.962, 0.000, 0.048, 0.963),
    "sequential_2_4_8": (0.552, 0.051, 0.977, 0.001, 0.050, 0.978),
}
"""The figures that the design was chosen by, from 40,000 trials of their own, in the order of the columns."""

PUBLISHED_DIGITS: Final[Mapping[str, tuple[float, ...]]] = {
    "naive": (0.456, 0.741, 0.884, 0.117),
    "ledger_3v8": (0.050, 0.473, 0.848, 0.000),
    "ledger_5v8": (0.054, 0.584, 0.936, 0.000),
}
CONFIGURATIONS: Final = {
    "unchanged": "base",
    "minus_0.42": "reg_b",
    "minus_0.73": "reg_a",
    "plus_0.51": "imp",
}


def measure(parameters: Parameters) -> Figures:
    """Shares of trials. ``trials``: 40,000; ``digits_trials``: 20,000; ``overfits``: 40; ``seed``: 6."""
    count, seed = parameters.number("trials", 40_000), parameters.number("seed", 6)
    began = time.process_time()
    found = {**_gaussian(count, seed), **_digits(parameters.number("digits_trials", 20_000), seed)}
    grown = overfit(parameters.number("overfits", 40), seed)
    found |= {"overfit.naive_points": grown.naive, "overfit.budgeted_points": grown.budgeted}
    sys.stdout.write(
        f"\naccuracy too high after 300 decisions on 2,000 rows: naive {grown.naive:.2f} points, "
        f"with a budget {grown.budgeted:.2f}\n"
    )
    far = {name: value for name, value in _distances(found, count).items() if abs(value) > 4}
    return Figures(
        found, {"seconds": [time.process_time() - began]}, {"trials": count, "far_from_published": far}
    )


def _gaussian(count: int, seed: int) -> dict[str, float]:
    same, doubled = gaussian(count, seed), gaussian(count, seed + 1, candidate_sd=2)
    looks = (2, 4, 8)
    tests: dict[str, Bounds] = {
        "welch_3v3": same.bounds_by_welch(3, 3),
        "student_3v3": same.bounds(3, 3, ledger=False),
        "ledger_3v8": same.bounds(3, 8, equal_noise=True),
        "ledger_5v8": same.bounds(5, 8, equal_noise=True),
        "sequential_2_4_8": same.bounds_of_looks(looks, 8, equal_noise=True),
        "as_judged_3v8": same.bounds(3, 8),
        "as_judged_5v8": same.bounds(5, 8),
        "as_judged_2_4_8": same.bounds_of_looks(looks, 8),
        "doubled_noise_3v8": doubled.bounds(3, 8),
        "doubled_noise_5v8": doubled.bounds(5, 8),
        "doubled_noise_2_4_8": doubled.bounds_of_looks(looks, 8),
    }
    rows = {"naive_1v1": _naive(same, 1), "best_of_5": _naive(same, 5)}
    rows |= {name: _columns(bounds) for name, bounds in tests.items()}
    sys.stdout.write(f"\n{'gate (candidate v baseline)':22}" + "".join(f"{c:>22}" for c in COLUMNS.values()))
    for name, values in rows.items():
        sys.stdout.write(f"\n{name:22}" + "".join(f"{value:22.3f}" for value in values))
    sys.stdout.write("\n")
    trained = {
        f"as_judged_2_4_8.replicates_at_{gain:+d}": mean_replicates(tests["as_judged_2_4_8"], looks, gain, 0)
        for gain in (-3, -2, -1, 0, 1, 2, 3)
    }
    sys.stdout.write("\nreplicates trained, by how far the truth is from the limit: ")
    sys.stdout.write(", ".join(f"{name.rpartition('_')[2]} {value:.1f}" for name, value in trained.items()))
    sys.stdout.write("\n")
    return trained | {
        f"{name}.{column}": value
        for name, values in rows.items()
        for column, value in zip(COLUMNS, values, strict=False)
    }


def _columns(bounds: Bounds) -> tuple[float, ...]:
    unchanged = proof(bounds, 0, -1)
    return (
        unchanged.passed,
        proof(bounds, -1, -1).passed,
        proof(bounds, -3, -1).failed,
        unchanged.failed,
        proof(bounds, 0, 0).passed,
        proof(bounds, 2, 0).passed,
        guard(bounds, -1, 1).failed,
    )


def _naive(trials: Trials, seeds: int) -> tuple[float, ...]:
    candidate, baseline = trials.candidate[:, :seeds].max(axis=1), trials.baseline[:, 0]
    lost, gained = plain(candidate, baseline, -3), plain(candidate, baseline, 2)
    unchanged = plain(candidate, baseline, 0)
    return (
        unchanged.passed,
        plain(candidate, baseline, -1).passed,
        lost.failed,
        unchanged.failed,
        unchanged.passed,
        gained.passed,
    )


def _digits(count: int, seed: int) -> dict[str, float]:
    found: dict[str, dict[str, float]] = {}
    for change, configuration in CONFIGURATIONS.items():
        trials = of_digits(count, seed, configuration)
        shares = {
            "naive": plain(trials.candidate[:, 0], trials.baseline[:, 0], 0),
            "ledger_3v8": guard(trials.bounds(3, 8, equal_noise=True), 0, 0),
            "ledger_5v8": guard(trials.bounds(5, 8, equal_noise=True), 0, 0),
            "as_judged_3v8": guard(trials.bounds(3, 8), 0, 0),
            "as_judged_5v8": guard(trials.bounds(5, 8), 0, 0),
            "as_judged_2_4_8": guard(trials.bounds_of_looks((2, 4, 8), 8), 0, 0),
        }
        for name, share in shares.items():
            found.setdefault(name, {})[change] = share.failed
    sys.stdout.write(f"\n{'digits: share failed':22}" + "".join(f"{name:>14}" for name in CONFIGURATIONS))
    for name, row in found.items():
        sys.stdout.write(f"\n{name:22}" + "".join(f"{value:14.3f}" for value in row.values()))
    sys.stdout.write("\n")
    return {f"digits.{name}.{change}": value for name, row in found.items() for change, value in row.items()}


def _distances(found: Mapping[str, float], count: int) -> dict[str, float]:
    """How far each figure is from the published one, in standard errors of their difference."""
    wanted = {
        f"{name}.{column}": value
        for name, values in PUBLISHED.items()
        for column, value in zip(COLUMNS, values, strict=False)
    }
    wanted |= {
        f"digits.{name}.{change}": value
        for name, values in PUBLISHED_DIGITS.items()
        for change, value in zip(CONFIGURATIONS, values, strict=True)
    }
    return {
        name: round(
            (found[name] - value) / max(1e-3, error_of(value, count) * 2**0.5),
            1,
        )
        for name, value in wanted.items()
    }
