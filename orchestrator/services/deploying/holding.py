"""What has to be before a deployment begins: another environment, a person's word, a window of time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from orchestrator.domain.action import Action, Trigger, lane
from orchestrator.domain.action_spec import DeployAction, RollbackAction
from orchestrator.domain.deployment import DeploymentState, is_superseded
from orchestrator.domain.environment import Environment, alone, holder
from orchestrator.domain.errors import NotFound
from orchestrator.domain.run import Run
from orchestrator.ports.hooks import Ruling
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.acting.act import Waits

UNTOUCHED: Final = frozenset({DeploymentState.QUEUED, DeploymentState.AWAITING_APPROVAL})
"""Nothing was done on the server."""
_SIBLING: Final = 300.0
_LONGEST: Final = 6 * 3600.0
"""Seconds until it is looked again at what changes by itself, or wakes who waits for it."""

Held: TypeAlias = Waits | tuple[DeploymentState, str] | None
"""It waits; or every row goes into that state, and why; or it may begin."""


def environment_of(
    environments: Mapping[str, Environment], spec: DeployAction | RollbackAction
) -> Environment:
    """Where an action takes effect. NotFound when the configuration has it no longer."""
    if not spec.environment:
        return alone(spec.server)
    found = environments.get(spec.environment)
    if found is None:
        known = ", ".join(sorted(environments)) or "none"
        raise NotFound(f"there is no environment {spec.environment}", f"orchestrator.yaml has these: {known}")
    return found


class Holding:
    """Looks whether a deployment may begin. Thread-safe."""

    def __init__(self, store: Store, clock: Clock, environments: Mapping[str, Environment]) -> None:
        self._store = store
        self._clock = clock
        self._environments = environments

    def held(self, run: Run, action: Action, environment: Environment) -> Held:
        """Why it does not begin now; None when it does.

        A person who asks for an older change than the live one gets it: that is what they ask for.
        """
        if not environment.name and (owner := holder(self._environments, environment.title)) is not None:
            # It was owed before the server came into the environment.
            return DeploymentState.CANCELLED, f"{environment.title} is a server of {owner.name} now"
        if action.trigger is not Trigger.MANUAL and (newer := self._newer(run, environment)):
            return DeploymentState.SUPERSEDED, newer
        if environment.after and (held := self._after(run, action, environment)) is not None:
            return held
        if environment.approval and (held := self._approval(action, environment)) is not None:
            return held
        now = self._clock.now()
        if (opens := environment.opens(now)) is not None:
            why = f"{environment.title} may be deployed to from {opens:%Y-%m-%d %H:%M} UTC on"
            return Waits(why, min((opens - now).total_seconds(), _LONGEST))
        return None

    def _newer(self, run: Run, environment: Environment) -> str:
        for server in environment.servers:
            live = self._store.deployments.live(run.pipeline, server)
            if live is not None and is_superseded(run.change.rank, live):
                return f"release {live.release}, of a newer change, is live on {server}"
        return ""

    def _after(self, run: Run, action: Action, environment: Environment) -> Held:
        first = self._environments.get(environment.after)
        if first is None:
            return DeploymentState.CANCELLED, f"there is no environment {environment.after}"
        live = [self._store.deployments.live(run.pipeline, server) for server in first.servers]
        if all(row is not None and row.run_id == run.id for row in live):
            return None
        coming = [
            other
            for other in self._store.actions.of_run(run.id)
            if isinstance(other.spec, DeployAction)
            and other.spec.environment == first.name
            and not other.state.final
        ]
        if coming and all(lane(other) == lane(action) and other.id > action.id for other in coming):
            # Those wait until this one has ended.
            return (
                DeploymentState.CANCELLED,
                f"its turn is before that of {first.name}, where it has to be live first",
            )
        if coming:
            return Waits(f"it has to be live in {first.name} first", _SIBLING)
        return (
            DeploymentState.CANCELLED,
            f"it is not live in {first.name}, where it has to be before {environment.name}",
        )

    def _approval(self, action: Action, environment: Environment) -> Held:
        decision = self._store.deployments.decision(action.id)
        if decision is None:
            who = " or ".join(environment.approvers)
            return DeploymentState.AWAITING_APPROVAL, f"waits for approval{f' by {who}' if who else ''}"
        if decision.ruling is Ruling.REJECTED:
            why = f"rejected by {decision.who}" + (f": {decision.reason}" if decision.reason else "")
            return DeploymentState.REJECTED, why
        return None
