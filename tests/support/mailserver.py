"""Real SMTP servers with encryption, logins and recipients of their own mind."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.network import free_port

USER, PASSWORD = "ci", "correct horse"


class Mailbox:
    """Keeps what arrives. ``refusals`` maps a recipient to the reply that it gets instead of acceptance."""

    def __init__(self, refusals: Mapping[str, str]) -> None:
        self.port = free_port()
        self.host = "127.0.0.1"
        self.refusals = refusals
        self.received: list[Envelope] = []
        self.encrypted: list[bool] = []
        self.logins: list[bytes] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        self.received.append(envelope)
        transport = server.transport
        self.encrypted.append(transport is not None and transport.get_extra_info("ssl_object") is not None)
        return "250 kept"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False)
        self.logins.append(data.login)
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False)


@contextmanager
def mailbox(
    security: str = "smtp",
    certificate: tuple[Path, Path] | None = None,
    login: bool = False,
    refusals: Mapping[str, str] | None = None,
) -> Iterator[Mailbox]:
    """A server for ``smtp``, ``smtp+starttls`` or ``smtps`` that asks for a login if told."""
    box = Mailbox(refusals or {})
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    controller = Controller(
        box,
        hostname=box.host,
        port=box.port,
        ssl_context=context if security == "smtps" else None,
        tls_context=context if security == "smtp+starttls" else None,
        require_starttls=security == "smtp+starttls",
        auth_require_tls=False,
        authenticator=box.authenticate if login else None,
        enable_SMTPUTF8=True,
    )
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    certificate, key = folder / "server.crt", folder / "server.key"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run(["openssl", "req", *options.split(), *names, *files], check=True, capture_output=True)
    return certificate, key
