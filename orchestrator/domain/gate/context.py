"""What is known beside a candidate's values when it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.domain.baseline import Measured


@dataclass(frozen=True, slots=True)
class JudgingContext:
    """What the services gathered for one judgement; everything may be left out.

    ``ledger`` holds the replicated runs that tell how much metrics vary between runs of one commit, newest
    first: of the same evaluation data, metric code and hardware. The candidate and the baselines may be among
    them, each comparison leaves its own out; the ledger must stay the same from look to look.

    ``looks`` are the planned numbers of replicates, rising, and ``look`` counts those taken, this one
    included; 0: all replicates were trained at once. The candidate's values come in the order of its
    replicates, so that what an earlier look has settled is found again.
    """

    ledger: tuple[Measured, ...] = ()
    look: int = 0
    looks: tuple[int, ...] = ()
    pair_seeds: bool = False
    """Whether candidate and baseline had the same seeds, in the same order."""
    log_ratio: frozenset[str] = frozenset()
    """The metrics that are compared by the logarithm of their ratio."""
    holdout_uses: int = 0
    """How often this evaluation data was judged with before."""
    holdout_retired: str = ""
    """Why the evaluation data is not to be judged with any more; empty: it is."""
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Means of earlier commits by metric, oldest first, to warn of drift."""


NOTHING_KNOWN: Final = JudgingContext()
