"""Which runs gates would be compared with now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from orchestrator.domain.baseline import Place, choose, together
from orchestrator.domain.check import Comparison
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.statistics.noise import MAX_LEDGER_RUNS
from orchestrator.ports.store import Store
from orchestrator.services.candidates import candidates, eligible_runs


def baselines_now(store: Store, pipelines: Iterable[Pipeline]) -> dict[int, str]:
    """The runs that a comparing check of these pipelines would choose, with the check, and those that tell
    their noise.

    Chosen are the baselines on the evaluation data of the newest run, and those on any, which count once the
    data change; with them all runs that measured the same.
    """
    found: dict[int, str] = {}
    for pipeline in pipelines:
        comparisons = [check for check in pipeline.gate.checks if isinstance(check, Comparison)]
        if comparisons:
            found |= _of_pipeline(store, pipeline, comparisons)
    return found


def _of_pipeline(store: Store, pipeline: Pipeline, comparisons: Sequence[Comparison]) -> dict[int, str]:
    past = candidates(
        store, pipeline, eligible_runs(store, pipeline, {check.metric for check in comparisons})
    )
    if not past:
        return {}
    pins = store.runs.pins(pipeline.name)
    rebased = store.baselines.rebased(pipeline.name)
    newest = past[-1]
    found: dict[int, str] = {}
    for check in comparisons:
        direction = pipeline.direction_of(check.metric)
        if direction is None:
            continue
        spec = pipeline.baseline_of(check.baseline)
        for digest in (newest.evaluation_digest, ""):
            since = rebased.run_id if rebased else 0
            chosen = choose(spec, past, check.metric, direction, pins, Place(digest), since).candidate
            if chosen is None:
                continue
            found.setdefault(chosen.measured.run_id, f"the baseline of '{check}'")
            commit = chosen.measured.commit
            for member in together(chosen, past, replace(spec, confirm=0)):
                found.setdefault(member.measured.run_id, f"a part of the baseline of '{check}'")
            for member in past:
                on_newest = member.evaluation_digest == newest.evaluation_digest
                if member.again and on_newest and member.measured.commit == commit:
                    found.setdefault(member.measured.run_id, "a baseline measured on the newest data")
    for run_id in store.baselines.replicated(newest.measured.run_id, MAX_LEDGER_RUNS):
        found.setdefault(run_id, f"the noise ledger of {pipeline.name}")
    return found
