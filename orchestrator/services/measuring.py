"""What runs measured, on which evaluation data and with what: the values that judging compares, and which of
them may be taken together.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.domain.baseline import Measured
from orchestrator.domain.change import Change, DatasetRole, DatasetVersion
from orchestrator.domain.codec import to_plain
from orchestrator.domain.metrics import Metric, values_of
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Attempt, AttemptState, Run, latest_tries
from orchestrator.ports.baselines import Keys


def measured(run: Run, metrics: Mapping[int, Sequence[Metric]]) -> Measured:
    """A run's values by metric, one per replicate.

    A name that several files hold counts once, the first file's. A replicate that lacks what another one has
    counts as NaN there: it is never dropped.
    """
    revision = run.change.revision
    return measured_as(run.id, run.title, revision.commit, revision.branch, metrics)


def measured_as(
    run_id: int, title: str, commit: str, branch: str, metrics: Mapping[int, Sequence[Metric]]
) -> Measured:
    """As :func:`measured`, of a run of which only this is known."""
    by_replicate = values_of(metrics)
    numbers, found = tuple(by_replicate), list(by_replicate.values())
    names = dict.fromkeys(name for values in found for name in values)
    return Measured(
        run_id,
        title,
        commit,
        branch,
        {name: tuple(values.get(name, math.nan) for values in found) for name in names},
        () if numbers == tuple(range(len(numbers))) else numbers,
    )


def evaluation_digest(change: Change) -> str:
    """Names the evaluation data of a change: equal digests mean that metrics can be compared."""
    return digest_of(change.datasets)


def digest_of(datasets: Iterable[DatasetVersion]) -> str:
    """Names the evaluation data among dataset versions."""
    digest = hashlib.sha256()
    for version in sorted(datasets, key=lambda v: v.dataset):
        if version.role is DatasetRole.EVALUATION:
            digest.update(f"{version.dataset}={version.fingerprint}\n".encode())
    return digest.hexdigest()


def keys_of(run: Run, pipeline: Pipeline, attempts: Sequence[Attempt]) -> Keys:
    """What a run was measured with."""
    sound = [a for a in latest_tries(attempts) if a.state is AttemptState.SUCCEEDED]
    # A benchmark runs in the image of the training.
    images = sorted({attempt.image_digest for attempt in sound}) if pipeline.benchmark else []
    return Keys(
        evaluation=evaluation_digest(run.change),
        metric_code=metric_code(pipeline, images),
        hardware=_hardware(sound),
        recipe=recipe_of(run.change.revision.commit, run.change.datasets, pipeline),
    )


def metric_code(pipeline: Pipeline, benchmark_images: Sequence[str] = ()) -> str:
    """Names how metrics come about: the blocks that collect, declare and compute them, and the digests of the
    images in which a benchmark computes them.
    """
    blocks = (pipeline.collect, pipeline.readings, pipeline.metrics, pipeline.benchmark)
    return _digest(*blocks, benchmark_images)


def recipe_of(commit: str, datasets: Iterable[DatasetVersion], pipeline: Pipeline) -> str:
    """Names what is trained: equal recipes make runs that differ by chance alone."""
    data = sorted((v.dataset, v.role.value, v.fingerprint) for v in datasets)
    execution, image = pipeline.execution, pipeline.runner.image
    how = (execution.command, execution.setup, execution.env, image, pipeline.untrusted)
    return _digest(commit, data, how, metric_code(pipeline))


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(to_plain(parts), sort_keys=True).encode()).hexdigest()


def _hardware(attempts: Sequence[Attempt]) -> str:
    """The models that replicates computed on; empty where any is not known."""
    models = {attempt.hardware for attempt in attempts}
    return "" if "" in models else " + ".join(sorted(models))
