"""Mail: a password never travels in the clear, and nobody adds a header or a recipient."""

from __future__ import annotations

import socket
import ssl
from email.message import EmailMessage
from pathlib import Path

import pytest

from orchestrator.adapters.smtp import SmtpMailer
from orchestrator.domain.errors import MailRejected
from tests.support.mailserver import PASSWORD, USER, mailbox, make_certificate

SENDER = "ML CI <ci@example.org>"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def message(to: str = "team@example.org") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, to, "news"
    mail.set_content("plain")
    return mail


@pytest.mark.parametrize("security", ["smtps", "smtp+starttls"])
def test_a_certificate_that_nobody_vouches_for_gets_no_password(
    security: str, certificate: tuple[Path, Path]
) -> None:
    with mailbox(security, certificate, login=True) as box:
        mailer = SmtpMailer(f"{security}://{USER}@{box.host}:{box.port}", PASSWORD, SENDER)
        with pytest.raises(MailRejected, match="certificate that is not trusted"):
            mailer.send(message())
        assert (box.logins, box.received) == ([], [])


def test_a_certificate_for_another_name_gets_no_password(certificate: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with mailbox("smtps", certificate, login=True) as box:
        mailer = SmtpMailer(f"smtps://{USER}@localhost:{box.port}", PASSWORD, SENDER, tls=trusting)
        with pytest.raises(MailRejected, match="certificate that is not trusted"):
            mailer.send(message())
        assert (box.logins, box.received) == ([], [])


def test_a_server_that_hides_starttls_gets_nothing() -> None:
    with mailbox("smtp", login=True) as box:
        mailer = SmtpMailer(f"smtp+starttls://{USER}@{box.host}:{box.port}", PASSWORD, SENDER)
        with pytest.raises(MailRejected, match="cannot do what is asked of it"):
            mailer.send(message())
        assert (box.logins, box.received) == ([], [])


def test_a_password_goes_unencrypted_to_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with mailbox("smtp", login=True) as box:
        SmtpMailer(f"smtp://{USER}@{box.host}:{box.port}", PASSWORD, SENDER).send(message())
        assert len(box.received) == 1

        elsewhere = socket.getaddrinfo(box.host, box.port, type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: elsewhere)
        mailer = SmtpMailer(f"smtp://{USER}@mail.example.org:{box.port}", PASSWORD, SENDER)
        with pytest.raises(MailRejected, match="would travel unencrypted; nothing was sent"):
            mailer.send(message())
        assert (len(box.received), len(box.logins)) == (1, 1)


def test_the_password_is_in_no_text_about_the_mailer() -> None:
    assert PASSWORD not in repr(SmtpMailer(f"smtps://{USER}@mail.example.org", PASSWORD, SENDER))


@pytest.mark.parametrize("address", ["ana", "@example.org", ""])
def test_a_recipient_that_is_no_address_is_refused(address: str) -> None:
    with mailbox() as box:
        with pytest.raises(MailRejected):
            SmtpMailer(f"smtp://{box.host}:{box.port}", None, SENDER).send(message(address))
        assert box.received == []


def test_a_header_with_a_line_break_cannot_be_made() -> None:
    with pytest.raises(ValueError, match=r"header|linefeed"):
        message("ana@example.org\r\nBcc: eve@example.org")
