"""What an ended container comes to."""

from __future__ import annotations

from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import CONSEQUENCES, Exit, Reason, StopCause, classify, warnings_of
from orchestrator.ports.records import AttemptResult
from orchestrator.services.collect import Collected

MAYBE_THE_HOSTS = frozenset({Reason.EXIT_CODE, Reason.MISSING_METRICS, Reason.INVALID_METRICS})
"""How commands end that could not write, or were told to end."""


def result_of(
    ended: Exit,
    stopped: StopCause | None,
    collected: Collected,
    pipeline: Pipeline,
    interrupted: bool = False,
) -> AttemptResult:
    """What an ended container comes to: its own failure first, then that of its metrics.

    ``interrupted``: its engine, or its host, was started anew meanwhile, and that ended it.
    """
    reason = classify(ended, stopped)
    message = describe(reason, ended, pipeline)
    if reason is Reason.COMPLETED and collected.problem is not None:
        reason, message = collected.problem
    if interrupted and reason in MAYBE_THE_HOSTS:
        reason = Reason.LOST
        message = f"its host, or the engine there, was started anew meanwhile (exit code {ended.code})"
    return AttemptResult(
        CONSEQUENCES[reason].state,
        reason,
        message,
        ended,
        tuple(collected.metrics),
        tuple(collected.artifacts),
        (*warnings_of(ended), *collected.warnings),
        tuple(collected.left_out),
        series=tuple(collected.series),
        params=tuple(collected.params),
        plots=tuple(collected.plots),
    )


def describe(reason: Reason, ended: Exit, pipeline: Pipeline) -> str:
    """One sentence on how a container ended; empty when it ended well."""
    match reason:
        case Reason.COMPLETED:
            return ""
        case Reason.OUT_OF_MEMORY:
            limit = pipeline.runner.resources.memory
            allowed = f" (limit {limit / (1 << 20):.0f} MiB)" if limit else ""
            return f"the command ran out of memory{allowed}, exit code {ended.code}"
        case Reason.TIMEOUT:
            return f"the command was stopped after {pipeline.execution.timeout:.0f} s, its timeout"
        case Reason.LOG_LIMIT:
            return f"the command wrote more than {pipeline.execution.log_limit} bytes of log and was stopped"
        case Reason.KILLED:
            return "the container was killed from outside (137, not out of memory, not by the orchestrator)"
        case Reason.START:
            return f"the command could not be started: {ended.error}"
        case Reason.CANCELLED_BY_PERSON:
            return "cancelled"
        case Reason.SUPERSEDED:
            return "superseded by a newer change"
        case _:
            return f"the command ended with exit code {ended.code}"
