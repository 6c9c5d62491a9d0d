"""Deciding: runs that wait for a person are let go or ended, and inconclusive ones decided, by who may."""

from __future__ import annotations

import logging
from dataclasses import replace

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.gate import OnInconclusive, Outcome
from orchestrator.domain.run import Purpose, Run, RunState
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

    def decide(self, run: Run, passes: bool, who: str, reason: str) -> Run | None:
        """Decide on a run whose gate could not; None when it is not inconclusive any more.

        A run that is decided to pass is then owed what any that passes is. Raises InvalidInput where no
        reason is given, or where the gate does not leave it to people.
        """
        reason = " ".join(reason.split())
        if not reason:
            raise InvalidInput("a decision needs a reason", "say why: it stays with the run")
        pipeline = self._store.runs.definition(run.id)
        if run.verdict is None or run.purpose is not Purpose.TRAIN:
            raise InvalidInput(f"{run.title} has no verdict that could be decided")
        if pipeline.gate.on_inconclusive is not OnInconclusive.MANUAL:
            raise InvalidInput(
                f"the gate of {run.title} does not leave it to people: on_inconclusive is "
                f"{pipeline.gate.on_inconclusive.value}",
                "write on_inconclusive: manual for runs to come",
            )
        outcome = Outcome.PASS if passes else Outcome.FAIL
        sentence = (
            f"{outcome.value} by decision of {who}: {reason}; the gate had said: {run.verdict.sentence}"
        )
        verdict = replace(run.verdict, outcome=outcome, sentence=sentence)
        state = RunState.PASSED if passes else RunState.REJECTED
        actions = actions_for(pipeline, run.purpose, state, self._store.runs.previous_state(run))
        decided = self._store.approvals.decide(run.id, verdict, who, reason, self._clock.now(), actions)
        if decided is not None:
            log.info("%s decided by %s: %s", run.title, who, outcome.value)
        return decided
