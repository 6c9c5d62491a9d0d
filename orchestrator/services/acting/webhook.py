"""Calling hooks: another service is told of a run."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import WebhookAction
from orchestrator.domain.run import Run
from orchestrator.ports.chat import Chats
from orchestrator.ports.messengers import Hooks
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.services.acting.act import Acted
from orchestrator.services.acting.described import described
from orchestrator.services.report import ReportBuilder


class WebhookCaller:
    """Carries out webhook actions: an Act. Repeated calls have one key: the database and the action.

    ``formats`` are those of the hooks that take a report as a message; the others are told of the run.
    """

    def __init__(
        self,
        store: Store,
        hooks: Hooks,
        url: str,
        reports: ReportBuilder,
        chats: Chats,
        formats: Mapping[str, str],
    ) -> None:
        self._store = store
        self._hooks = hooks
        self._url = url
        self._reports = reports
        self._chats = chats
        self._formats = formats

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted:
        """Call it once."""
        spec = action.spec
        if not isinstance(spec, WebhookAction):
            raise TypeError(f"{action.key} calls no hook")
        body = self._body(spec.hook, run, action)
        key = f"{self._store.instance}/{action.key}"
        told = self._hooks.call(spec.hook, key, action.trigger.value, body, spec.rule.timeout)
        return Acted(ActionState.DONE, f"{spec.hook} was told: {told}")

    def _body(self, hook: str, run: Run, action: Action) -> bytes:
        form = self._formats.get(hook)
        if form is None:
            return described(self._store, run, action, f"{self._url}/runs/{run.id}" if self._url else "")
        return self._chats.message(form, self._reports.build(run, trigger=action.trigger))

    def give_up(self, lease: Lease, error: str) -> None:
        """Nothing was begun that has to be told as failed."""
