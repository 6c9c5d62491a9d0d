"""Acting: owed actions are carried out at least once, each under its stable key; mails leave through the
outbox.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

from orchestrator.domain.action import (
    Action,
    ActionState,
    Trigger,
    is_due,
    most_tries,
    why_not_needed,
)
from orchestrator.domain.action_spec import ActionSpec, EmailAction
from orchestrator.domain.errors import (
    ActionUnavailable,
    DatasetUnavailable,
    LeaseLost,
    OrchestratorError,
    ServerUnavailable,
    Stopping,
    StoreError,
)
from orchestrator.domain.run import Run, backoff
from orchestrator.ports.records import Lease, OutboxMessage
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, Mailer, Renderer
from orchestrator.services.acting.act import Act, Waits
from orchestrator.services.mail_message import compose, is_address
from orchestrator.services.postman import Postman
from orchestrator.services.report import ReportBuilder

log = logging.getLogger(__name__)

LEASE_SECONDS = 120.0
_HEARTBEAT = 30.0
_LONGEST_PAUSE = timedelta(hours=1)


class Actor:
    """Carries out actions, in several threads if need be, and sends mails, in one."""

    def __init__(
        self,
        store: Store,
        acts: Mapping[str, Act],
        reports: ReportBuilder,
        renderer: Renderer,
        mailer: Mailer | None,
        clock: Clock,
        owner: str,
        domain: str,
        stopping: threading.Event,
        wants: Callable[[int], bool] = lambda run_id: True,
    ) -> None:
        self._store = store
        self._acts = acts
        self._reports = reports
        self._renderer = renderer
        self._mailer = mailer
        self._clock = clock
        self._owner = owner
        self._domain = domain
        self._stopping = stopping
        self._wants = wants
        self._postman = (
            None if mailer is None else Postman(store, mailer, clock, owner, stopping, LEASE_SECONDS, wants)
        )

    def tick(self) -> int:
        """Carry out and send what is due now; how much that was."""
        return self.carry_out_due() + self.send_due()

    def carry_out_due(self) -> int:
        """Carry out the actions that are due now; how many that were."""
        return sum(self.carry_out(action) for action in self.due())

    def due(self) -> Iterator[Action]:
        """The actions that are due now, oldest first; each is looked at when it is asked for."""
        for action in self._store.actions.pending(self._clock.now()):
            if self._stopping.is_set():
                return
            if not self._wants(action.run_id):
                continue
            siblings = self._store.actions.of_run(action.run_id)
            if action.state is ActionState.RUNNING or is_due(action, siblings, self._clock.now()):
                yield action

    def send_due(self) -> int:
        """Send the mails that are due now; how many that were."""
        return self._postman.send_due() if self._postman is not None else 0

    def carry_out(self, action: Action) -> int:
        """One try of an action, in any thread; 0 when somebody else was faster."""
        lease = self._store.actions.claim(action.id, self._owner, self._clock.now(), LEASE_SECONDS)
        if lease is None:
            return 0
        with _KeptAlive(lease, self._store, self._clock) as kept:
            try:
                try:
                    self._dispatch(kept, self._store.actions.get(action.id))
                except Stopping as error:
                    # No try of its own: an orchestrator that is started anew often gives nothing up by that.
                    now = self._clock.now()
                    self._store.actions.wait(kept.lease, now, str(error), now)
            except LeaseLost as error:
                log.warning("action %s: %s", action.key, error)
        return 1

    def _dispatch(self, kept: _KeptAlive, action: Action) -> None:
        run = self._store.runs.get(action.run_id)
        now = self._clock.now
        most = most_tries(action.spec)
        if action.tries > most:
            # Postponing stops at the limit by itself: here, servers died in the middle of it again and again.
            self._give_up_action(kept.lease, action, f"{most} tries began and none came to an end")
            return
        unmet = why_not_needed(action, self._store.actions.of_run(run.id)) if action.spec.rule.needs else ""
        if action.trigger is Trigger.PROGRESS and run.state.final:
            unmet = "the run has ended meanwhile"
        if unmet:
            self._store.actions.finish(kept.lease, ActionState.SKIPPED, unmet, now())
            return
        try:
            if isinstance(action.spec, EmailAction):
                mail, message = self._mail(action, run, action.spec)
                if mail is None:
                    self._store.actions.finish(kept.lease, ActionState.SKIPPED, message, now())
                else:
                    self._store.actions.finish_with_mail(kept.lease, mail, message, now())
                return
            acted = self._acts[action.spec.kind].carry_out(kept.lease, run, action)
            if isinstance(acted, Waits):
                later = now() + timedelta(seconds=acted.seconds)
                self._store.actions.wait(kept.lease, later, acted.why, now())
                return
            if acted.output:
                self._store.actions.said(kept.lease, acted.output, now())
            self._store.actions.finish(kept.lease, acted.state, acted.message, now())
        except (StoreError, Stopping):
            raise
        except OrchestratorError as error:
            retry = isinstance(error, ActionUnavailable | ServerUnavailable | DatasetUnavailable)
            if retry and action.tries < most:
                later = now() + pause_after(action.spec, action.tries)
                log.warning("action %s: %s; next try at %s", action.key, error, later.isoformat())
                self._store.actions.postpone(kept.lease, later, str(error), now())
                return
            self._give_up_action(kept.lease, action, str(error))

    def _give_up_action(self, lease: Lease, action: Action, error: str) -> None:
        if action.spec.kind in self._acts:
            self._acts[action.spec.kind].give_up(lease, error)
        log.error("action %s given up: %s", action.key, error)
        self._store.actions.finish(lease, ActionState.FAILED, error, self._clock.now())

    def _mail(self, action: Action, run: Run, spec: EmailAction) -> tuple[OutboxMessage | None, str]:
        if self._mailer is None:
            return None, "no mail server is configured (email: in orchestrator.yaml)"
        author = run.change.revision.author_email
        known = author if author and is_address(author) else ""
        recipients = tuple(dict.fromkeys(a for a in (known if t == "author" else t for t in spec.to) if a))
        if not recipients:
            return None, f"nobody to mail: the commit's author has no usable address ({author or 'none'})"
        report = self._reports.build(
            run,
            trigger=action.trigger,
            pictured=True,
        )
        rendered = self._renderer.render(report)
        message_id = f"<{action.key}.{self._store.instance}@{self._domain}>"
        message = compose(
            rendered,
            run=run,
            sender=self._mailer.sender,
            recipients=recipients,
            message_id=message_id,
            now=self._clock.now(),
        )
        mail = OutboxMessage(
            0, action.id, run.id, message_id, recipients, rendered.subject, message.as_bytes(), "pending"
        )
        told = f"mail to {', '.join(recipients)}: {rendered.subject}"
        return mail, f"{told}; {rendered.trouble}" if rendered.trouble else told


class _KeptAlive:
    """Extends an action's lease from a thread of its own while a long act goes on."""

    def __init__(self, lease: Lease, store: Store, clock: Clock) -> None:
        self.lease = lease
        self._store = store
        self._clock = clock
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"action-{lease.id}-lease", daemon=True)

    def __enter__(self) -> _KeptAlive:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT):
            try:
                self._store.actions.heartbeat(self.lease, self._clock.now(), LEASE_SECONDS)
            except LeaseLost:
                return
            except StoreError as error:
                log.warning("action %d: lease not extended: %s", self.lease.id, error)


def pause_after(spec: ActionSpec, tries: int) -> timedelta:
    """How long to wait after that many tries: as its rule says, doubled each time, else as for all."""
    if not spec.rule.pause:
        return backoff(tries)
    return min(timedelta(seconds=spec.rule.pause) * (1 << min(max(tries, 1) - 1, 10)), _LONGEST_PAUSE)
