"""What a gate asks, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.domain.baseline import Measured
from orchestrator.domain.check import Check, Margin


class OnInconclusive(StrEnum):
    """What an inconclusive gate becomes."""

    HOLD = "hold"
    FAIL = "fail"
    PASS = "pass"  # noqa: S105 - an outcome's name, not a password
    MANUAL = "manual"
    """A person decides."""


class Require(StrEnum):
    """How the checks make the gate's verdict."""

    ALL = "all"
    ANY = "any"
    """One claim that is shown is enough."""


class HoldoutMode(StrEnum):
    """How far verdicts on sealed evaluation data may be answered, and what each costs (ease.ml/ci)."""

    OFF = "off"
    """Uses are counted and shown."""
    NONE = "none"
    FIRST_CHANGE = "first_change"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Holdout:
    """The budget of a sealed test set. ``dataset`` is its name; ``delta`` the total error probability."""

    dataset: str
    mode: HoldoutMode = HoldoutMode.OFF
    max_uses: int = 100
    delta: float = 0.05
    on_exhausted: OnInconclusive = OnInconclusive.HOLD


@dataclass(frozen=True, slots=True)
class Drift:
    """A warning when the history of a metric has changed its level; it never judges the newest commit."""

    metrics: tuple[str, ...]
    max_pvalue: float = 0.001
    min_magnitude: Margin = field(default_factory=Margin)


@dataclass(frozen=True, slots=True)
class Gate:
    """What the checks must show together. ``alpha`` is the one-sided error rate of each claim."""

    checks: tuple[Check, ...] = ()
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    alpha: float = 0.05
    holm: bool = True
    """Whether guards, and claims of which any is enough, are corrected for their number."""
    require: Require = Require.ALL
    holdout: Holdout | None = None
    drift: Drift | None = None


class Outcome(StrEnum):
    """What a check, or the whole gate, came to."""

    PASS = "pass"  # noqa: S105 - an outcome's name, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check's outcome with its evidence.

    ``estimate`` is the candidate's mean, ``difference`` candidate minus baseline; None where there is none.
    ``sentence`` is the same wherever people read it. ``warnings`` are things a person should know beside it.
    """

    check: str
    metric: str
    outcome: Outcome
    sentence: str
    estimate: float | None = None
    baseline: float | None = None
    difference: float | None = None
    margin: float | None = None
    test: str = ""
    candidate_n: int = 0
    baseline_n: int = 0
    baseline_run: int | None = None
    baseline_title: str = ""
    better: bool | None = None
    warnings: tuple[str, ...] = ()
    lower: float | None = None
    """The one-sided bounds of ``difference`` at confidence 1 - ``alpha``, in the metric's unit."""
    upper: float | None = None
    alpha: float | None = None
    """The error rate that the check was decided at, after every correction."""
    noise_sd: float | None = None
    """The standard deviation of one run that the test went by, with its degrees of freedom."""
    noise_df: float | None = None
    ledger_sd: float | None = None
    """What the noise ledger alone says, from that many runs; None: none was used."""
    ledger_runs: int = 0
    correction: str = ""
    baseline_runs: tuple[int, ...] = ()
    """The runs whose values together are the baseline; ``baseline_run`` is the one that was chosen."""
    rows: int = 0
    """Rows of the evaluation data that were compared; 0: the test did not go by rows."""
    slice: str = ""
    settled: bool = True
    """Whether more replicates cannot change the outcome."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's outcome (never SKIPPED) with the evidence of each check.

    ``settled``: more replicates cannot change it. ``look`` counts the looks taken, from 1; 0 where the
    replicates were not trained in looks.
    """

    outcome: Outcome
    sentence: str
    checks: tuple[CheckResult, ...] = ()
    settled: bool = True
    look: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """What a comparison has on its other side: a measured run, or the reason why there is none.

    ``comparable`` is False when that run was measured on other evaluation data, and where there is one that
    could not be had. ``measured`` holds the values
    of all ``runs`` that measured the same commit on the same data.
    """

    measured: Measured | None
    why_none: str = ""
    comparable: bool = True
    runs: tuple[int, ...] = ()
    unconfirmed: bool = False
    """Whether it was chosen for its value, and no fresh run could say what it is worth; not comparable then.
    """
