"""Gates: one claim per check, three verdicts, and the evidence in one plain sentence."""

from orchestrator.domain.gate.context import JudgingContext
from orchestrator.domain.gate.judging import drifts, judge
from orchestrator.domain.gate.model import (
    CheckResult,
    Drift,
    Gate,
    Holdout,
    HoldoutMode,
    OnInconclusive,
    Outcome,
    Reference,
    Require,
    Verdict,
)

__all__ = [
    "CheckResult",
    "Drift",
    "Gate",
    "Holdout",
    "HoldoutMode",
    "JudgingContext",
    "OnInconclusive",
    "Outcome",
    "Reference",
    "Require",
    "Verdict",
    "drifts",
    "judge",
]
