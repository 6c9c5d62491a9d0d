"""What a pipeline's gate can show with the noise that its runs have shown, and what it would need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.baseline import Candidate, Measured, Place, choose, pooled, together
from orchestrator.domain.check import Check, Claim, Comparison, Margin, Test, Threshold
from orchestrator.domain.gate import Gate, HoldoutMode, Require
from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.statistics.holdout import Release, alpha_of_use, rows_for_difference
from orchestrator.domain.statistics.looks import bound
from orchestrator.domain.statistics.noise import MAX_LEDGER_RUNS, Noise, pool
from orchestrator.domain.statistics.planning import (
    detectable,
    level_of_last_look,
    power,
    replicates_needed,
    rows_needed,
)
from orchestrator.domain.statistics.scale import log_gain, log_margin, logarithms
from orchestrator.ports.store import Store
from orchestrator.services.candidates import candidates, eligible_runs
from orchestrator.services.judging import log_ratios, uses_so_far


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be shown, and how probably. ``margin`` None: each check's own.

    ``changed`` is the share of rows on which only one of two models is right, for tests by rows.
    """

    margin: Margin | None = None
    power: float = 0.8
    changed: float = 0.1


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """One check. Amounts are in the metric's unit, or of its natural logarithm where ``ratio`` is set.

    ``noise`` is that of one run, None where no runs have shown it yet; what depends on it is then None.
    ``alpha`` is the level of the last look after corrections, Holm's at its worst. ``visible`` is the
    smallest true change beyond the limit that is seen as probably as was wished; ``unchanged`` how probably
    a commit that changes nothing shows the claim, None for guards, which it needs not. ``margin`` is the
    wanted one, ``replicates_needed`` those of the candidate that see a change of it beyond the limit,
    ``needed_on_both`` where the baseline has as many; None: not even a thousand do, or there is nothing to
    see. ``rows_needed`` is for a test by rows of one model against another; None where the metric is no
    share of rows.
    """

    check: Check
    ratio: bool
    noise: Noise | None
    looks: tuple[int, ...]
    baseline: str
    baseline_n: int
    alpha: float
    visible: float | None
    unchanged: float | None
    margin: float | None
    replicates_needed: int | None
    needed_on_both: int | None
    rows_needed: int | None


@dataclass(frozen=True, slots=True)
class HoldoutPlan:
    """The hold-out budget: verdicts that are left, and the level of each (None: not limited).

    ``rows`` by margin: what ease.ml/ci asks of the test set for all verdicts together, whatever its rows are
    like.
    """

    dataset: str
    mode: HoldoutMode
    uses: int
    max_uses: int
    alpha: float | None
    rows: tuple[tuple[float, int], ...]
    ended: str = ""
    """Why there are no more verdicts, although some are left."""

    @property
    def left(self) -> int:
        """How many verdicts are left."""
        return 0 if self.ended else max(0, self.max_uses - self.uses)


@dataclass(frozen=True, slots=True)
class GatePlan:
    """All checks of a gate, and its hold-out budget where it has one."""

    checks: tuple[CheckPlan, ...]
    holdout: HoldoutPlan | None


def plan_gate(store: Store, pipeline: Pipeline, wish: Wish) -> GatePlan:
    """What the gate can show now."""
    gate = pipeline.gate
    metrics = {check.metric for check in gate.checks}
    past = candidates(store, pipeline, eligible_runs(store, pipeline, metrics)) if metrics else []
    ledger = _ledger(store, past)
    plans = tuple(_plan(store, pipeline, check, past, ledger, wish) for check in gate.checks)
    if gate.holdout is None:
        return GatePlan(plans, None)
    budget = gate.holdout
    margins = sorted({p.margin for p in plans if p.margin and p.rows_needed is not None})
    release = Release(budget.mode.value) if budget.mode is not HoldoutMode.OFF else Release.NONE
    rows = tuple((m, rows_for_difference(m, budget.delta, budget.max_uses, release)) for m in margins)
    alpha = None
    if budget.mode is not HoldoutMode.OFF:
        alpha = alpha_of_use(gate.alpha, budget.delta, budget.max_uses, release)
    uses, ended = uses_so_far(store, pipeline.name, budget)
    return GatePlan(
        plans, HoldoutPlan(budget.dataset, budget.mode, uses, budget.max_uses, alpha, rows, ended)
    )


def _ledger(store: Store, past: Sequence[Candidate]) -> list[Measured]:
    """The newest run and those whose noise is like its own, newest first."""
    if not past:
        return []
    newest = past[-1].measured
    known = {candidate.measured.run_id: candidate.measured for candidate in past}
    like = store.baselines.replicated(newest.run_id, 4 * MAX_LEDGER_RUNS)
    return [newest, *(known[run_id] for run_id in like if run_id in known)]


