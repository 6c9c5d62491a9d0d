"""What every kind of action has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.run import Run
from orchestrator.ports.records import Lease


@dataclass(frozen=True, slots=True)
class Acted:
    """How a try ended: a final state, what to say of it, and the end of what was said meanwhile."""

    state: ActionState
    message: str
    output: str = ""


@dataclass(frozen=True, slots=True)
class Waits:
    """Something else has to happen first: why, and seconds until it is worth another look. No try."""

    why: str
    seconds: float


class Act(Protocol):
    """Carries out actions of one kind, in several threads at once."""

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted | Waits:
        """One try, under the action's lease, which is kept alive meanwhile.

        It may have been begun by an earlier try that was cut off anywhere: ``action.key`` is the same then.
        Raises ActionUnavailable, ServerUnavailable or DatasetUnavailable when another try may help, any
        other OrchestratorError when none would.
        """

    def give_up(self, lease: Lease, error: str) -> None:
        """The last try was in vain; what was begun has to be told as failed."""
