"""The figures behind a check's sentence, for people who want to see them."""

from __future__ import annotations

from orchestrator.domain.evidence import runs
from orchestrator.domain.gate.model import CheckResult
from orchestrator.domain.metrics import format_difference, format_value

HEADINGS = ("check", "difference", "interval", "test", "n", "noise", "alpha", "correction")


def interval_of(check: CheckResult) -> str:
    """The one-sided bounds of the difference: ``[-0.0061, +0.0012]``; empty where there are none."""
    if check.lower is None or check.upper is None:
        return ""
    return f"[{format_difference(check.lower)}, {format_difference(check.upper)}]"


def noise_of(check: CheckResult) -> str:
    """The noise of one run that the test went by, and what the ledger alone says."""
    if check.noise_sd is None or check.rows:
        return f"{check.rows} rows" if check.rows else ""
    known = [f"df {check.noise_df:.0f}"] if check.noise_df is not None else []
    if check.ledger_sd is not None:
        known.append(f"ledger {check.ledger_sd:.2g} of {runs(check.ledger_runs)}")
    return f"{check.noise_sd:.2g} per run" + (f" ({', '.join(known)})" if known else "")


def is_tested(check: CheckResult) -> bool:
    """Whether more than plain values decided, so that there are figures to show."""
    return check.alpha is not None


def row_of(check: CheckResult) -> tuple[str, ...]:
    """A row below HEADINGS."""
    counts = [str(check.candidate_n), *([str(check.baseline_n)] if check.baseline_n else [])]
    return (
        f"{check.check} on {check.slice}" if check.slice else check.check,
        "" if check.difference is None else format_difference(check.difference),
        interval_of(check),
        check.test,
        " and ".join(counts),
        noise_of(check),
        "" if check.alpha is None else format_value(check.alpha),
        check.correction,
    )


def details_of(check: CheckResult) -> str:
    """The same in one line; empty where plain values decided."""
    if not is_tested(check):
        return ""
    _, difference, interval, test, counts, noise, alpha, correction = row_of(check)
    baseline = f"baseline: run {', '.join(map(str, check.baseline_runs))}" if check.baseline_runs else ""
    parts = [
        f"difference {difference} {interval}".strip(),
        test,
        f"n {counts}",
        f"noise {noise}" if noise else "",
        f"alpha {alpha}",
        correction,
        baseline,
    ]
    return "; ".join(part for part in parts if part)