def _plan(
    store: Store,
    pipeline: Pipeline,
    check: Check,
    past: Sequence[Candidate],
    ledger: Sequence[Measured],
    wish: Wish,
) -> CheckPlan:
    ratio = isinstance(check, Comparison) and check.metric in log_ratios(pipeline)
    noise = _noise(ledger, check.metric, ratio=ratio)
    title, values, wanted_n = _baseline(store, pipeline, check, past)
    baseline_n = 0 if isinstance(check, Threshold) else max(len(values), wanted_n, 1)
    looks = pipeline.looks.counts or (pipeline.replicates,)
    df = noise.df if noise else 0
    alpha = _alpha(pipeline.gate, check)
    level = level_of_last_look(bound(looks, baseline_n, df, alpha), baseline_n, df)
    own, margin = _margins(check, wish, values, pipeline.direction_of(check.metric), ratio=ratio)
    sd = noise.sd if noise else 0.0
    by_rows = margin is not None and 0 < margin <= wish.changed and _is_share(check, pipeline, wish)
    unchanged = None
    if sd and own is not None and isinstance(check, Comparison) and check.claim is Claim.NON_INFERIOR:
        unchanged = power(own / sd, looks[-1], baseline_n, df, level)
    return CheckPlan(
        check,
        ratio,
        noise,
        looks,
        title,
        baseline_n,
        level,
        sd * detectable(looks[-1], baseline_n, df, level, wish.power) if sd else None,
        unchanged,
        margin,
        replicates_needed(margin / sd, baseline_n, df, level, wish.power) if sd and margin else None,
        replicates_needed(margin / sd, None, df, level, wish.power) if sd and margin and baseline_n else None,
        rows_needed(margin, wish.changed, alpha, wish.power) if by_rows and margin else None,
    )


def _noise(ledger: Sequence[Measured], metric: str, *, ratio: bool) -> Noise | None:
    groups: list[Sequence[float]] = []
    for measured in ledger:
        values = measured.values.get(metric, ())
        scaled = logarithms(values) if ratio else values
        if scaled:
            groups.append(scaled)
    return pool(groups)


def _baseline(
    store: Store, pipeline: Pipeline, check: Check, past: Sequence[Candidate]
) -> tuple[str, tuple[float, ...], int]:
    """The run that a check would be compared with now, its values, and how many are wanted of it."""
    if isinstance(check, Threshold):
        return "", (), 0
    spec = pipeline.baseline_of(check.baseline)
    wanted = max(spec.replicates, spec.confirm) or pipeline.replicates
    direction = pipeline.direction_of(check.metric)
    if not past or direction is None:
        return "", (), wanted
    rebased = store.baselines.rebased(pipeline.name)
    pins, place = store.runs.pins(pipeline.name), Place(past[-1].evaluation_digest)
    since = rebased.run_id if rebased else 0
    chosen = choose(spec, past, check.metric, direction, pins, place, since).candidate
    if chosen is None:
        return "", (), wanted
    members = together(chosen, past, spec) or together(chosen, past, replace(spec, confirm=0))
    values = pooled(members, chosen.measured).values.get(check.metric, ())
    return chosen.measured.title, tuple(v for v in values if math.isfinite(v)), wanted


def _alpha(gate: Gate, check: Check) -> float:
    """The level of one check: cut by the hold-out budget, and by as many checks as are corrected together."""
    alpha = gate.alpha if check.alpha is None else check.alpha
    budget = gate.holdout
    if budget is not None and budget.mode is not HoldoutMode.OFF:
        alpha = alpha_of_use(alpha, budget.delta, budget.max_uses, Release(budget.mode.value))
    family = [other for other in gate.checks if _is_guard(other) == _is_guard(check)]
    corrected = gate.holm and (_is_guard(check) or gate.require is Require.ANY)
    return alpha / len([c for c in family if c.test is not Test.POINT] or family) if corrected else alpha


def _is_guard(check: Check) -> bool:
    return isinstance(check, Comparison) and check.claim is Claim.NO_REGRESSION


def _margins(
    check: Check, wish: Wish, values: Sequence[float], direction: Direction | None, *, ratio: bool
) -> tuple[float | None, float | None]:
    """The check's margin and the wanted one, on the scale of the test; None where they are not known yet."""
    mine = check.margin if isinstance(check, Comparison) else None
    sign = direction.sign if direction else 1
    centre = math.fsum(values) / len(values) if values else None

    def scaled(margin: Margin | None) -> float | None:
        if margin is None or (centre is None and margin.relative != ratio):
            return None
        if not ratio:
            return margin.of(centre or 0.0)
        share = margin.value if margin.relative else margin.value / abs(centre or 1.0)
        gained = isinstance(check, Comparison) and check.claim is Claim.SUPERIOR
        return log_gain(share, sign) if gained else log_margin(share, sign)

    return scaled(mine), scaled(wish.margin or mine)


def _is_share(check: Check, pipeline: Pipeline, wish: Wish) -> bool:
    """Whether a metric is a share of rows: people write its differences in points, or have it computed by
    rows.
    """
    spec = next((m for m in pipeline.metrics if m.name == check.metric), None)
    margins = [wish.margin, check.margin if isinstance(check, Comparison) else None]
    return (
        check.test is Test.PAIRED_ROWS
        or bool(spec and spec.predictions)
        or any(margin is not None and margin.points for margin in margins)
    )
