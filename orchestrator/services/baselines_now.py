"""Which runs gates would be compared with now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.domain.baseline import Candidate, SelectorKind, choose
from orchestrator.domain.check import Comparison
from orchestrator.domain.deployment import why_not_trusted_with
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Purpose
from orchestrator.ports.retention import PastRun
from orchestrator.ports.store import Store
from orchestrator.services.measuring import digest_of, measured_as


def baselines_now(store: Store, pipelines: Iterable[Pipeline]) -> dict[int, str]:
    """The runs that a comparing check of these pipelines would choose, with the check.

    Chosen are the baselines on the evaluation data of the newest run, and those on any, which count once the
    data change; with them what was made to measure one of them again on those data.
    """
    found: dict[int, str] = {}
    for pipeline in pipelines:
        comparisons = [check for check in pipeline.gate.checks if isinstance(check, Comparison)]
        if comparisons:
            found |= _of_pipeline(store, pipeline, comparisons)
    return found


def _of_pipeline(store: Store, pipeline: Pipeline, comparisons: Sequence[Comparison]) -> dict[int, str]:
    past = [
        run
        for run in store.retention.history(pipeline.name, {check.metric for check in comparisons})
        if why_not_trusted_with(run.cause, run.purpose, run.branch, pipeline) is None
    ]
    if not past:
        return {}
    deployed = set(store.runs.deployed_ids(pipeline.name))
    pins = store.runs.pins(pipeline.name)
    everyone = [_candidate(run, run.id in deployed) for run in past]
    trained = [c for c, run in zip(everyone, past, strict=True) if run.purpose is Purpose.TRAIN]
    newest = digest_of(past[-1].datasets)
    found: dict[int, str] = {}
    for check in comparisons:
        direction = pipeline.direction_of(check.metric)
        if direction is None:
            continue
        # Only `best` may choose by itself what was made to measure an old commit again.
        pool = everyone if check.baseline.kind is SelectorKind.BEST else trained
        for digest in (newest, ""):
            chosen = choose(check.baseline, pool, check.metric, direction, pins, digest).candidate
            if chosen is not None:
                found.setdefault(chosen.measured.run_id, f"the baseline of '{check}'")
    for run in past:
        stands_in = run.purpose is Purpose.BASELINE and run.rerun_of in found
        if stands_in and digest_of(run.datasets) == newest:
            found.setdefault(run.id, "a baseline measured on the newest data")
    return found


def _candidate(run: PastRun, deployed: bool) -> Candidate:
    measured = measured_as(run.id, run.title, run.commit, run.branch, run.metrics)
    return Candidate(measured, run.id, digest_of(run.datasets), deployed)
