"""What comparisons need of the database. As all of it: see ``ports/store.py``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestrator.domain.baseline import Rebase
from orchestrator.domain.change import Cause, DatasetVersion
from orchestrator.domain.gate import CheckResult
from orchestrator.domain.metrics import Metric
from orchestrator.domain.run import Purpose


@dataclass(frozen=True, slots=True)
class Keys:
    """What a run was measured with. Runs that differ in ``recipe`` alone vary alike between their replicates.

    ``evaluation`` names the evaluation data, ``metric_code`` how metrics are computed and collected,
    ``hardware`` the model of CPU or GPU (empty: not known), ``recipe`` what was trained, on which data, how.
    """

    evaluation: str
    metric_code: str
    hardware: str
    recipe: str


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that passed, as far as the choice of a baseline asks. ``metrics`` by replicate.

    ``rank`` is the order in which changes were seen. ``recipe`` is empty for a run of an older release.
    ``seeds`` is the run whose id its seeds derive from, 0 where all changes have the same; None: its own.
    """

    id: int
    title: str
    purpose: Purpose
    cause: Cause
    branch: str
    commit: str
    datasets: tuple[DatasetVersion, ...]
    rerun_of: int | None
    metrics: Mapping[int, Sequence[Metric]]
    rank: int = 0
    recipe: str = ""
    seeds: int | None = None


@dataclass(frozen=True, slots=True)
class ComparedWith:
    """The other side of one check, as it was when its run was first judged.

    ``chosen`` is the run that stands for the baseline, None with the reason why there is none; ``runs`` are
    those whose values it has.
    """

    check: str
    chosen: int | None
    why_none: str = ""
    comparable: bool = True
    runs: tuple[int, ...] = ()
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a run is judged against: the same at each of its looks, whatever runs end meanwhile.

    ``ledger`` are the replicated runs that tell the noise, newest first. ``looked`` are the results of its
    last look that asked for more replicates.
    """

    checks: tuple[ComparedWith, ...] = ()
    ledger: tuple[int, ...] = ()
    looked: tuple[CheckResult, ...] = ()


@dataclass(frozen=True, slots=True)
class NewUse:
    """That a run was judged with a version of evaluation data.

    ``before`` is how many other runs were, as far as the verdict knows; None: it does not matter to it.
    ``outcome`` is the verdict's; empty: there was a look, and no verdict yet.
    """

    fingerprint: str
    outcome: str
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Uses:
    """How many runs were judged with a version of evaluation data, whichever pipeline's and whether they are
    still there. ``not_passed`` is the first that did not pass, or empty.
    """

    count: int
    not_passed: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What had happened to a pipeline's runs by some moment, as far as the choice of a baseline asks.

    ``passed`` and ``deployed`` are ids of runs, ``since`` that with which baselines began, 0: the first.
    """

    passed: frozenset[int] = frozenset()
    deployed: frozenset[int] = frozenset()
    since: int = 0


class Baselines(Protocol):
    """What runs were measured with and compared with, and where baselines begin anew."""

    def history(self, pipeline: str, metrics: Collection[str]) -> Sequence[PastRun]:
        """The PASSED runs of a pipeline, oldest first, with these metrics of the latest tries.

        Of a replicate that failed, while others of its run succeeded, there are none.
        """

    def note(self, run_id: int, keys: Keys) -> None:
        """Write down what a run was measured with. Repeating it replaces that."""

    def keys(self, run_id: int) -> Keys | None:
        """What was written down of a run; None: nothing."""

    def known(self, pipeline: str, at: datetime) -> Known:
        """What was known of a pipeline's runs then. A rebase that was undone since never was."""

    def replicated(
        self, run_id: int, limit: int, compared: Collection[int] = (), until: datetime | None = None
    ) -> Sequence[int]:
        """The last runs, newest first, that have more than one replicate and were judged, or measured for
        comparison, with the same keys as a run, its recipe apart; none while its keys or hardware are not
        known. That run itself, and those that reproduce another one, are not among them, nor are those that
        had not ended by ``until``.

        Of runs that trained the same with the same seeds one is: that of the ``compared``, else the newest;
        none where it is this run, or several of those.
        """

    def tries(self, run_id: int) -> tuple[int, int]:
        """How many other runs that trained the same as a run were judged, and how many did not pass."""

    def freeze(self, run_id: int, frozen: Frozen) -> None:
        """Write down what a run, whose keys are known, is compared with."""

    def frozen(self, run_id: int) -> Frozen | None:
        """What was written down of a run; None: nothing."""

    def uses(self, fingerprint: str, run_id: int | None = None) -> Uses:
        """What was judged with evaluation data: all, or before a run was. ``Runs.move`` counts them."""

    def rebase(self, pipeline: str, run_id: int, who: str, reason: str, at: datetime) -> None:
        """Let a pipeline's baselines begin anew with a run of it. NotFound when it has no such run."""

    def undo_rebase(self, pipeline: str, who: str, reason: str, at: datetime) -> Rebase:
        """Take the last one back, so that the one before counts again. NotFound when there is none."""

    def rebased(self, pipeline: str) -> Rebase | None:
        """With which run a pipeline's baselines begin; None: with its first."""
