"""What the database keeps of webhooks, of people's decisions, and of the marks that runs owe to commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from orchestrator.domain.gate import Verdict
from orchestrator.domain.run import Run
from orchestrator.ports.records import NewAction, OwedStatus


class Ruling(StrEnum):
    """What a person said of a run that waited, or whose gate could not decide."""

    APPROVED = "approved"
    REJECTED = "rejected"
    DECIDED_PASS = "decided pass"  # noqa: S105 - a ruling's name, not a password
    """Of an inconclusive run: it counts as passed."""
    DECIDED_FAIL = "decided fail"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said of a run, when and why."""

    run_id: int
    ruling: Ruling
    who: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CommentSeen:
    """A comment that may ask for something; what it says is read from the forge, at ``due``."""

    id: int
    repository: str
    due: datetime


class Deliveries(Protocol):
    """Webhooks that were taken, so that the same one again is a replay."""

    def take(
        self,
        ids: Sequence[str],
        event: str,
        repository: str,
        at: datetime,
        comment: int | None = None,
    ) -> bool:
        """Write a delivery down under each of its ids, with the comment that it tells of; False, and nothing
        written, when one of the ids is there already. A comment that was told of before stays as it is.
        """

    def comments(self, at: datetime) -> Sequence[CommentSeen]:
        """The comments that nobody has dealt with and whose time has come, oldest first."""

    def claim(self, seen: CommentSeen, until: datetime) -> CommentSeen | None:
        """The right to deal with a comment; it is due again at that time, unless it was dealt with.

        None when somebody was faster.
        """

    def dealt_with(self, comment: int) -> None:
        """A comment has had its answer, or deserves none."""

    def forget(self, before: datetime) -> int:
        """Remove what was taken before that time; how many rows that were."""


class Statuses(Protocol):
    """The marks that runs owe to their commits. A run owes one as soon as it is enqueued."""

    def any_owed(self) -> bool:
        """Whether the forge was not told yet where some run stands."""

    def due(self, at: datetime) -> Sequence[OwedStatus]:
        """Marks that are not what the forge was told last, whose time has come, oldest run first."""

    def claim(self, owed: OwedStatus, at: datetime, until: datetime) -> OwedStatus | None:
        """The right to tell the forge, until that time; counts a try. None when somebody was faster."""

    def told(self, claimed: OwedStatus, sent: str, external_id: str) -> None:
        """The forge knows; ``sent`` is the run's state as it was told. Nothing when the claim ran out."""

    def postpone(self, claimed: OwedStatus, not_before: datetime, error: str) -> None:
        """It could not be told now. Nothing when the claim ran out."""

    def give_up(self, claimed: OwedStatus, state: str, error: str) -> None:
        """This state of the run will never be told; the next one is tried again."""

    def of_run(self, run_id: int) -> Sequence[OwedStatus]:
        """The marks of a run."""

    def newest(self, run: Run) -> bool:
        """Whether no later run of its pipeline owes a mark to the same commit."""


class Approvals(Protocol):
    """Runs that wait for a person, and what was said of them."""

    def approve(
        self, run_id: int, who: str, reason: str, at: datetime, actions: Sequence[NewAction] = ()
    ) -> Run | None:
        """AWAITING_APPROVAL to QUEUED, with its attempts, its start actions and the decision, all at once.

        None when it does not wait any more, and NotFound when there is no such run.
        """

    def reject(
        self, run_id: int, who: str, reason: str, at: datetime, actions: Sequence[NewAction] = ()
    ) -> Run | None:
        """AWAITING_APPROVAL to CANCELLED with the decision and the actions then owed. Else as approve."""

    def decide(
        self,
        run_id: int,
        verdict: Verdict,
        who: str,
        reason: str,
        at: datetime,
        actions: Sequence[NewAction] = (),
    ) -> Run | None:
        """INCONCLUSIVE to what the new ``verdict`` says, with the decision and the actions then owed.

        All at once; the forge is owed the new state. None when the run is not inconclusive any more, and
        NotFound when there is no such run.
        """

    def decisions(self, run_id: int) -> Sequence[Decision]:
        """What was said of a run, oldest first."""
