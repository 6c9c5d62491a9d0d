"""What runs measured, and on which evaluation data: the values that judging compares."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.domain.baseline import Measured
from orchestrator.domain.change import Change, DatasetRole, DatasetVersion
from orchestrator.domain.metrics import Metric
from orchestrator.domain.run import Run


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
    found: list[dict[str, float]] = []
    for replicate in sorted(metrics):
        values: dict[str, float] = {}
        for metric in metrics[replicate]:
            values.setdefault(metric.name, metric.value)
        found.append(values)
    names = dict.fromkeys(name for values in found for name in values)
    return Measured(
        run_id,
        title,
        commit,
        branch,
        {name: tuple(values.get(name, math.nan) for values in found) for name in names},
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
