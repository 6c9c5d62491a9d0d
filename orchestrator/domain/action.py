"""Actions, which follow a run's outcome: what they hang on, their states, and which ones are due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from orchestrator.domain.action_spec import ActionSpec, EmailAction, GithubAction, RollbackAction


class Trigger(StrEnum):
    """What an action hangs on: a run's outcome, or how it differs from the branch's last outcome."""

    START = "start"
    PROGRESS = "progress"
    """Now and then while a run is under way."""
    PASS = "pass"  # noqa: S105 - an outcome's name, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    ERROR = "error"
    CANCELLED = "cancelled"
    FIXED = "fixed"
    BROKEN = "broken"
    MANUAL = "manual"
    """A person asked for it; no configuration names it."""


class ActionState(StrEnum):
    """Where an Action stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A rule forbids it; the message says which."""
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return not ACTION_TRANSITIONS[self]


ACTION_TRANSITIONS: Mapping[ActionState, frozenset[ActionState]] = {
    ActionState.PENDING: frozenset({ActionState.RUNNING, ActionState.SKIPPED, ActionState.CANCELLED}),
    # Back to PENDING: the try did not succeed, another one is due later.
    ActionState.RUNNING: frozenset(
        {
            ActionState.PENDING,
            ActionState.DONE,
            ActionState.FAILED,
            ActionState.SKIPPED,
            ActionState.CANCELLED,
        }
    ),
    ActionState.DONE: frozenset(),
    ActionState.FAILED: frozenset(),
    ActionState.SKIPPED: frozenset(),
    ActionState.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Action:
    """One act owed by a Run. ``key`` is stable over all tries: Message-ID and release name derive from it."""

    id: int
    run_id: int
    key: str
    trigger: Trigger
    position: int
    spec: ActionSpec
    state: ActionState
    tries: int = 0
    not_before: datetime | None = None
    message: str = ""
    waits: str = ""
    """Why it waits although its time has come: an approval, a window of time, a server that is busy."""
    output: str = ""
    """What commands and servers said on its behalf: the end of it, secrets masked."""
    who: str = ""
    """The person who asked for it; empty when the configuration did."""
    created_at: datetime | None = None
    finished_at: datetime | None = None


def action_key(run_id: int, trigger: Trigger, position: int) -> str:
    """The stable key of the action at that place of a run's list for a trigger."""
    return f"run-{run_id}-{trigger.value}-{position}"


_BESIDE = frozenset({Trigger.START, Trigger.PROGRESS, Trigger.MANUAL})
"""Triggers whose actions hold up, and wait for, nothing but those of the same trigger."""
_REPORTS = (EmailAction, GithubAction)
"""Actions that tell what became of the others."""
REPORT_WAITS = timedelta(minutes=15)
"""How long a report waits for an action that waits itself, say for an approval."""


def is_due(action: Action, siblings: Sequence[Action], now: datetime | None = None) -> bool:
    """Whether an action may be carried out now, its time apart.

    Actions of one run happen in the order written, except that a report waits for all actions of its run that
    are not reports, because it tells what became of them; for one that waits for a person or for a window of
    time, it does not wait long. What belongs to the run's start or progress, or was asked for by a person,
    goes beside what its outcome owes.
    """
    if action.state is not ActionState.PENDING:
        return False
    if isinstance(action.spec, RollbackAction):
        # Something is wrong where it is to happen: it waits for nothing.
        return True
    others = [a for a in siblings if a.id != action.id and a.run_id == action.run_id and not a.state.final]
    if any(needed in others for needed in needed_by(action, siblings)):
        return False
    report = isinstance(action.spec, _REPORTS)
    if report and action.trigger in (Trigger.START, Trigger.PROGRESS):
        return True
    others = [a for a in others if not isinstance(a.spec, _REPORTS) and lane(a) == lane(action)]
    if report:
        return not [a for a in others if not _waits_long(a, now)]
    return all(a.id > action.id for a in others)


def lane(action: Action) -> str:
    """What goes one after the other: actions of one run in the same lane."""
    return action.trigger.value if action.trigger in _BESIDE else ""


def _waits_long(action: Action, now: datetime | None) -> bool:
    if not action.waits or now is None or action.created_at is None:
        return False
    return now - action.created_at >= REPORT_WAITS


def needed_by(action: Action, siblings: Sequence[Action]) -> list[Action]:
    """The actions that its rule names: of its list and its run, before it."""
    found: dict[str, Action] = {}
    for other in siblings:
        name = other.spec.rule.name
        same = other.run_id == action.run_id and other.trigger is action.trigger and other.id < action.id
        if same and name in action.spec.rule.needs:
            # Of what happens again and again, the last time counts.
            found[name] = max(other, found.get(name, other), key=lambda a: a.id)
    return list(found.values())


def why_not_needed(action: Action, siblings: Sequence[Action]) -> str:
    """Why an action whose turn it is may not be carried out after what it needs; empty when it may."""
    for needed in needed_by(action, siblings):
        if needed.state is not ActionState.DONE:
            return f"it needs {needed.spec.rule.name}, which was {needed.state.value}"
    return ""


MAX_ACTION_TRIES: Mapping[str, int] = {
    "deploy": 6,
    "rollback": 6,
    "email": 40,
    "git": 8,
    "upload": 8,
    "container": 6,
    "webhook": 12,
    "github": 12,
    "command": 3,
    "exec": 3,
}
"""How often an action is tried before it is given up, by kind, where its rule does not say: minutes for a
deployment, hours for a mail."""


def most_tries(spec: ActionSpec) -> int:
    """How often it is tried before it is given up."""
    return spec.rule.tries or MAX_ACTION_TRIES[spec.kind]
