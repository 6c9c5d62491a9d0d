"""``orchestrator gate``: what a gate can show, before anything is trained for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from orchestrator.cli.complete import pipeline_names
from orchestrator.cli.gate_replay import replay
from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, global_options, this

if TYPE_CHECKING:
    from orchestrator.cli.output import Json
    from orchestrator.services.gateplan import CheckPlan, GatePlan, HoldoutPlan, Wish


@click.group(cls=CommandGroup)
@global_options
def gate() -> None:
    """Tell what a gate can show, and what it would need."""


gate.add_command(replay)


@gate.command("plan")
@click.argument("pipeline", shell_complete=pipeline_names)
@click.option("--margin", metavar="MARGIN", help="The wanted one for all checks: 0.005, 0.5pp or 5%.")
@click.option(
    "--power",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="How probably it is to be seen.",
)
@click.option(
    "--changed",
    metavar="SHARE",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="Rows on which only one of two models is right, as a share, for tests by rows.",
)
@global_options
def plan(pipeline: str, margin: str | None, power: float, changed: float) -> int:
    """Show what each check sees with the noise so far, and the replicates and rows that its margin needs."""
    from orchestrator.cli.output import print_json
    from orchestrator.domain.check import parse_margin
    from orchestrator.services.gateplan import Wish, plan_gate

    settings = this()
    wish = Wish(parse_margin(margin) if margin else None, power, changed)
    with settings.application() as app:
        found = plan_gate(app.store, app.pipeline(pipeline), wish)
    if settings.json:
        print_json(_as_json(found))
    else:
        _print(found, wish)
    return PASSED


def _print(found: GatePlan, wish: Wish) -> None:
    from orchestrator.cli.output import console, say
    from orchestrator.domain.text import clean

    screen = console()
    if not found.checks:
        say("the pipeline has no checks")
    for each in found.checks:
        screen.print(clean(str(each.check)))
        for line in lines_of(each, wish):
            screen.print(f"  {clean(line)}")
    if found.holdout is not None:
        screen.print(clean(f"hold-out {found.holdout.dataset}"))
        for line in budget_of(found.holdout):
            screen.print(f"  {clean(line)}")


def lines_of(found: CheckPlan, wish: Wish) -> Iterator[str]:
    """What is told of one check, line by line."""
    from orchestrator.cli.output import count

    runs = f"{found.looks[-1]} replicate{'' if found.looks[-1] == 1 else 's'}"
    if len(found.looks) > 1:
        runs += f" (looks at {', '.join(map(str, found.looks))})"
    if found.baseline_n:
        runs += f" against {found.baseline_n}" + (f" ({found.baseline})" if found.baseline else " (none yet)")
    if found.noise is None:
        yield "noise: not known yet, no run with replicates has passed"
    elif found.noise.sd == 0:
        yield f"noise: none in {found.noise.runs} runs, values are compared as they are"
    else:
        yield (
            f"noise: {_amount(found, found.noise.sd)} between runs of one commit "
            f"({count(found.noise.runs, 'run')}, {count(found.noise.df, 'degree')} of freedom)"
        )
    yield f"planned: {runs}, alpha {found.alpha:.3g}"
    if found.visible is not None and math.isfinite(found.visible):
        yield f"seen with probability {wish.power:g}: {_seen(found)}"
    if found.unchanged is not None:
        yield f"a commit that changes nothing passes with probability {found.unchanged:.2f}"
    if found.margin and found.noise is not None and found.noise.sd:
        yield f"a change of {_amount(found, found.margin)} beyond the limit needs {_needed(found)}"
    if found.rows_needed is not None and found.margin:
        yield (
            f"the same by rows, of one model against another, needs {count(found.rows_needed, 'row')}"
            f" where {wish.changed:.3g} of them change"
        )


def _needed(found: CheckPlan) -> str:
    from orchestrator.cli.output import count

    alone, both = found.replicates_needed, found.needed_on_both
    ways = [] if alone is None else [count(alone, "replicate")]
    if both is not None and (alone is None or both != alone):
        ways.append(f"{both} each of candidate and baseline")
    return ", or ".join(ways) or "more than 1000 replicates"


def _seen(found: CheckPlan) -> str:
    from orchestrator.domain.check import Claim, Comparison

    assert found.visible is not None  # noqa: S101 - the caller looked
    amount = _amount(found, found.visible)
    if not isinstance(found.check, Comparison):
        return f"a mean that is {amount} off the limit"
    what = "gain" if found.check.claim is Claim.SUPERIOR else "loss"
    return f"a {what} that exceeds {'what is asked for' if what == 'gain' else 'the margin'} by {amount}"


def _amount(found: CheckPlan, value: float) -> str:
    from orchestrator.domain.check import Comparison

    if found.ratio:
        return f"{100 * math.expm1(value):.2g} %"
    if isinstance(found.check, Comparison) and found.check.margin.points:
        return f"{100 * value:.2g} points"
    return f"{value:.2g}"


def budget_of(found: HoldoutPlan) -> Iterator[str]:
    """What is told of a hold-out budget, line by line."""
    from orchestrator.cli.output import count
    from orchestrator.domain.gate import HoldoutMode

    if found.mode is HoldoutMode.OFF:
        yield f"{count(found.uses, 'verdict')} so far, not limited"
    else:
        yield (
            f"{found.left} of {found.max_uses} verdicts left (mode {found.mode.value}), "
            f"alpha {found.alpha:.3g} for each"
        )
    if found.ended:
        yield f"used up: {found.ended}"
    for margin, rows in found.rows:
        yield (
            f"{count(rows, 'row')} pin a difference of {margin:.3g} for {found.max_uses} verdicts, "
            "whatever the rows are like"
        )


def _as_json(found: GatePlan) -> Json:
    checks: list[Json] = [
        {
            "check": str(each.check),
            "metric": each.check.metric,
            "log_ratio": each.ratio,
            "noise_sd": each.noise.sd if each.noise else None,
            "noise_df": each.noise.df if each.noise else None,
            "noise_runs": each.noise.runs if each.noise else 0,
            "looks": list(each.looks),
            "baseline": each.baseline or None,
            "baseline_n": each.baseline_n,
            "alpha": each.alpha,
            "visible_change": each.visible
            if each.visible is not None and math.isfinite(each.visible)
            else None,
            "unchanged_passes": each.unchanged,
            "margin": each.margin,
            "replicates_needed": each.replicates_needed,
            "needed_on_both": each.needed_on_both,
            "rows_needed": each.rows_needed,
        }
        for each in found.checks
    ]
    budget = found.holdout
    holdout: Json = None
    if budget is not None:
        holdout = {
            "dataset": budget.dataset,
            "mode": budget.mode.value,
            "uses": budget.uses,
            "max_uses": budget.max_uses,
            "left": budget.left if budget.alpha is not None else None,
            "alpha": budget.alpha,
            "used_up": budget.ended or None,
            "rows": [{"margin": margin, "rows": rows} for margin, rows in budget.rows],
        }
    return {"checks": checks, "holdout": holdout}
