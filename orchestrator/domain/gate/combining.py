"""From the results of all checks to the gate's verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.check import Check, Claim, Comparison
from orchestrator.domain.gate.model import CheckResult, Gate, OnInconclusive, Outcome, Require


@dataclass(frozen=True, slots=True)
class Combined:
    """The gate's outcome, the sentence that explains it, and whether more replicates cannot change it."""

    outcome: Outcome
    sentence: str
    settled: bool = True


def combine(gate: Gate, results: Sequence[tuple[Check, CheckResult]]) -> Combined:
    """What the checks mean together. A check with slices has a result for each."""
    every = [result for _, result in results]
    guards = [result for check, result in results if _is_guard(check)]
    claims = [result for check, result in results if not _is_guard(check)]
    if not every:
        return Combined(Outcome.PASS, "the pipeline has no checks: every run that completes passes")
    if gate.require is Require.ANY and any(r.outcome is not Outcome.SKIPPED for r in claims):
        return _any(gate, guards, claims)
    return _all(gate, every)


def _is_guard(check: Check) -> bool:
    return isinstance(check, Comparison) and check.claim is Claim.NO_REGRESSION


def _all(gate: Gate, results: Sequence[CheckResult]) -> Combined:
    settled = all(result.settled for result in results)
    failed = [r for r in results if r.outcome is Outcome.FAIL]
    if failed:
        first = next((r for r in failed if r.settled), failed[0])
        return Combined(Outcome.FAIL, first.sentence, first.settled or settled)
    unsure = [r for r in results if r.outcome is Outcome.INCONCLUSIVE]
    if unsure:
        return _undecided(gate, unsure[0].sentence, settled)
    judged = [r for r in results if r.outcome is Outcome.PASS]
    if not judged:
        return Combined(Outcome.PASS, "no check could be applied yet: " + results[0].sentence, settled)
    return Combined(Outcome.PASS, judged[-1].sentence, settled)


def _any(gate: Gate, guards: Sequence[CheckResult], claims: Sequence[CheckResult]) -> Combined:
    """No guard fails, and one claim holds."""
    guarded = _all(gate, guards) if guards else Combined(Outcome.PASS, "")
    if guarded.outcome is not Outcome.PASS:
        return guarded
    shown = [r for r in claims if r.outcome is Outcome.PASS]
    if shown:
        first = next((r for r in shown if r.settled), shown[0])
        return Combined(Outcome.PASS, first.sentence, first.settled and guarded.settled)
    settled = guarded.settled and all(r.settled for r in claims)
    unsure = [r for r in claims if r.outcome is Outcome.INCONCLUSIVE]
    if unsure:
        return _undecided(gate, unsure[0].sentence, settled)
    failed = [r for r in claims if r.outcome is Outcome.FAIL]
    settled = all(r.settled for r in claims)
    others = f" (nor does any other of {len(failed)} claims hold)" if len(failed) > 1 else ""
    return Combined(Outcome.FAIL, failed[0].sentence + others, settled)


def _undecided(gate: Gate, sentence: str, settled: bool) -> Combined:
    match gate.on_inconclusive:
        case OnInconclusive.FAIL:
            return Combined(Outcome.FAIL, f"{sentence} (inconclusive counts as fail here)", settled)
        case OnInconclusive.PASS:
            return Combined(Outcome.PASS, f"{sentence} (inconclusive counts as pass here)", settled)
        case OnInconclusive.MANUAL:
            return Combined(Outcome.INCONCLUSIVE, f"{sentence} (a person decides)", settled)
        case OnInconclusive.HOLD:
            return Combined(Outcome.INCONCLUSIVE, sentence, settled)
