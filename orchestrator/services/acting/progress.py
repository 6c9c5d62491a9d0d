"""What a run owes while it is under way: reports and calls now and then."""

from __future__ import annotations

from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import ActionSpec
from orchestrator.domain.run import Run
from orchestrator.ports.records import NewAction
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock


class ProgressTeller:
    """Adds the actions that are owed by the time that runs have taken. One thread."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._wanted: dict[int, tuple[ActionSpec, ...]] = {}

    def tick(self) -> int:
        """Look at all runs that have begun and not ended; how many actions that added."""
        unfinished = {run.id: run for run in self._store.runs.unfinished() if run.started_at is not None}
        self._wanted = {run_id: specs for run_id, specs in self._wanted.items() if run_id in unfinished}
        return sum(self._owe(run) for run in unfinished.values())

    def _owe(self, run: Run) -> int:
        if run.id not in self._wanted:
            actions = self._store.runs.definition(run.id).actions
            self._wanted[run.id] = tuple(spec for trigger, spec in actions if trigger is Trigger.PROGRESS)
        wanted = self._wanted[run.id]
        if not wanted or run.started_at is None:
            return 0
        now, added = self._clock.now(), 0
        taken = (now - run.started_at).total_seconds()
        for index, spec in enumerate(wanted):
            times = int(taken // spec.rule.every)
            if times < 1:
                continue
            # Of times that passed while no server was up, only the last one is told of. Its place is the same
            # for every server that looks.
            new = NewAction(Trigger.PROGRESS, (times - 1) * len(wanted) + index, spec)
            added += self._store.actions.owe_progress(run.id, new, now)
        return added
