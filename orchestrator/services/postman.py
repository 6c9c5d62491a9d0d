"""Sending mails that are owed: each at least once to everybody, and to nobody twice without need."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.utils import getaddresses

from orchestrator.domain.action import MAX_ACTION_TRIES
from orchestrator.domain.errors import LeaseLost, MailRejected, MailUnavailable
from orchestrator.domain.mailing import Delivery
from orchestrator.domain.run import backoff
from orchestrator.ports.records import Lease, OutboxMessage
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, Mailer
from orchestrator.services.mail_message import AS_WRITTEN

log = logging.getLogger(__name__)

_LONGEST_PAUSE = timedelta(minutes=5)


class Postman:
    """Sends what is in the outbox. One thread.

    A server that takes a mail for some recipients and puts others off is asked again for those alone. Where
    a process dies between handing a mail over and writing that down, it is sent again under its Message-ID.
    ``lease_seconds`` bound one try; ``wants`` says of which runs mails are sent.
    """

    def __init__(
        self,
        store: Store,
        mailer: Mailer,
        clock: Clock,
        owner: str,
        stopping: threading.Event,
        lease_seconds: float,
        wants: Callable[[int], bool] = lambda run_id: True,
    ) -> None:
        self._store = store
        self._mailer = mailer
        self._clock = clock
        self._owner = owner
        self._stopping = stopping
        self._lease_seconds = lease_seconds
        self._wants = wants

    def send_due(self) -> int:
        """Send the mails that are due now; how many were tried."""
        done = 0
        for mail in self._store.actions.outbox_due(self._clock.now()):
            if self._stopping.is_set():
                return done
            if mail.run_id is None or self._wants(mail.run_id):
                done += self._send(mail)
        return done

    def _send(self, mail: OutboxMessage) -> int:
        outbox = self._store.actions
        lease = outbox.outbox_claim(mail.id, self._owner, self._clock.now(), self._lease_seconds)
        if lease is None:
            return 0
        before = Delivery(mail.reached, mail.refused)
        settled = {*mail.reached, *(address for address, _ in mail.refused)}
        to = [address for address in _bare(mail.recipients) if address not in settled]
        try:
            message = message_from_bytes(mail.message, EmailMessage, policy=AS_WRITTEN)
            now = before.after(to, self._mailer.send(message, to))
            if now.waiting:
                self._later(lease, mail, now.told, now)
            elif now.reached:
                outbox.outbox_delivered(lease, self._clock.now(), now)
                log.info("mailed to %s: %s", ", ".join(now.reached), mail.subject)
            else:
                self._give_up(lease, mail, now.told, now)
        except MailUnavailable as error:
            self._later(lease, mail, str(error), before)
        except MailRejected as error:
            self._give_up(lease, mail, str(error), before)
        except LeaseLost as error:
            log.warning("mail '%s': %s", mail.subject, error)
        return 1

    def _later(self, lease: Lease, mail: OutboxMessage, error: str, so_far: Delivery) -> None:
        tries = mail.tries + 1
        if tries >= MAX_ACTION_TRIES["email"]:
            self._give_up(lease, mail, error, so_far)
            return
        later = self._clock.now() + min(backoff(tries), _LONGEST_PAUSE)
        log.warning("mail '%s': %s; next try at %s", mail.subject, error, later.isoformat())
        self._store.actions.outbox_postpone(lease, later, error, self._clock.now(), so_far)

    def _give_up(self, lease: Lease, mail: OutboxMessage, error: str, so_far: Delivery) -> None:
        log.error("mail '%s' to %s is given up: %s", mail.subject, ", ".join(mail.recipients), error)
        self._store.actions.outbox_give_up(lease, error, self._clock.now(), so_far)


def _bare(recipients: Sequence[str]) -> list[str]:
    """The addresses without names, each once."""
    return list(dict.fromkeys(address for _, address in getaddresses(list(recipients)) if address))
