"""Starting programs of the administrator's for a run."""

from __future__ import annotations

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import ExecAction
from orchestrator.domain.errors import ActionUnavailable
from orchestrator.domain.run import Run
from orchestrator.ports.messengers import Ended, Programs
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.acting.act import Acted
from orchestrator.services.acting.described import described, variables_of


class ProgramStarter:
    """Carries out exec actions: an Act. Exit code 0 is done; any other is tried again, by its rule."""

    def __init__(self, store: Store, programs: Programs, clock: Clock, url: str) -> None:
        self._store = store
        self._programs = programs
        self._clock = clock
        self._url = url

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted:
        """Start it once, and keep the end of what it wrote, also when it fails."""
        spec = action.spec
        if not isinstance(spec, ExecAction):
            raise TypeError(f"{action.key} starts no program")
        body = described(self._store, run, action, f"{self._url}/runs/{run.id}" if self._url else "")
        ended = self._programs.run(spec.program, body, variables_of(run, action), spec.rule.timeout)
        if ended.code != 0:
            self._store.actions.said(lease, ended.output, self._clock.now())
            raise ActionUnavailable(f"the program {spec.program} {_how(ended)}")
        return Acted(ActionState.DONE, f"{spec.program} was started, and ended well", ended.output)

    def give_up(self, lease: Lease, error: str) -> None:
        """Nothing was begun that has to be told as failed."""


def _how(ended: Ended) -> str:
    if ended.code is None:
        return "took too long and was killed"
    return f"ended with code {ended.code}" if ended.code > 0 else f"was ended by signal {-ended.code}"
