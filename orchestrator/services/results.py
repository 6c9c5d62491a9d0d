"""What an ended container comes to."""

from __future__ import annotations

from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import CONSEQUENCES, Exit, Reason, StopCause, classify, warnings_of
from orchestrator.ports.records import AttemptResult
from orchestrator.services.collect import Collected


def result_of(
    ended: Exit, stopped: StopCause | None, collected: Collected, pipeline: Pipeline, restarted: bool = False
) -> AttemptResult:
    """What an ended container comes to: its own failure first, then that of its metrics.

    ``restarted``: its host was started again after it had begun.
    """
    reason = classify(ended, stopped, restarted)
    message = describe(reason, ended, pipeline)
    if reason is Reason.COMPLETED and collected.problem is not None:
        reason, message = collected.problem
    return AttemptResult(
        CONSEQUENCES[reason].state,
        reason,
        message,
        ended,
        tuple(collected.metrics),
        tuple(collected.artifacts),
        (*warnings_of(ended), *collected.warnings),
        tuple(collected.left_out),
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
        case Reason.LOST:
            return f"its host was started anew while the command ran (exit code {ended.code})"
        case Reason.START:
            return f"the command could not be started: {ended.error}"
        case Reason.CANCELLED_BY_PERSON:
            return "cancelled"
        case Reason.SUPERSEDED:
            return "superseded by a newer change"
        case _:
            return f"the command ended with exit code {ended.code}"
