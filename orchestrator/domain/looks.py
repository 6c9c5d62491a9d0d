"""Sequential looks: how many replicates of a run are trained before its gate looks at them, and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.report import format_duration
from orchestrator.domain.run import Attempt, Purpose


def looks_of(pipeline: Pipeline, purpose: Purpose, replicates: int) -> tuple[int, ...]:
    """The replicates that there are at each look of a run with so many at most, rising.

    Only what a change is judged by is looked at early: a baseline and a reproduction are trained at once, and
    so is a run for which a person asked for another number of replicates.
    """
    if purpose is not Purpose.TRAIN or replicates != pipeline.replicates or not pipeline.looks.counts:
        return (replicates,)
    return pipeline.looks.counts


def at_once(pipeline: Pipeline) -> Pipeline:
    """The pipeline without looks, for a run of which a person says how many replicates it is to have."""
    return replace(pipeline, looks=replace(pipeline.looks, counts=()))


def look_reached(looks: Sequence[int], attempts: Sequence[Attempt]) -> int:
    """How many of the looks can be taken with the replicates that there are."""
    there = len({attempt.replicate for attempt in attempts})
    return sum(count <= there for count in looks)


@dataclass(frozen=True, slots=True)
class Step:
    """What follows a look. ``replicates``: train up to that many; None: the verdict stands.

    ``why`` says in words why no further look is taken although the verdict was not fixed; else it is empty.
    """

    replicates: int | None
    why: str = ""


def step_after(
    looks: Sequence[int], attempts: Sequence[Attempt], settled: bool, budget: float | None
) -> Step:
    """What follows once all tries of a run have ended and its gate has looked.

    ``budget`` is in seconds of training, over all attempts together: a look is not begun that would be
    expected to exceed it, by the mean of what a replicate has cost so far, retries included.
    """
    there = len({attempt.replicate for attempt in attempts})
    further = next((count for count in looks if count > there), None)
    if settled or further is None:
        return Step(None)
    spent = sum(seconds_of(attempt) for attempt in attempts)
    if budget is not None and spent * further / there > budget:
        return Step(
            None,
            f"{there} of {looks[-1]} replicates were trained in {format_duration(spent)}: {further} would "
            f"exceed the budget of {format_duration(budget)}",
        )
    return Step(further)


def seconds_of(attempt: Attempt) -> float:
    """How long an attempt held its slot, in seconds; 0 where it never did."""
    if attempt.started_at is None or attempt.finished_at is None:
        return 0.0
    return max(0.0, (attempt.finished_at - attempt.started_at).total_seconds())
