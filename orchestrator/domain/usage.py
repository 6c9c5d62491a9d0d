"""What a run used: time, places and GPUs, in words."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.looks import seconds_of
from orchestrator.domain.report import format_duration, format_size
from orchestrator.domain.run import Attempt, Run


def resources_of(run: Run, attempts: Sequence[Attempt]) -> tuple[tuple[str, str], ...]:
    """What a run waited for and used, as names and texts; what is not known is left out.

    ``attempts`` are all of the run's, those that were tried again among them: their time was used, too.
    """
    rows = []
    if run.started_at is not None:
        waited = (run.started_at - run.created_at).total_seconds()
        if waited >= 1:
            rows.append(("Waited", format_duration(waited)))
    ended = [each for each in attempts if each.started_at is not None and each.finished_at is not None]
    if ended:
        total = format_duration(sum(seconds_of(each) for each in ended))
        rows.append(("Computed", total if len(ended) == 1 else f"{total} in {len(ended)} containers"))
    models = sorted({each.hardware for each in attempts if each.hardware})
    if models:
        rows.append(("Hardware", ", ".join(models)))
    gpu_seconds = sum(len(each.gpus) * seconds_of(each) for each in ended)
    if gpu_seconds:
        count = max(len(each.gpus) for each in attempts)
        rows.append(("GPUs", f"{count} for each container, {format_duration(gpu_seconds)} of GPU time"))
    used = [use for each in attempts for use in each.utilisation if use.samples]
    if used:
        mean = sum(use.mean * use.samples for use in used) / sum(use.samples for use in used)
        peak, memory = max(use.peak for use in used), max(use.memory_peak for use in used)
        rows.append(("GPU use", f"{mean:.0%}, at most {peak:.0%}; memory at most {format_size(memory)}"))
    return tuple(rows)
