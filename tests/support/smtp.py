"""A real SMTP server that keeps what it receives."""

import email
import email.policy
import threading
from dataclasses import dataclass
from email.message import EmailMessage

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.network import free_port


@dataclass(frozen=True)
class ReceivedMail:
    """One delivered mail: the envelope, and the message as parsed."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    def body(self, kind: str = "html") -> str:
        """The text of the ``html`` or the ``plain`` body; the mail has to have one."""
        part = self.message.get_body((kind,))
        if part is None:
            raise AssertionError(f"the mail '{self.subject}' has no {kind} body")
        return str(part.get_content())


class SmtpServer:
    """Listens on one port of 127.0.0.1. It can be stopped and started again, and told to refuse mails."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self._arrived = threading.Condition()
        self._messages: list[ReceivedMail] = []
        self._refusal: str | None = None
        self._controller: Controller | None = None

    @property
    def messages(self) -> list[ReceivedMail]:
        """What has arrived so far, oldest first."""
        with self._arrived:
            return list(self._messages)

    def start(self) -> None:
        """Listen; returns once connections are accepted."""
        self._controller = Controller(self, hostname=self.host, port=self.port)
        self._controller.start()

    def stop(self) -> None:
        """Refuse connections from now on. Stopping twice is fine."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def refuse_with(self, reply: str | None) -> None:
        """Answer each mail with ``reply``, e.g. ``451 try again later``; None accepts mails again."""
        self._refusal = reply

    def wait_for(self, count: int, seconds: float = 10.0) -> list[ReceivedMail]:
        """Return the mails once ``count`` of them are there; fail the test when they do not come."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._messages) >= count, timeout=seconds):
                raise AssertionError(f"waited {seconds:g} s for {count} mails, {len(self._messages)} came")
            return list(self._messages)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Called by aiosmtpd, in its own thread, for each mail."""
        if self._refusal is not None:
            return self._refusal
        content = envelope.content
        if not isinstance(content, bytes):
            raise TypeError("aiosmtpd was told to decode mails; it hands over bytes by default")
        message = email.message_from_bytes(content, policy=email.policy.default)
        if not isinstance(message, EmailMessage):
            raise TypeError("the default policy makes EmailMessage")
        with self._arrived:
            self._messages.append(ReceivedMail(envelope.mail_from or "", tuple(envelope.rcpt_tos), message))
            self._arrived.notify_all()
        return "250 kept"
