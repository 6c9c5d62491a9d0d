"""The runs of the past that may be baselines, as the domain chooses among them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from orchestrator.domain.baseline import Candidate
from orchestrator.domain.deployment import why_not_trusted_with
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Purpose, Run
from orchestrator.ports.baselines import PastRun
from orchestrator.ports.store import Store
from orchestrator.services.measuring import digest_of, keys_of, measured_as, recipe_of


def eligible_runs(store: Store, pipeline: Pipeline, metrics: Collection[str]) -> list[PastRun]:
    """The runs that passed and may be baselines of a pipeline as it is given, oldest first.

    A reproduction has its original's seeds, and so tells nothing new. Who may not be trusted is judged by
    the same runs as others.
    """
    pipeline = replace(pipeline, untrusted=False)
    return [
        run
        for run in store.baselines.history(pipeline.name, metrics)
        if run.purpose is not Purpose.REPRODUCE
        and why_not_trusted_with(run.cause, run.purpose, run.branch, pipeline) is None
    ]


def candidates(
    store: Store, pipeline: Pipeline, runs: Sequence[PastRun], remember: bool = False
) -> list[Candidate]:
    """The same as the domain sees them. ``remember`` writes down what older releases did not."""
    deployed = set(store.runs.deployed_ids(pipeline.name))
    return [
        Candidate(
            measured_as(run.id, run.title, run.commit, run.branch, run.metrics),
            run.id,
            digest_of(run.datasets),
            run.id in deployed,
            run.recipe or _recipe(store, run, remember),
            run.purpose is Purpose.BASELINE,
            run.seeds,
        )
        for run in runs
    ]


def before(runs: Sequence[PastRun], judged: Run, merge_base: str = "") -> list[PastRun]:
    """Those of the runs that come before one that is judged: none of a newer change, nor of the newer
    changes' commits measured again. The ``merge_base`` measured again always does: it is in its history.
    """
    rank = judged.change.rank
    older = [r for r in runs if r.id != judged.id and (r.purpose is Purpose.BASELINE or r.rank <= rank)]
    newer = {r.commit for r in runs if r.purpose is not Purpose.BASELINE and r.rank > rank}
    newer.discard(merge_base)
    newer -= {r.commit for r in older if r.purpose is not Purpose.BASELINE}
    return [r for r in older if r.purpose is not Purpose.BASELINE or r.commit not in newer]


def _recipe(store: Store, run: PastRun, remember: bool) -> str:
    if remember:
        return note_keys(store, store.runs.get(run.id))
    return recipe_of(run.commit, run.datasets, store.runs.definition(run.id))


def as_trained(store: Store, pipeline: Pipeline, original: Run) -> Pipeline:
    """The pipeline with which a run can be measured again under the same recipe."""
    commit, data = original.change.revision.commit, original.change.datasets
    then = store.runs.definition(original.id)
    if pipeline.untrusted:
        # Whoever wrote it must not say how what others are compared with is measured.
        return then
    if recipe_of(commit, data, pipeline) == recipe_of(commit, data, then):
        return pipeline
    # Hosts come and go: where it executes is as it is now.
    return replace(then, runner=replace(pipeline.runner, image=then.runner.image))


def note_keys(store: Store, run: Run) -> str:
    """Write down what a run was measured with; its recipe."""
    keys = keys_of(run, store.runs.definition(run.id), store.attempts.of_run(run.id))
    store.baselines.note(run.id, keys)
    return keys.recipe
