"""A real SMTP server for the demo, which keeps what it receives as files."""

from __future__ import annotations

import email
import email.policy
import re
import socket
import threading
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass(frozen=True)
class Mail:
    """A mail that came in, and the file that holds it."""

    path: Path
    message: EmailMessage

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def run(self) -> str:
        """The run that it is about, as ``wine-quality #3``."""
        return str(self.message["X-MLCI-Run"])

    def text(self) -> str:
        """The plain body."""
        body = self.message.get_body(("plain",))
        return str(body.get_content()) if body is not None else ""


class Mailbox:
    """Listens on a free port of this machine. A context manager: leaving it stops listening."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mails: list[Mail] = []
        self._lock = threading.Lock()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    def __enter__(self) -> Mailbox:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._controller.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._controller.stop()

    @property
    def mails(self) -> list[Mail]:
        """What came in so far, oldest first."""
        with self._lock:
            return list(self._mails)

    def about(self, run: str) -> list[Mail]:
        """The mails about one run."""
        return [mail for mail in self.mails if mail.run == run]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Called by aiosmtpd, in its own thread, for each mail."""
        content = envelope.original_content or b""
        message = email.message_from_bytes(content, policy=email.policy.default)
        with self._lock:
            slug = re.sub(r"[^a-z0-9]+", "-", str(message["Subject"]).lower()).strip("-")[:60]
            path = self._folder / f"{len(self._mails) + 1:02}-{slug}.eml"
            path.write_bytes(content)
            self._mails.append(Mail(path, message))
        return "250 kept"
