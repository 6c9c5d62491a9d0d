"""What is known beside a candidate's values when it is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from orchestrator.domain.baseline import Measured
from orchestrator.domain.check import Comparison
from orchestrator.domain.gate.model import CheckResult


class RowScore(StrEnum):
    """What is computed of the rows of a predictions file."""

    MEAN = "mean"
    """The mean of a score for each row: 1 or 0 for a right or wrong prediction, a loss, ..."""
    F1 = "f1"
    AUC = "auc"


@dataclass(frozen=True, slots=True)
class Rows:
    """Predictions of both sides on the same rows of the evaluation data, in the same order.

    ``candidate`` and ``baseline`` hold one sequence for each run: of the row's score, or of its prediction
    where ``score`` is not MEAN; ``labels`` are then the true ones. ``slices`` are the places of the rows of
    each slice, by its name.
    """

    candidate: tuple[Sequence[float], ...]
    baseline: tuple[Sequence[float], ...]
    score: RowScore = RowScore.MEAN
    labels: Sequence[float] = ()
    slices: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JudgingContext:
    """What the services gathered for one judgement; everything may be left out.

    ``ledger`` holds the replicated runs that tell how much metrics vary between runs of one commit, newest
    first: of the same evaluation data, metric code and hardware. The candidate and the baselines may be among
    them, each comparison leaves its own out; the ledger must stay the same from look to look.

    ``looks`` are the planned numbers of replicates, rising, and ``look`` counts those taken, this one
    included; 0: all replicates were trained at once. ``looked`` are the results of the look before: what it
    settled stays as it is, whatever more replicates say. The candidate's values come in the order of its
    replicates, so that what earlier looks settled is found where it is not given.
    """

    ledger: tuple[Measured, ...] = ()
    look: int = 0
    looks: tuple[int, ...] = ()
    looked: tuple[CheckResult, ...] = ()
    pair_seeds: bool = False
    """Whether candidate and baseline had the same seeds, in the same order."""
    log_ratio: frozenset[str] = frozenset()
    """The metrics that are compared by the logarithm of their ratio."""
    holdout_uses: int = 0
    """How often this evaluation data was judged with before."""
    holdout_retired: str = ""
    """Why the evaluation data is not to be judged with any more; empty: it is."""
    rows: Mapping[Comparison, Rows | str] = field(default_factory=dict)
    """The predictions for each check that goes by rows, or why they cannot be compared."""
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Means of earlier commits by metric, oldest first, to warn of drift."""


NOTHING_KNOWN: Final = JudgingContext()
