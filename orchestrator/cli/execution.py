"""One run in this process, when no server is there to execute it."""

from __future__ import annotations

import threading

from orchestrator.bootstrap import Application
from orchestrator.domain.errors import LeaseLost
from orchestrator.domain.run import Attempt, Run
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.scheduler import Loop
from orchestrator.services.clean import sweep
from orchestrator.services.networks import dismiss
from orchestrator.services.recover import forget_checkpoints

_DRAIN = 20.0
_PERIOD = 0.5


class LocalExecution:
    """Executes, judges and acts on one run, and on the runs that measure a baseline for it.

    It holds leases as a server does, so a server that starts meanwhile does nothing twice.
    """

    def __init__(self, app: Application, run: Run, progress: ProgressSink) -> None:
        self._app = app
        self._store = app.store
        self._run_id = run.id
        self._wants = app.belongs_to(run)
        self._evaluator = app.evaluator
        self._stopping = threading.Event()
        self._execute = Loop("execute", self._execute_tick, _PERIOD)
        self._act = Loop("act", self._act_tick, _PERIOD)

        def progress_for(attempt: Attempt) -> ProgressSink:
            return progress if attempt.run_id == run.id else _unseen

        self._dispatcher = app.dispatcher(self._execute.wake, self._wants, progress_for)
        self._actor = app.actor(self._stopping, self._wants, progress)

    def start(self) -> None:
        """Begin, in threads of its own."""
        self._execute.start()
        self._act.start()

    def stop(self) -> bool:
        """Let go: containers go on. False when something could not be let go in time.

        What a run that has ended left on its hosts for new tries is removed.
        """
        self._stopping.set()
        self._execute.stop(_DRAIN)
        drained = self._dispatcher.drain(_DRAIN)
        self._act.stop(_DRAIN)
        clear_after(self._app, self._store.runs.get(self._run_id))
        return drained and not self._act.alive

    def _execute_tick(self) -> None:
        self._dispatcher.tick()
        for run in self._store.runs.unfinished():
            if not self._wants(run.id):
                continue
            try:
                if self._evaluator.advance(run).state.final:
                    self._act.wake()
                    self._execute.wake()
            except LeaseLost:
                continue

    def _act_tick(self) -> None:
        while self._actor.tick():
            pass


def clear_after(app: Application, run: Run) -> None:
    """Sweep the hosts that a run was on, and its copies here, once it has ended, where no server does."""
    if run.state.final and not app.live_servers():
        forget_checkpoints(app.store, app.checkpoints)
        used = {attempt.host for attempt in app.store.attempts.of_run(run.id)}
        engines = {name: engine for name, engine in app.engines.items() if name in used}
        sweep(app.store, engines)
        dismiss(app.store, engines)


def _unseen(_: ProgressEvent) -> None:
    return None
