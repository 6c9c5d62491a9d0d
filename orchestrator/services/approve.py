"""Deciding: runs that wait for a person are let go or ended, by people who may."""

from __future__ import annotations

import logging

from orchestrator.domain.run import Run, RunState
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.evaluate import actions_for
from orchestrator.services.making import start_actions

log = logging.getLogger(__name__)


class Approver:
    """Carries out what people decide. Thread-safe; the caller has made sure that they may."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def approve(self, run: Run, who: str, reason: str = "") -> Run | None:
        """Let a run go; None when it does not wait any more."""
        actions = start_actions(self._store.runs.definition(run.id))
        approved = self._store.approvals.approve(run.id, who, reason, self._clock.now(), actions)
        if approved is not None:
            log.info("%s approved by %s: %s", run.title, who, run.change.revision.short)
        return approved

    def reject(self, run: Run, who: str, reason: str = "") -> Run | None:
        """End a run before anything was done for it; None when it does not wait any more."""
        actions = actions_for(
            self._store.runs.definition(run.id),
            run.purpose,
            RunState.CANCELLED,
            self._store.runs.previous_state(run),
        )
        rejected = self._store.approvals.reject(run.id, who, reason, self._clock.now(), actions)
        if rejected is not None:
            log.info("%s rejected by %s: %s", run.title, who, run.change.revision.short)
        return rejected
